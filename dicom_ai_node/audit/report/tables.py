"""The report as JSON, and as CSV (RFC 4180): one line a study, one a patient, and one a group.

Attributes under check and answers of the network have columns of their own names. Of a further
head, or attribute, they follow from its kind.
"""

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import date
from typing import Any

from pydantic_core import to_json

from dicom_ai_node.answers import Answer, Category, Quantity
from dicom_ai_node.archive.comparisons import COMPARISONS
from dicom_ai_node.archive.member import Collected
from dicom_ai_node.audit.conclude import AuditedStudy, AuditReport, Origin, Rate
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.decide.stored import answer_to_json, check_to_json
from dicom_ai_node.output import Cell, CsvWriter, escaped_json
from dicom_ai_node.rules import check
from dicom_ai_node.rules.attributes import AGE, SEX
from dicom_ai_node.rules.text_header import usual

COLUMNS = {"AccessionNumber": "accession_number", "PatientID": "patient_id"}
"""DICOM keyword -> column."""
_COMPARED: Mapping[str, Answer] = {
    AGE: Quantity(0.0, 0.0, (0.0, 0.0), attribute=AGE),
    SEX: Category({"F": 0.5, "M": 0.5}, SEX),
}
"""An answer for each attribute that is compared: it has columns where nothing is answered, too."""

_Row = Iterator[tuple[str, Cell]]
"""Column and cell, in order."""


@dataclass(frozen=True, slots=True)
class Identifiers:
    """The values of what names a study or patient in the hospital, by the key of the study.

    For a CSV from which records are to be mended; no part of the report itself, which knows
    patients by a pseudonym only.
    """

    keywords: tuple[str, ...] = ()
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, collected: Iterable[Collected], keywords: Sequence[str]) -> "Identifiers":
        """Read ``keywords`` of what was collected; of the listing where no instance says them."""
        wanted = tuple(keyword for keyword in COLUMNS if keyword in keywords)
        values = {study.key: {name: _value(study, name) for name in wanted} for study in collected}
        return cls(wanted, values)

    def cells(self, keys: Sequence[str], keywords: Iterable[str]) -> _Row:
        """Yield the first value that one of the studies has, '' where none has one."""
        for keyword in self.keywords:
            if keyword in keywords:
                texts = (self.values.get(key, {}).get(keyword, "") for key in keys)
                yield COLUMNS[keyword], next(filter(None, texts), "")


def _value(study: Collected, keyword: str) -> str:
    if study.facts is None:
        return ""
    listed = study.facts.listed
    return usual(study.facts.headers, keyword) or (listed.clean(keyword) if listed else "")


NONE = Identifiers()


def heads(report: AuditReport) -> Mapping[str, Answer]:
    """Return each head of the report, by name, with an answer of its kind."""
    found = {report.attributes[keyword].name: answer for keyword, answer in _COMPARED.items()}
    for study in report.studies:
        for name, answer in study.answers.items():
            found.setdefault(name, answer)
    return found


def is_of_sex(answer: Answer) -> bool:
    """Whether it is told as the probability of F, as a sex is."""
    return isinstance(answer, Category) and answer.attribute == SEX


def studies_table(report: AuditReport, identifiers: Identifiers = NONE) -> str:
    """Every study of the audit; with columns for ``identifiers``, before all others."""
    asked = heads(report)
    nothing = check((), settings=RulesSettings(), today=date.min, attributes=report.attributes)
    blank = AuditedStudy("", "", None, Origin(), nothing)
    return _csv(
        [*identifiers.cells((), COLUMNS), *_study(blank, report, asked)],
        (
            [*identifiers.cells([study.key], COLUMNS), *_study(study, report, asked)]
            for study in report.studies
        ),
    )


def patients_table(report: AuditReport, identifiers: Identifiers = NONE) -> str:
    """Every patient: how many studies, and what is wrong in how many of them.

    With a column for PatientID where that is one of the ``identifiers``.
    """
    patients: dict[str, list[AuditedStudy]] = {}
    for study in report.studies:
        if study.patient:
            patients.setdefault(study.patient, []).append(study)
    return _csv(
        _patient("", (), identifiers),
        (_patient(patient, patients[patient], identifiers) for patient in sorted(patients)),
    )


def rates_table(report: AuditReport) -> str:
    """Every group: how many of its studies are flagged, and which rules fired in how many."""
    return _csv(_rate(Rate("", "", 0, 0, {}, (0.0, 1.0))), map(_rate, report.rates))


def _study(study: AuditedStudy, report: AuditReport, asked: Mapping[str, Answer]) -> _Row:
    check, suspicion = study.check, study.suspicion
    yield "study_instance_uid", study.key
    yield "patient", study.patient
    yield "study_date", study.study_date.isoformat() if study.study_date else ""
    yield from asdict(study.origin).items()
    for keyword, row in check.attributes.items():
        yield f"recorded_{row.name}", row.recorded
        if unit := report.attributes[keyword].unit:
            yield f"recorded_{row.name}_{unit}", _rounded(row.number)
        if keyword == AGE:
            yield "age_from_birth_date", _rounded(check.birth_date_age)
    yield from ((f"{name}_status", status) for name, status in check.statuses.items())
    yield "flagged", int(check.flagged)
    yield "rules", " ".join(check.rules)
    yield "reasons", "; ".join(f"{finding.rule}: {finding.reason}" for finding in check.findings)
    yield (
        "proposals",
        "; ".join(
            f"{made.keyword}={made.value} ({made.source}: {made.detail})"
            for made in study.proposals
        ),
    )
    yield "exempt", check.exempt
    for name, example in asked.items():
        answer = study.answers.get(name)
        cells = _answer(name, answer or example)
        yield from cells if answer else ((column, None) for column, _ in cells)
    for keyword in COMPARISONS:
        yield f"{report.attributes[keyword].name}_p", suspicion.probable.get(keyword)
    yield "mix_up", int(suspicion.mix_up)
    yield "score", _rounded(suspicion.score)
    yield "alert", int(suspicion.alert)
    yield "expected", study.expected
    yield "arrived", study.arrived
    yield "fault", study.fault


def _answer(name: str, answer: Answer) -> _Row:
    if isinstance(answer, Quantity):
        low, high = answer.interval90
        yield f"estimated_{name}", _rounded(answer.mu)
        yield f"estimated_{name}_low90", _rounded(low)
        yield f"estimated_{name}_high90", _rounded(high)
    elif is_of_sex(answer):
        column = "probability_female" if name == "sex" else f"probability_female_{name}"
        yield column, _rounded(answer.probabilities["F"])
    elif isinstance(answer, Category):
        yield f"estimated_{name}", answer.value
        yield f"probability_{name}", _rounded(answer.certainty)
    else:
        for label, probability in answer.probabilities.items():
            yield f"probability_{name}_{label}", _rounded(probability)


def _patient(patient: str, studies: Sequence[AuditedStudy], identifiers: Identifiers) -> _Row:
    yield from identifiers.cells([study.key for study in studies], ["PatientID"])
    yield "patient", patient
    yield "studies", len(studies)
    yield "flagged", sum(study.check.flagged for study in studies)
    yield "alerts", sum(study.suspicion.alert for study in studies)
    yield "mix_ups", sum(study.suspicion.mix_up for study in studies)
    yield "rules", _counts(Counter(rule for study in studies for rule in study.check.rules))


def _rate(rate: Rate) -> _Row:
    low, high = rate.interval
    yield "by", rate.by
    yield "group", rate.group
    yield "studies", rate.studies
    yield "flagged", rate.flagged
    yield "rate", _rounded(rate.flagged / rate.studies if rate.studies else None)
    yield "low95", _rounded(low)
    yield "high95", _rounded(high)
    yield "unusual", int(rate.unusual)
    yield "rules", _counts(rate.rules)


def _counts(rules: Mapping[str, int]) -> str:
    return " ".join(f"{rule}:{count}" for rule, count in sorted(rules.items()))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _csv(blank: Iterable[tuple[str, Cell]], rows: Iterable[Iterable[tuple[str, Cell]]]) -> str:
    """Write ``rows`` below the columns that they, and the ``blank`` one, are made of."""
    text = io.StringIO(newline="")
    writer = CsvWriter(text)
    writer.writerow([column for column, _ in blank])
    writer.writerows([cell for _, cell in row] for row in rows)
    return text.getvalue()


def report_json(report: AuditReport) -> str:
    """Everything that the report says, as JSON."""
    values = {part.name: getattr(report, part.name) for part in fields(report)}
    del values["attributes"]
    values["studies"] = [_study_json(study, report) for study in report.studies]
    return escaped_json(to_json(values, indent=1, inf_nan_mode="null").decode())


def _study_json(study: AuditedStudy, report: AuditReport) -> dict[str, Any]:
    suspicion = study.suspicion
    compared = {keyword: report.attributes[keyword].name for keyword in COMPARISONS}
    return {
        "key": study.key,
        "patient": study.patient,
        "study_date": study.study_date,
        "origin": study.origin,
        "audit": check_to_json(study.check, report.attributes),
        "proposals": study.proposals,
        **dict.fromkeys(compared.values()),
        **{name: answer_to_json(name, answer) for name, answer in study.answers.items()},
        "suspicion": {
            **{f"{name}_p": suspicion.probable.get(key) for key, name in compared.items()},
            **{f"{name}_found": key in suspicion.found for key, name in compared.items()},
            "mix_up": suspicion.mix_up,
            "score": suspicion.score,
            "alert": suspicion.alert,
        },
        "expected": study.expected,
        "arrived": study.arrived,
        "fault": study.fault,
    }
