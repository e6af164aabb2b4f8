"""The report as CSV (RFC 4180): one line a study, one a patient, and one a group."""

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dicom_ai_node.archive.member import Collected
from dicom_ai_node.audit.outcome import AuditedStudy, AuditReport, Rate
from dicom_ai_node.output import Cell, CsvWriter
from dicom_ai_node.rules.attributes import AGE, SEX
from dicom_ai_node.rules.header import usual

COLUMNS = {"AccessionNumber": "accession_number", "PatientID": "patient_id"}
"""DICOM keyword -> column."""
STUDY_COLUMNS = (
    "study_instance_uid",
    "patient",
    "study_date",
    "station",
    "manufacturer",
    "model",
    "software",
    "recorded_age",
    "recorded_age_years",
    "age_from_birth_date",
    "recorded_sex",
    "age_status",
    "sex_status",
    "flagged",
    "rules",
    "reasons",
    "proposals",
    "exempt",
    "estimated_age",
    "estimated_age_low90",
    "estimated_age_high90",
    "probability_female",
    "age_p",
    "sex_p",
    "mix_up",
    "score",
    "alert",
    "expected",
    "arrived",
    "fault",
)
PATIENT_COLUMNS = ("patient", "studies", "flagged", "alerts", "mix_ups", "rules")
RATE_COLUMNS = ("by", "group", "studies", "flagged", "rate", "low95", "high95", "unusual", "rules")


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
        values = {one.key: {name: _value(one, name) for name in wanted} for one in collected}
        return cls(wanted, values)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of their columns."""
        return tuple(COLUMNS[keyword] for keyword in self.keywords)

    def of_study(self, key: str) -> list[str]:
        """Return the values of one study, '' where it has none."""
        own = self.values.get(key, {})
        return [own.get(keyword, "") for keyword in self.keywords]

    def of_patient(self, keys: Iterable[str], keyword: str) -> str:
        """Return the first value that one of a patient's studies has."""
        return next((text for key in keys if (text := self.values.get(key, {}).get(keyword))), "")


NONE = Identifiers()


def studies_table(report: AuditReport, identifiers: Identifiers = NONE) -> str:
    """Every study of the audit; with columns for ``identifiers``, before all others."""
    columns = (*identifiers.columns, *STUDY_COLUMNS)
    rows = ([*identifiers.of_study(one.key), *_study(one)] for one in report.studies)
    return _csv(columns, rows)


def patients_table(report: AuditReport, identifiers: Identifiers = NONE) -> str:
    """Every patient: how many studies, and what is wrong in how many of them.

    With a column for PatientID where that is one of the ``identifiers``.
    """
    named = "PatientID" in identifiers.keywords
    patients: dict[str, list[AuditedStudy]] = {}
    for one in report.studies:
        if one.patient:
            patients.setdefault(one.patient, []).append(one)
    columns = (COLUMNS["PatientID"], *PATIENT_COLUMNS) if named else PATIENT_COLUMNS
    rows: list[list[Cell]] = []
    for patient, studies in sorted(patients.items()):
        keys = [one.key for one in studies]
        name: list[Cell] = [identifiers.of_patient(keys, "PatientID")] if named else []
        rows.append([*name, *_patient(patient, studies)])
    return _csv(columns, rows)


def rates_table(report: AuditReport) -> str:
    """Every group: how many of its studies are flagged, and which rules fired in how many."""
    return _csv(RATE_COLUMNS, (_rate(one) for one in report.rates))


def _study(one: AuditedStudy) -> list[Cell]:
    check, age, sex = one.check, one.check.attributes[AGE], one.check.attributes[SEX]
    low, high = one.age.interval90 if one.age else (None, None)
    return [
        one.key,
        one.patient,
        one.study_date.isoformat() if one.study_date else "",
        one.origin.station,
        one.origin.manufacturer,
        one.origin.model,
        one.origin.software,
        age.recorded,
        _rounded(age.number),
        _rounded(check.birth_date_age),
        sex.recorded,
        age.status,
        sex.status,
        int(check.flagged),
        " ".join(check.rules),
        "; ".join(f"{finding.rule}: {finding.reason}" for finding in check.findings),
        "; ".join(
            f"{made.keyword}={made.value} ({made.source}: {made.detail})" for made in one.proposals
        ),
        check.exempt,
        _rounded(one.age.mu if one.age else None),
        _rounded(low),
        _rounded(high),
        _rounded(one.sex.probabilities["F"] if one.sex else None),
        one.suspicion.age_p,
        one.suspicion.sex_p,
        int(one.suspicion.mix_up),
        _rounded(one.suspicion.score),
        int(one.suspicion.alert),
        one.expected,
        one.arrived,
        one.fault,
    ]


def _patient(patient: str, studies: Sequence[AuditedStudy]) -> list[Cell]:
    rules = Counter(rule for one in studies for rule in one.check.rules)
    return [
        patient,
        len(studies),
        sum(one.check.flagged for one in studies),
        sum(one.suspicion.alert for one in studies),
        sum(one.suspicion.mix_up for one in studies),
        _counts(rules),
    ]


def _counts(rules: Mapping[str, int]) -> str:
    return " ".join(f"{rule}:{count}" for rule, count in sorted(rules.items()))


def _rate(one: Rate) -> list[Cell]:
    low, high = one.interval
    share = one.flagged / one.studies if one.studies else None
    return [
        one.by,
        one.group,
        one.studies,
        one.flagged,
        _rounded(share),
        _rounded(low),
        _rounded(high),
        int(one.unusual),
        _counts(one.rules),
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    text = io.StringIO(newline="")
    writer = CsvWriter(text)
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def _value(one: Collected, keyword: str) -> str:
    if one.facts is None:
        return ""
    listed = one.facts.listed
    return usual(one.facts.headers, keyword) or (listed.clean(keyword) if listed else "")
