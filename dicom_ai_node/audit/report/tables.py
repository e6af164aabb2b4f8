"""The report as CSV (RFC 4180): one line a study, one a patient, and one a group."""

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dicom_ai_node.archive.member import Collected
from dicom_ai_node.audit.conclude import AuditedStudy, AuditReport, Rate
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
        values = {study.key: {name: _value(study, name) for name in wanted} for study in collected}
        return cls(wanted, values)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of their columns."""
        return tuple(COLUMNS[keyword] for keyword in self.keywords)

    def of_study(self, key: str) -> list[str]:
        """Return the values of one study, '' where it has none."""
        named = self.values.get(key, {})
        return [named.get(keyword, "") for keyword in self.keywords]

    def of_patient(self, keys: Iterable[str], keyword: str) -> str:
        """Return the first value that one of a patient's studies has."""
        return next((text for key in keys if (text := self.values.get(key, {}).get(keyword))), "")


NONE = Identifiers()


def studies_table(report: AuditReport, identifiers: Identifiers = NONE) -> str:
    """Every study of the audit; with columns for ``identifiers``, before all others."""
    columns = (*identifiers.columns, *STUDY_COLUMNS)
    rows = ([*identifiers.of_study(study.key), *_study(study)] for study in report.studies)
    return _csv(columns, rows)


def patients_table(report: AuditReport, identifiers: Identifiers = NONE) -> str:
    """Every patient: how many studies, and what is wrong in how many of them.

    With a column for PatientID where that is one of the ``identifiers``.
    """
    named = "PatientID" in identifiers.keywords
    patients: dict[str, list[AuditedStudy]] = {}
    for study in report.studies:
        if study.patient:
            patients.setdefault(study.patient, []).append(study)
    columns = (COLUMNS["PatientID"], *PATIENT_COLUMNS) if named else PATIENT_COLUMNS
    rows: list[list[Cell]] = []
    for patient, studies in sorted(patients.items()):
        keys = [study.key for study in studies]
        name: list[Cell] = [identifiers.of_patient(keys, "PatientID")] if named else []
        rows.append([*name, *_patient(patient, studies)])
    return _csv(columns, rows)


def rates_table(report: AuditReport) -> str:
    """Every group: how many of its studies are flagged, and which rules fired in how many."""
    return _csv(RATE_COLUMNS, (_rate(rate) for rate in report.rates))


def _study(study: AuditedStudy) -> list[Cell]:
    check, age, sex = study.check, study.check.attributes[AGE], study.check.attributes[SEX]
    low, high = study.age.interval90 if study.age else (None, None)
    return [
        study.key,
        study.patient,
        study.study_date.isoformat() if study.study_date else "",
        study.origin.station,
        study.origin.manufacturer,
        study.origin.model,
        study.origin.software,
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
            f"{made.keyword}={made.value} ({made.source}: {made.detail})"
            for made in study.proposals
        ),
        check.exempt,
        _rounded(study.age.mu if study.age else None),
        _rounded(low),
        _rounded(high),
        _rounded(study.sex.probabilities["F"] if study.sex else None),
        study.suspicion.age_p,
        study.suspicion.sex_p,
        int(study.suspicion.mix_up),
        _rounded(study.suspicion.score),
        int(study.suspicion.alert),
        study.expected,
        study.arrived,
        study.fault,
    ]


def _patient(patient: str, studies: Sequence[AuditedStudy]) -> list[Cell]:
    rules = Counter(rule for study in studies for rule in study.check.rules)
    return [
        patient,
        len(studies),
        sum(study.check.flagged for study in studies),
        sum(study.suspicion.alert for study in studies),
        sum(study.suspicion.mix_up for study in studies),
        _counts(rules),
    ]


def _counts(rules: Mapping[str, int]) -> str:
    return " ".join(f"{rule}:{count}" for rule, count in sorted(rules.items()))


def _rate(rate: Rate) -> list[Cell]:
    low, high = rate.interval
    share = rate.flagged / rate.studies if rate.studies else None
    return [
        rate.by,
        rate.group,
        rate.studies,
        rate.flagged,
        _rounded(share),
        _rounded(low),
        _rounded(high),
        int(rate.unusual),
        _counts(rate.rules),
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    text = io.StringIO(newline="")
    writer = CsvWriter(text)
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def _value(study: Collected, keyword: str) -> str:
    if study.facts is None:
        return ""
    listed = study.facts.listed
    return usual(study.facts.headers, keyword) or (listed.clean(keyword) if listed else "")
