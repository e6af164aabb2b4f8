"""C3, C6, G7: what is only seen when a station's studies are held against the archive's."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from dicom_ai_node.archive.member import ArchiveRule, Member, grouped
from dicom_ai_node.archive.statistics import benjamini_hochberg, hypergeometric_tail
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.rules.calendar_dates import write_date
from dicom_ai_node.rules.rule import Hit, by_id, shown
from dicom_ai_node.types import AttributeStatus, Severity

ORIGINS: Mapping[str, str] = {
    "station": "StationName",
    "manufacturer": "Manufacturer",
    "model": "ManufacturerModelName",
    "software": "SoftwareVersions",
}
"""What studies are grouped by, and the attribute that says it."""


@dataclass(frozen=True, slots=True)
class Group:
    """The studies of one station, manufacturer, model or software version."""

    by: str
    name: str
    members: Sequence[Member]
    chance: float
    """Probability of as many flagged studies if the group were like the rest of the archive."""
    unusual: bool = False


def groups_of(members: Sequence[Member], settings: RulesSettings) -> list[Group]:
    """Groups that are large enough to be judged, each against the rest of the archive (G7)."""
    read = [member for member in members if member.headers]
    judged = [
        Group(by, name, own, _chance(own, read))
        for by, keyword in ORIGINS.items()
        for name, own in sorted(_by_value(read, keyword).items())
        if settings.group_minimum <= len(own) < len(read)
    ]
    found = benjamini_hochberg([one.chance for one in judged], settings.group_false_discovery_rate)
    candidates = [one for one, unusual in zip(judged, found, strict=True) if unusual]
    own_fault = _not_by_a_part(candidates, read)
    return [replace(one, unusual=(one.by, one.name) in own_fault) for one in judged]


def _not_by_a_part(groups: Sequence[Group], read: Sequence[Member]) -> set[tuple[str, str]]:
    """Those of ``groups`` that are unusual without the ones that are more so.

    Else one console made its manufacturer unusual. A group that is most of such a console's studies
    under another name stays.
    """
    limit = max((one.chance for one in groups), default=0.0)
    kept: set[tuple[str, str]] = set()
    explained: set[str] = set()
    for group in sorted(groups, key=lambda one: one.chance):
        own = [one for one in group.members if one.key not in explained]
        rest = [one for one in read if one.key not in explained]
        if 2 * len(own) > len(group.members) and _chance(own, rest) > limit:
            continue
        kept.add((group.by, group.name))
        explained.update(one.key for one in own)
    return kept


def _chance(own: Sequence[Member], read: Sequence[Member]) -> float:
    flagged = [sum(one.check.flagged for one in some) for some in (own, read)]
    return hypergeometric_tail(flagged[0], len(own), flagged[1], len(read))


def _by_value(members: Sequence[Member], keyword: str) -> Mapping[str, Sequence[Member]]:
    return grouped(members, lambda one: one.usual(keyword))


def _misconfigured(
    members: Sequence[Member], settings: RulesSettings
) -> Iterator[tuple[Member, Hit]]:
    found = sorted(
        (one for one in groups_of(members, settings) if one.unusual), key=lambda one: one.chance
    )
    told: set[str] = set()
    for group in found:  # The least like the rest first: it explains the groups that it is part of.
        flagged = [one for one in group.members if one.check.flagged]
        for member in flagged:
            if member.key not in told:
                told.add(member.key)
                yield (
                    member,
                    Hit(
                        f"{len(flagged)} of {len(group.members)} studies of {group.by} "
                        f"{shown(group.name)} are flagged, more than elsewhere"
                    ),
                )


def _spikes(members: Sequence[Member], settings: RulesSettings) -> Iterator[tuple[Member, Hit]]:
    aged = [one for one in members if not one.check.exempt and one.usual("PatientAge")]
    stations = grouped(aged, lambda one: one.usual("StationName"))
    tests = max(1, len(stations) * len(settings.spike_ages))
    for age in settings.spike_ages:
        having = {one.key for one in aged if one.usual("PatientAge") == age and not _confirmed(one)}
        for station, own in stations.items():
            spike = [one for one in own if one.key in having]
            if len(spike) < settings.spike_minimum:
                continue
            chance = hypergeometric_tail(len(spike), len(own), len(having), len(aged))
            if chance * tests < settings.spike_chance:  # Bonferroni: any spike at all is an error.
                for one in spike:
                    yield (
                        one,
                        Hit(
                            f"PatientAge {age} in {len(spike)} of {len(own)} studies of station "
                            f"{shown(station)}, in {len(having) - len(spike)} of "
                            f"{len(aged) - len(own)} elsewhere"
                        ),
                    )


def _confirmed(member: Member) -> bool:
    """Whether the dates say the same as PatientAge: a children's ward has many of one year."""
    recorded = member.check.recorded
    return (
        recorded.age_years is not None
        and recorded.birth_date_age is not None
        and abs(recorded.age_years - recorded.birth_date_age) < 2
    )


def _shared_birth_dates(
    members: Sequence[Member], settings: RulesSettings
) -> Iterator[tuple[Member, Hit]]:
    def place(one: Member) -> tuple[str, ...]:
        day = write_date(one.day) if one.day else ""
        return (one.usual("StationName"), day, one.usual("PatientBirthDate"))

    real = [one for one in members if one.patient and not one.check.exempt]
    for (station, _, birth), own in grouped(real, place).items():
        count = len({one.patient for one in own})
        if count > settings.same_birth_date_patients:
            for one in own:
                yield (
                    one,
                    Hit(
                        f"PatientBirthDate {shown(birth)} of {count} patients of station "
                        f"{shown(station)} on one day"
                    ),
                )


RULES = by_id(
    ArchiveRule(
        "C3",
        Severity.WARNING,
        "age",
        "PatientAge is one that consoles fill in, and the station has it too often",
        _spikes,
        status=AttributeStatus.IMPLAUSIBLE,
        tunables=("spike_ages", "spike_minimum", "spike_chance"),
    ),
    ArchiveRule(
        "C6",
        Severity.INFORMATION,
        "dates",
        "More patients of a station have the same birth date on a day than is likely",
        _shared_birth_dates,
        tunables=("same_birth_date_patients",),
    ),
    ArchiveRule(
        "G7",
        Severity.INFORMATION,
        "identity",
        "A flagged study of a station, manufacturer, model or software version with many of them",
        _misconfigured,
        tunables=("group_minimum", "group_false_discovery_rate"),
    ),
)
