"""The rules over an archive: every study is held against all others.

``audit_archive`` answers what headers alone can say; ``judge_groups`` comes last, because a defect
rate counts what images contradict too. Pure, and independent of the order of the studies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from types import MappingProxyType

from dicom_ai_node.archive import identities, listing, stations
from dicom_ai_node.archive.member import ArchiveRule, Collected, Member, patients
from dicom_ai_node.archive.stations import StationGroup, groups_of
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.rules.attributes import ATTRIBUTES, Attribute
from dicom_ai_node.rules.check import RULES, Fired, amended, check
from dicom_ai_node.rules.image_rules import IMAGE_RULES
from dicom_ai_node.rules.rule import Entry, rules_in
from dicom_ai_node.rules.text_header import TextHeader, distinct
from dicom_ai_node.types import PriorStudy

ARCHIVE_RULES: Mapping[str, ArchiveRule] = MappingProxyType(rules_in(stations, identities, listing))
"""What needs an archive and not a study."""

ALL_RULES: Mapping[str, Entry] = MappingProxyType({**RULES, **ARCHIVE_RULES, **IMAGE_RULES})
"""What a study's header, the archive and the image can say, in the order of the document."""

# A defect rate counts what the other rules and the images say.
_LAST = "G7"
# Against so many others a PatientID is nobody's, and one of each kind of study says as much.
_MOST_PRIORS = 300


def audit_archive(
    collected: Sequence[Collected],
    *,
    settings: RulesSettings,
    today: date,
    attributes: Mapping[str, Attribute] = ATTRIBUTES,
) -> tuple[Member, ...]:
    """Every study with what its header, its patient's others and the archive say, by key.

    Keys are unique. Never raises for what headers contain.
    """
    members = checked_with_others(collected, settings=settings, today=today, attributes=attributes)
    rules = [rule for rule in ARCHIVE_RULES.values() if rule.id != _LAST]
    return _checked(members, rules, settings, attributes)


def checked_with_others(
    collected: Sequence[Collected],
    *,
    settings: RulesSettings,
    today: date,
    attributes: Mapping[str, Attribute] = ATTRIBUTES,
) -> tuple[Member, ...]:
    """Every study, checked against the other studies of its patient, by key."""
    studies = sorted(collected, key=lambda study: study.key)
    headers = {study.key: distinct(study.facts.headers) if study.facts else () for study in studies}
    names = patients(headers)
    checks = {
        study.key: partial(
            check,
            headers[study.key],
            settings=_rules_for(study, headers[study.key], settings),
            today=today,
            attributes=attributes,
        )
        for study in studies
    }
    members = [
        Member(study, checks[study.key](), headers[study.key], names[study.key])
        for study in studies
    ]
    histories: dict[str, list[PriorStudy]] = {}
    for member in members:
        if history := member.history:
            histories.setdefault(member.patient, []).append(history)
    known = {patient: _bounded(of_patient) for patient, of_patient in histories.items()}
    linked = []
    for member in members:
        priors = known[member.patient] if member.history else ()
        others = [prior for prior in priors if prior.study_instance_uid != member.key]
        linked.append(
            replace(member, check=checks[member.key](priors=others)) if others else member
        )
    return tuple(linked)


def judge_groups(
    members: Sequence[Member],
    settings: RulesSettings,
    attributes: Mapping[str, Attribute] = ATTRIBUTES,
) -> tuple[tuple[Member, ...], Sequence[StationGroup]]:
    """The studies with findings of G7, and the groups that were judged."""
    if _LAST in settings.disabled:
        return tuple(members), []
    judged = _checked(members, [ARCHIVE_RULES[_LAST]], settings, attributes)
    return judged, groups_of(members, settings)


def for_listing(settings: RulesSettings) -> RulesSettings:
    """The rules for a study of which only the listing is known: it tells of no series.

    Were BodyPartExamined missing there, every study would be one to be looked at.
    """
    return settings.model_copy(update={"disabled": (*settings.disabled, "J1", "J4")})


def _rules_for(
    study: Collected, headers: Sequence[TextHeader], settings: RulesSettings
) -> RulesSettings:
    """The rules for what is at hand: an attribute that a query's answer lacks the file may have.

    PatientAge is no key that an archive has to return (PS3.4 C.6.2.1), and BodyPartExamined none of
    a study; an empty PatientSex or birth date in an answer that has the key is one.
    """
    if study.facts is None or study.facts.from_files:
        return settings
    unseen = {"B1", "B3", "B5"}
    for rule, keyword in (("B2", "PatientSex"), ("B4", "PatientBirthDate"), ("B6", "StudyDate")):
        if not any(keyword in header for header in headers):
            unseen.add(rule)
    seen = for_listing(settings)
    return seen.model_copy(update={"disabled": (*seen.disabled, *sorted(unseen))})


def _bounded(histories: Sequence[PriorStudy]) -> Sequence[PriorStudy]:
    if len(histories) <= _MOST_PRIORS:
        return histories
    kinds = {(prior.sex, prior.birth_date): prior for prior in reversed(histories)}
    return [kinds[kind] for kind in sorted(kinds)][:_MOST_PRIORS]


def _checked(
    members: Sequence[Member],
    rules: Sequence[ArchiveRule],
    settings: RulesSettings,
    attributes: Mapping[str, Attribute],
) -> tuple[Member, ...]:
    """The members with what ``rules`` find, all of which see the same checks."""
    fired: dict[str, list[Fired]] = {}
    for rule in rules:
        if rule.id not in settings.disabled:
            for member, hit in rule.check(members, settings):
                fired.setdefault(member.key, []).append((rule, hit))
    return tuple(
        replace(member, check=amended(member.check, fired[member.key], attributes))
        if member.key in fired
        else member
        for member in members
    )


def markdown_table() -> str:
    """The rules as the table in docs/header-rules.md."""
    lines = ["| id | severity | about | fires when | settings |", "|---|---|---|---|---|"]
    for rule in ALL_RULES.values():
        settings = ", ".join(f"`{name}`" for name in rule.tunables)
        lines.append(
            f"| {rule.id} | {rule.severity} | {rule.attribute} | {rule.reason} | {settings} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown_table())
