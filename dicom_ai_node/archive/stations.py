"""C3, C6, G7: what is only seen when a station's studies are held against the archive's."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import methodcaller

from dicom_ai_node.archive.member import Member, grouped
from dicom_ai_node.archive.statistics import benjamini_hochberg, hypergeometric_tail
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.rules.ages_and_dates import write_date
from dicom_ai_node.rules.reading import shown
from dicom_ai_node.rules.rule import IMPLAUSIBLE, INFORMATION, WARNING, Hit, rule

ORIGINS: Mapping[str, str] = {
    "station": "StationName",
    "manufacturer": "Manufacturer",
    "model": "ManufacturerModelName",
    "software": "SoftwareVersions",
}
"""What studies are grouped by, and the attribute that says it."""


@dataclass(frozen=True, slots=True)
class StationGroup:
    """The studies of one station, manufacturer, model or software version."""

    by: str
    name: str
    members: Sequence[Member]
    p_value: float
    """Probability of as many flagged studies if the group were like the rest of the archive."""
    unusual: bool = False


def groups_of(members: Sequence[Member], settings: RulesSettings) -> list[StationGroup]:
    """Groups that are large enough to be judged, each against the rest of the archive (G7)."""
    read = [member for member in members if member.headers]
    judged = [
        StationGroup(by, name, inside, _p_value(inside, read))
        for by, keyword in ORIGINS.items()
        for name, inside in sorted(grouped(read, methodcaller("usual", keyword)).items())
        if settings.group_minimum <= len(inside) < len(read)
    ]
    p_values = [group.p_value for group in judged]
    found = benjamini_hochberg(p_values, settings.group_false_discovery_rate)
    candidates = [group for group, unusual in zip(judged, found, strict=True) if unusual]
    unexplained = _unexplained(candidates, read)
    return [replace(group, unusual=(group.by, group.name) in unexplained) for group in judged]


def _unexplained(groups: Sequence[StationGroup], read: Sequence[Member]) -> set[tuple[str, str]]:
    """Those of ``groups`` that are unusual without the ones that are more so.

    Else one console made its manufacturer unusual. A group that is most of such a console's studies
    under another name stays.
    """
    limit = max((group.p_value for group in groups), default=0.0)
    unexplained: set[tuple[str, str]] = set()
    explained: set[str] = set()
    for group in sorted(groups, key=lambda group: group.p_value):
        inside = [member for member in group.members if member.key not in explained]
        rest = [member for member in read if member.key not in explained]
        if 2 * len(inside) > len(group.members) and _p_value(inside, rest) > limit:
            continue
        unexplained.add((group.by, group.name))
        explained.update(member.key for member in inside)
    return unexplained


def _p_value(inside: Sequence[Member], read: Sequence[Member]) -> float:
    flagged = [sum(member.check.flagged for member in members) for members in (inside, read)]
    return hypergeometric_tail(flagged[0], len(inside), flagged[1], len(read))


@rule(
    "G7",
    INFORMATION,
    "identity",
    "A flagged study of a station, manufacturer, model or software version with many of them",
)
def _misconfigured(
    members: Sequence[Member], settings: RulesSettings
) -> Iterator[tuple[Member, Hit]]:
    unusual = [group for group in groups_of(members, settings) if group.unusual]
    explained: set[str] = set()
    # The least like the rest first: it explains the groups that it is part of.
    for group in sorted(unusual, key=lambda group: group.p_value):
        flagged = [member for member in group.members if member.check.flagged]
        text = (
            f"{len(flagged)} of {len(group.members)} studies of {group.by} "
            f"{shown(group.name)} are flagged, more than elsewhere"
        )
        yield from ((member, Hit(text)) for member in flagged if member.key not in explained)
        explained.update(member.key for member in flagged)


@rule(
    "C3",
    WARNING,
    "age",
    "PatientAge is one that consoles fill in, and the station has it too often",
    status=IMPLAUSIBLE,
)
def _spikes(members: Sequence[Member], settings: RulesSettings) -> Iterator[tuple[Member, Hit]]:
    aged = [study for study in members if not study.check.exempt and study.usual("PatientAge")]
    stations = grouped(aged, lambda study: study.usual("StationName"))
    tests = max(1, len(stations) * len(settings.spike_ages))
    for age in settings.spike_ages:
        having = {
            study.key
            for study in aged
            if study.usual("PatientAge") == age and not _confirmed_by_dates(study)
        }
        for station, studies in stations.items():
            spike = [study for study in studies if study.key in having]
            if len(spike) < settings.spike_minimum:
                continue
            p_value = hypergeometric_tail(len(spike), len(studies), len(having), len(aged))
            # Bonferroni: any spike at all is an error.
            if p_value * tests < settings.spike_chance:
                text = (
                    f"PatientAge {age} in {len(spike)} of {len(studies)} studies of station "
                    f"{shown(station)}, in {len(having) - len(spike)} of "
                    f"{len(aged) - len(studies)} elsewhere"
                )
                yield from ((study, Hit(text)) for study in spike)


def _confirmed_by_dates(member: Member) -> bool:
    """Whether the dates say the same as PatientAge: a children's ward has many of one year."""
    recorded, implied = member.check.attributes["PatientAge"].number, member.check.birth_date_age
    return recorded is not None and implied is not None and abs(recorded - implied) < 2


@rule(
    "C6",
    INFORMATION,
    "dates",
    "More patients of a station have the same birth date on a day than is likely",
)
def _shared_birth_dates(
    members: Sequence[Member], settings: RulesSettings
) -> Iterator[tuple[Member, Hit]]:
    def place(study: Member) -> tuple[str, ...]:
        day = write_date(study.day) if study.day else ""
        return (study.usual("StationName"), day, study.usual("PatientBirthDate"))

    of_patients = [study for study in members if study.patient and not study.check.exempt]
    for (station, _, birth), studies in grouped(of_patients, place).items():
        count = len({study.patient for study in studies})
        if count > settings.same_birth_date_patients:
            text = (
                f"PatientBirthDate {shown(birth)} of {count} patients of station "
                f"{shown(station)} on one day"
            )
            yield from ((study, Hit(text)) for study in studies)
