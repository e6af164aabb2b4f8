"""The rules over an archive: every study is held against all others.

``audit_archive`` answers what headers alone can say; ``judge_groups`` comes last, because a defect
rate counts what images contradict too. Pure, and independent of the order of the studies.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from types import MappingProxyType

from dicom_ai_node.archive import identities, listing, stations
from dicom_ai_node.archive.member import ArchiveRule, Collected, Member, patients
from dicom_ai_node.archive.stations import StationGroup, groups_of
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.rules.check import RULES, Fired, amended, check
from dicom_ai_node.rules.header import TextHeader, distinct
from dicom_ai_node.rules.image_rules import IMAGE_RULES
from dicom_ai_node.rules.rule import Entry, rules_in
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
    collected: Sequence[Collected], *, settings: RulesSettings, today: date
) -> tuple[Member, ...]:
    """Every study with what its header, its patient's others and the archive say, by key.

    Keys are unique. Never raises for what headers contain.
    """
    studies = sorted(collected, key=lambda study: study.key)
    headers = {study.key: distinct(study.facts.headers) if study.facts else () for study in studies}
    limits = {study.key: _rules_for(study, headers[study.key], settings) for study in studies}
    names = patients(headers)
    alone = [
        Member(
            key=study.key,
            study_instance_uid=study.facts.study_instance_uid if study.facts else None,
            headers=headers[study.key],
            listed=study.facts.listed if study.facts and study.facts.from_files else None,
            patient=names[study.key],
            check=check(headers[study.key], settings=limits[study.key], today=today),
            fault=study.fault,
            expected=study.expected,
            arrived=study.arrived,
        )
        for study in studies
    ]
    histories: dict[str, list[PriorStudy]] = {}
    for member in alone:
        history = member.history
        if history is not None:
            histories.setdefault(member.patient, []).append(history)
    known = {patient: _bounded(histories[patient]) for patient in histories}
    linked = [
        _with_others(member, known[member.patient], limits[member.key], today)
        if member.history
        else member
        for member in alone
    ]
    rules = [rule for rule in ARCHIVE_RULES.values() if rule.id != _LAST]
    return _checked(linked, rules, settings)


def judge_groups(
    members: Sequence[Member], settings: RulesSettings
) -> tuple[tuple[Member, ...], Sequence[StationGroup]]:
    """The studies with findings of G7, and the groups that were judged."""
    if _LAST in settings.disabled:
        return tuple(members), []
    return _checked(members, [ARCHIVE_RULES[_LAST]], settings), groups_of(members, settings)


def _rules_for(
    study: Collected, headers: Sequence[TextHeader], settings: RulesSettings
) -> RulesSettings:
    """The rules for what is at hand: an attribute that a query's answer lacks the file may have.

    PatientAge is no key that an archive has to return (PS3.4 C.6.2.1); an empty PatientSex or
    birth date in an answer that has the key is one.
    """
    if study.facts is None or study.facts.from_files:
        return settings
    unseen = {"B1", "B3", "B5"}
    for rule, keyword in (("B2", "PatientSex"), ("B4", "PatientBirthDate"), ("B6", "StudyDate")):
        if not any(keyword in header for header in headers):
            unseen.add(rule)
    return settings.model_copy(update={"disabled": (*settings.disabled, *sorted(unseen))})


def _with_others(
    member: Member, known: Sequence[PriorStudy], settings: RulesSettings, today: date
) -> Member:
    priors = [prior for prior in known if prior.study_instance_uid != member.key]
    if not priors:
        return member
    checked = check(member.headers, priors=priors, settings=settings, today=today)
    return member.with_check(checked)


def _bounded(histories: Sequence[PriorStudy]) -> Sequence[PriorStudy]:
    if len(histories) <= _MOST_PRIORS:
        return histories
    kinds = {(prior.sex, prior.birth_date): prior for prior in reversed(histories)}
    return [kinds[kind] for kind in sorted(kinds)][:_MOST_PRIORS]


def _checked(
    members: Sequence[Member], rules: Sequence[ArchiveRule], settings: RulesSettings
) -> tuple[Member, ...]:
    """The members with what ``rules`` find, all of which see the same checks."""
    fired: dict[str, list[Fired]] = {}
    for rule in rules:
        if rule.id not in settings.disabled:
            for member, hit in rule.check(members, settings):
                fired.setdefault(member.key, []).append((rule, hit))
    return tuple(
        member.with_check(amended(member.check, fired[member.key]))
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
