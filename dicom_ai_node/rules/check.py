"""The table of rules; runs it over a study and sums up what it says of each attribute.

The status of an attribute, the first that applies:

1. NOT_ASSESSED where the study is exempt: a veterinary patient (F4), a phantom or an image of
   quality control (C7). Sex also where PatientSex is 'O' or sex parameters for clinical use are
   given (F6), or the worklist says 'O' (G6).
2. MALFORMED, MISSING, IMPLAUSIBLE, CONFLICT_HEADER, in this order, where a rule says so.
3. NOT_ASSESSED where there is no usable value and the rule that would say so is disabled, or where
   the images of a series record parts of the body that no one term names.
4. CONSISTENT. A de-identified '90 or over' is that too, and ``censored`` (E8).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from types import MappingProxyType

from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.rules import (
    age_rules,
    body_part_rules,
    coherence_rules,
    date_rules,
    form_rules,
    history_rules,
    image_rules,
    missing_rules,
    worklist_rules,
)
from dicom_ai_node.rules.attributes import ATTRIBUTES, BETWEEN, Attribute
from dicom_ai_node.rules.reading import Reading
from dicom_ai_node.rules.rule import Case, Entry, Hit, StudyRule, Usual, rules_in
from dicom_ai_node.rules.text_header import TextHeader, distinct
from dicom_ai_node.types import (
    AttributeStatus,
    AttributeValue,
    CheckedAttribute,
    Finding,
    HeaderCheck,
    PriorStudy,
    Proposal,
    WorklistAnswer,
)

RULES: Mapping[str, StudyRule] = MappingProxyType(
    rules_in(
        form_rules,
        missing_rules,
        date_rules,
        age_rules,
        coherence_rules,
        history_rules,
        worklist_rules,
        image_rules,
        body_part_rules,
    )
)
"""Every rule over one study by id, in the order in which findings are listed."""

RULES_VERSION = "3"
"""Changes whenever a rule, its default limits or the precedence of statuses changes.

It is part of a report's UID: the same study under other rules is another report.
"""

_PRECEDENCE = (
    AttributeStatus.MALFORMED,
    AttributeStatus.MISSING,
    AttributeStatus.IMPLAUSIBLE,
    AttributeStatus.CONFLICT_HEADER,
)
# A study of a thousand instances that all differ must not make a thousand lines.
_MOST_PER_RULE = 4

Fired = tuple[Entry, Hit]


def check(
    headers: Sequence[TextHeader],
    *,
    priors: Sequence[PriorStudy] = (),
    worklist: WorklistAnswer | None = None,
    settings: RulesSettings,
    today: date,
    attributes: Mapping[str, Attribute] = ATTRIBUTES,
    rules: Mapping[str, StudyRule] = RULES,
) -> HeaderCheck:
    """Answer for one study, given the headers of its instances in any order.

    ``priors`` are the other studies of the same PatientID, ``worklist`` is what a worklist says of
    the patient. Never raises for what headers contain.
    """
    readings = [Reading.of(header, settings, today) for header in headers]
    case = Case(
        readings=tuple(Reading.of(header, settings, today) for header in distinct(headers)),
        priors=tuple(sorted(set(priors), key=repr)),
        usual={keyword: _usual(attribute, readings) for keyword, attribute in attributes.items()},
        settings=settings,
        today=today,
        worklist=worklist,
    )
    fired = tuple(_fired(case, rules)) if headers else ()
    exempt = _exempt(case)
    checked: dict[str, CheckedAttribute] = {}
    proposals: list[Proposal] = []
    for keyword, attribute in attributes.items():
        status, rule = _status(attribute, fired)
        elsewhere = status is None and _elsewhere(attribute, case) is not None
        by_series = _by_series(attribute, case)
        usable = case.usual[keyword].value is not None or elsewhere or any(by_series.values())
        unusable = status is None and not usable
        if exempt or attribute.respected(case) or unusable:
            status = AttributeStatus.NOT_ASSESSED
        elif status is not None or elsewhere:
            values = attribute.propose(case, status or AttributeStatus.CONSISTENT)
            rule = rule or next(iter(_about(attribute, fired)), "")
            proposals += (Proposal(keyword, value, source, rule) for value, source in values)
        row = _checked(attribute, case, status or AttributeStatus.CONSISTENT, fired)
        checked[keyword] = replace(row, by_series=by_series) if by_series else row
    return HeaderCheck(
        checked,
        findings=tuple(_finding(rule, hit) for rule, hit in fired),
        proposals=_worth_making(proposals, case),
        exempt=exempt,
        birth_date_age=_birth_date_age(readings, settings),
    )


def amended(
    check: HeaderCheck,
    fired: Sequence[Fired],
    attributes: Mapping[str, Attribute] = ATTRIBUTES,
) -> HeaderCheck:
    """The check of a study with what was found when it was held against others.

    A status gives way to one that comes before it in the order above; NOT_ASSESSED never does.
    """
    return replace(
        check,
        attributes={
            keyword: replace(
                row,
                status=_before(row.status, _status(attributes[keyword], fired)[0]),
                meant=None if _doubted(attributes[keyword], fired) else row.meant,
            )
            for keyword, row in check.attributes.items()
        },
        findings=(*check.findings, *(_finding(rule, hit) for rule, hit in fired)),
    )


def _before(now: AttributeStatus, other: AttributeStatus | None) -> AttributeStatus:
    if other is None or now is AttributeStatus.NOT_ASSESSED:
        return now
    return next(status for status in (*_PRECEDENCE, now) if status in {now, other})


def _checked(
    attribute: Attribute, case: Case, status: AttributeStatus, fired: Sequence[Fired]
) -> CheckedAttribute:
    usual, meant = case.usual[attribute.keyword], None
    if status is AttributeStatus.MALFORMED and not _doubted(attribute, fired):
        meant = attribute.meant(case.readings)
    elif status is AttributeStatus.CONSISTENT:
        meant = _elsewhere(attribute, case)
    return CheckedAttribute(
        attribute.name,
        usual.text,
        status,
        usual.value,
        meant,
        censored=any(
            attribute.censored(reading) and reading.header.clean(attribute.keyword) == usual.text
            for reading in case.readings
        ),
    )


def _by_series(attribute: Attribute, case: Case) -> Mapping[str, str]:
    """What each series records where they differ, else nothing."""
    if attribute.by_series is None:
        return {}
    found = attribute.by_series(case.readings, case.settings.disabled)
    return found if len(set(found.values())) > 1 else {}


def _elsewhere(attribute: Attribute, case: Case) -> AttributeValue | None:
    """What other attributes state where this one is empty and need not be there."""
    text = case.usual[attribute.keyword].text
    return None if text else attribute.elsewhere(case.readings)


def _usual(attribute: Attribute, readings: Sequence[Reading]) -> Usual:
    """The most frequent of the values that can be used, else of the others that are not empty.

    Of an attribute that may differ within a study, all that can be used.
    """
    texts = [reading.header.clean(attribute.keyword) for reading in readings]
    read = zip(texts, map(attribute.read, readings), strict=True)
    usable = {text: value for text, value in read if value is not None}
    if usable and attribute.several is not None:
        text = BETWEEN.join(sorted(usable))
        return Usual(text, attribute.code(text))
    counts = Counter(filter(None, texts))
    ranked = sorted(counts, key=lambda text: (text not in usable, -counts[text], text))
    text = ranked[0] if ranked else ""
    return Usual(text, usable.get(text))


def _birth_date_age(readings: Sequence[Reading], settings: RulesSettings) -> float | None:
    """The most frequent of the ages that the dates of the instances make and a person reaches."""
    implied = [reading.implied_age for reading in readings if reading.implied_age is not None]
    counts = Counter(years for years in implied if 0 <= years <= settings.maximum_implied_age)
    return min(counts, key=lambda years: (-counts[years], years), default=None)


def _fired(case: Case, rules: Mapping[str, StudyRule]) -> Iterator[Fired]:
    for identifier, rule in rules.items():
        if identifier in case.settings.disabled:
            continue
        per_attribute: Counter[str] = Counter()
        for hit in dict.fromkeys(rule.check(case)):
            about = hit.attribute or rule.attribute
            per_attribute[about] += 1
            if per_attribute[about] <= _MOST_PER_RULE:
                yield rule, hit


def _status(attribute: Attribute, fired: Sequence[Fired]) -> tuple[AttributeStatus | None, str]:
    """What the rules that fired make of the attribute, and the first rule that says so."""
    made = _made(attribute, fired)
    return next(((s, made[s]) for s in _PRECEDENCE if s in made), (None, ""))


def _doubted(attribute: Attribute, fired: Sequence[Fired]) -> bool:
    """Whether more is wrong with the attribute than its form."""
    return not _made(attribute, fired).keys() <= {AttributeStatus.MALFORMED}


def _made(attribute: Attribute, fired: Sequence[Fired]) -> dict[AttributeStatus, str]:
    """Each status that the rules that fired make of the attribute, and the first that does."""
    made: dict[AttributeStatus, str] = {}
    for rule, hit in fired:
        about = hit.attribute or rule.attribute
        status = None
        if about == attribute.name:
            status = hit.status or rule.status
        elif about in attribute.counts:
            status = hit.status
        if status is not None:
            made.setdefault(status, rule.id)
    return made


def _about(attribute: Attribute, fired: Sequence[Fired]) -> Iterator[str]:
    """The rules that found something about the attribute, be it no reason to doubt it."""
    return (rule.id for rule, hit in fired if (hit.attribute or rule.attribute) == attribute.name)


def _exempt(case: Case) -> str:
    """Why nothing of this study is held against its image, '' when it may be."""
    if any(coherence_rules.animal(reading) for reading in case.readings):
        return "veterinary patient"
    if missing_rules.quality_control(case):
        return "quality control, not a patient"
    if case.settings.exclude_test_names and any(
        missing_rules.test_name(reading) for reading in case.readings
    ):
        return "a test or unidentified patient by name"
    return ""


def _finding(rule: Entry, hit: Hit) -> Finding:
    return Finding(
        rule.id,
        hit.severity or rule.severity,
        hit.attribute or rule.attribute,
        hit.reason or rule.reason,
    )


def _worth_making(proposals: Sequence[Proposal], case: Case) -> tuple[Proposal, ...]:
    """Each value once, from its best source; none that every instance already has."""
    best: dict[tuple[str, str], Proposal] = {}
    for proposal in proposals:
        keyword, value = proposal.keyword, proposal.value
        if any(reading.header[keyword] not in {value, value + " "} for reading in case.readings):
            best.setdefault((keyword, value), proposal)
    return tuple(best.values())
