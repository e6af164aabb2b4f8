"""Runs the rules over a study and sums up what they say of its age and its sex.

The status of an attribute, the first that applies:

1. NOT_ASSESSED where the study is exempt: a veterinary patient (F4), a phantom or an image of
   quality control (C7). Sex also where PatientSex is 'O' or sex parameters for clinical use are
   given (F6), or the worklist says 'O' (G6).
2. MALFORMED, MISSING, IMPLAUSIBLE, CONFLICT_HEADER, in this order, where a rule says so.
3. NOT_ASSESSED where there is no usable value and the rule that would say so is disabled.
4. CONSISTENT. A de-identified '90 or over' is that too, with ``censored_age`` set (E8).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date
from typing import TypeVar

from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.rules.coherence import animal
from dicom_ai_node.rules.header import Header, distinct
from dicom_ai_node.rules.meaning import sex_meant, years_meant
from dicom_ai_node.rules.placeholders import quality_control, test_name
from dicom_ai_node.rules.proposals import propose_age, propose_sex
from dicom_ai_node.rules.reading import Reading
from dicom_ai_node.rules.registry import RULES
from dicom_ai_node.rules.rule import Case, Entry, Hit
from dicom_ai_node.types import (
    AttributeStatus,
    Finding,
    HeaderCheck,
    PriorStudy,
    Proposal,
    Recorded,
    WorklistAnswer,
)

_PRECEDENCE = (
    AttributeStatus.MALFORMED,
    AttributeStatus.MISSING,
    AttributeStatus.IMPLAUSIBLE,
    AttributeStatus.CONFLICT_HEADER,
)
_LACKING = _PRECEDENCE[:3]
# A study of a thousand instances that all differ must not make a thousand lines.
_MOST_PER_RULE = 4

_Value = TypeVar("_Value", str, float)
Fired = tuple[Entry, Hit]


def check(
    headers: Sequence[Header],
    *,
    priors: Sequence[PriorStudy] = (),
    worklist: WorklistAnswer | None = None,
    settings: RulesSettings,
    today: date,
) -> HeaderCheck:
    """Answer for one study, given the headers of its instances in any order.

    ``priors`` are the other studies of the same PatientID, ``worklist`` is what a worklist says of
    the patient. Never raises for what headers contain.
    """
    readings = [Reading.of(header, settings, today) for header in headers]
    case = Case(
        readings=tuple(Reading.of(header, settings, today) for header in distinct(headers)),
        priors=tuple(sorted(set(priors), key=repr)),
        recorded=_recorded(readings, settings),
        settings=settings,
        today=today,
        worklist=worklist,
    )
    fired = tuple(_fired(case)) if headers else ()
    exempt = _exempt(case)
    age, age_rule = _status("age", fired)
    sex, sex_rule = _status("sex", fired)
    if exempt or (age is None and case.recorded.age_years is None):
        age = AttributeStatus.NOT_ASSESSED
    if exempt or case.sex_respected or (sex is None and case.recorded.sex not in {"M", "F"}):
        sex = AttributeStatus.NOT_ASSESSED
    proposals = [
        *(propose_age(case, age_rule, lacking=age in _LACKING) if _open(age) else ()),
        *(propose_sex(case, sex_rule, lacking=sex in _LACKING) if _open(sex) else ()),
    ]
    meant_age = meant_sex = None
    if age is AttributeStatus.MALFORMED and not _doubted("age", fired):
        meant_age = years_meant(case.readings)
    if sex is AttributeStatus.MALFORMED and not _doubted("sex", fired):
        meant_sex = sex_meant(case.readings)
    return HeaderCheck(
        recorded=case.recorded,
        age=age or AttributeStatus.CONSISTENT,
        sex=sex or AttributeStatus.CONSISTENT,
        findings=tuple(_finding(rule, hit) for rule, hit in fired),
        proposals=_worth_making(proposals, case),
        exempt=exempt,
        censored_age=any(
            reading.censored_age and str(reading.age) == case.recorded.age for reading in readings
        ),
        meant_age=meant_age,
        meant_sex=meant_sex or "",
    )


def amended(checked: HeaderCheck, fired: Sequence[Fired]) -> HeaderCheck:
    """The check of a study with what was found when it was held against others.

    A status gives way to one that comes before it in the order above; NOT_ASSESSED never does.
    """
    return replace(
        checked,
        age=_before(checked.age, _status("age", fired)[0]),
        sex=_before(checked.sex, _status("sex", fired)[0]),
        findings=(*checked.findings, *(_finding(rule, hit) for rule, hit in fired)),
        meant_age=None if _doubted("age", fired) else checked.meant_age,
        meant_sex="" if _doubted("sex", fired) else checked.meant_sex,
    )


def _before(now: AttributeStatus, other: AttributeStatus | None) -> AttributeStatus:
    if other is None or now is AttributeStatus.NOT_ASSESSED:
        return now
    return next(status for status in (*_PRECEDENCE, now) if status in {now, other})


def _recorded(readings: Sequence[Reading], settings: RulesSettings) -> Recorded:
    """Age and sex of the study: of what its instances say, what is usable, then what is usual."""
    years = {
        str(reading.age): reading.age.years
        for reading in readings
        if reading.age is not None and not reading.placeholder_age
    }
    age = _usual((reading.header.clean("PatientAge") for reading in readings), years.__contains__)
    sex = _usual((reading.sex for reading in readings), {"M", "F", "O"}.__contains__)
    implied = [reading.implied_age for reading in readings if reading.implied_age is not None]
    possible = [years for years in implied if 0 <= years <= settings.maximum_implied_age]
    return Recorded(
        age=age or "",
        sex=sex or "",
        age_years=years.get(age or ""),
        birth_date_age=_usual(possible, lambda _: True),
    )


def _usual(values: Iterable[_Value], usable: Callable[[_Value], bool]) -> _Value | None:
    """The most frequent of the usable values, else of the others that are not empty."""
    counts = Counter(value for value in values if value != "")
    ranked = sorted(counts, key=lambda value: (not usable(value), -counts[value], value))
    return ranked[0] if ranked else None


def _fired(case: Case) -> Iterator[Fired]:
    for identifier, rule in RULES.items():
        if identifier in case.settings.disabled:
            continue
        hits = dict.fromkeys(rule.check(case))
        if not hits:
            continue
        per_attribute: Counter[str] = Counter()
        for hit in hits:
            about = hit.attribute or rule.attribute
            per_attribute[about] += 1
            if per_attribute[about] <= _MOST_PER_RULE:
                yield rule, hit


def _status(attribute: str, fired: Sequence[Fired]) -> tuple[AttributeStatus | None, str]:
    """What the rules that fired make of the attribute, and the first rule that says so."""
    made = _made(attribute, fired)
    return next(((s, made[s]) for s in _PRECEDENCE if s in made), (None, ""))


def _doubted(attribute: str, fired: Sequence[Fired]) -> bool:
    """Whether more is wrong with the attribute than its form."""
    return not _made(attribute, fired).keys() <= {AttributeStatus.MALFORMED}


def _made(attribute: str, fired: Sequence[Fired]) -> dict[AttributeStatus, str]:
    """Each status that the rules that fired make of the attribute, and the first that does."""
    made: dict[AttributeStatus, str] = {}
    for rule, hit in fired:
        about = hit.attribute or rule.attribute
        status = None
        if about == attribute:
            status = hit.status or rule.status
        elif attribute == "age" and about == "dates":
            status = hit.status
        if status is not None:
            made.setdefault(status, rule.id)
    return made


def _exempt(case: Case) -> str:
    """Why nothing of this study is held against its image, '' when it may be."""
    if any(animal(reading) for reading in case.readings):
        return "veterinary patient"
    if quality_control(case):
        return "quality control, not a patient"
    if case.settings.exclude_test_names and any(test_name(reading) for reading in case.readings):
        return "a test or unidentified patient by name"
    return ""


def _open(status: AttributeStatus | None) -> bool:
    return status not in {None, AttributeStatus.NOT_ASSESSED}


def _finding(rule: Entry, hit: Hit) -> Finding:
    return Finding(
        rule.id, hit.severity or rule.severity, hit.attribute or rule.attribute, hit.reason
    )


def _worth_making(proposals: Sequence[Proposal], case: Case) -> tuple[Proposal, ...]:
    """Each value once, from its best source; none that every instance already has."""
    best: dict[tuple[str, str], Proposal] = {}
    for proposal in proposals:
        keyword, value = proposal.keyword, proposal.value
        if any(reading.header[keyword] not in {value, value + " "} for reading in case.readings):
            best.setdefault((keyword, value), proposal)
    return tuple(best.values())
