"""What an audit says: the vocabulary between ``conclude`` and the reports. No behaviour."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer

from dicom_ai_node.audit.campaign import AuditSpec
from dicom_ai_node.decide.stored import (
    answer_from_json,
    answer_to_json,
    check_from_json,
    check_to_json,
)
from dicom_ai_node.types import Category, FillProposal, HeaderCheck, Quantity


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a study was made, as its header says; '' where it says nothing."""

    station: str = ""
    manufacturer: str = ""
    model: str = ""
    software: str = ""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Image against header (group H) for one study."""

    age_p: float | None = None
    """Two-sided p-value of the recorded age under the estimate; None when not comparable."""
    sex_p: float | None = None
    """Calibrated probability of the recorded sex; None when not comparable."""
    age_found: bool = False
    """H1: rejected with the false discovery rate held over the audit."""
    sex_found: bool = False
    """H2: the same for sex."""
    mix_up: bool = False
    """H3: both, or one with a contradiction to the patient's other studies."""
    score: float = 0.0
    """Rank of the alert: larger is more suspicious; 0 when nothing speaks against the header."""
    alert: bool = False
    """Within the alert budget (or found, where there is no budget)."""


def _as_stored(head: str) -> tuple[BeforeValidator, PlainSerializer]:
    """Write and read an answer as results are stored."""

    def read(value: object) -> object:
        return answer_from_json(head, value) if isinstance(value, Mapping) else value

    return BeforeValidator(read), PlainSerializer(partial(answer_to_json, head))


@dataclass(frozen=True, slots=True)
class AuditedStudy:
    """The findings of one study."""

    key: str
    patient: str
    """Pseudonym: a hash of PatientID and issuer, '' without one."""
    study_date: date | None
    origin: Origin
    check: Annotated[
        HeaderCheck,
        Field(alias="audit"),
        PlainSerializer(check_to_json),
        BeforeValidator(check_from_json),
    ]
    """With the findings over the archive (C3, C6, G1 to G8) and of group H (H1 to H4)."""
    proposals: tuple[FillProposal, ...] = ()
    """The best value of the ladder for age and for sex, if any; kept nowhere but in the report."""
    age: Annotated[Quantity | None, *_as_stored("age")] = None
    sex: Annotated[Category | None, *_as_stored("sex")] = None
    suspicion: Suspicion = Suspicion()
    expected: int | None = None
    arrived: int | None = None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Rate:
    """How many studies of one group have a defect."""

    by: str
    """``station``, ``manufacturer``, ``model``, ``software`` or ``month``; ``station month``
    for the plot over time."""
    group: str
    studies: int
    flagged: int
    """Studies with age or sex missing, malformed, implausible or in conflict."""
    rules: Mapping[str, int]
    """Rule id -> studies in which it fired."""
    interval: tuple[float, float]
    """95 % Wilson interval of flagged / studies."""
    unusual: bool = False
    """G7: the rate lies above that of the rest of the archive beyond chance."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The alert budget and what it buys."""

    alerts_per_day: float | None
    days: int
    """Days of StudyDate that the audit covers."""
    threshold: float | None
    """Smallest score that alerts; None when nothing does."""
    alerts: int
    expected_ppv: float | None
    """Expected share of true ones among the alerts; None when there are none."""
    prevalence: float | None
    """Estimated share of assessable studies whose header and image disagree."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """Everything a report says."""

    spec: AuditSpec
    studies: tuple[AuditedStudy, ...]
    """By key."""
    rates: tuple[Rate, ...]
    budget: Budget
    complete: bool
    """Whether every listed study was collected; False for a report of a running audit."""
    listed: int
    whole_headers: int
    """Studies of which headers of instances were had, not only what answers to queries say."""
    rules_version: str
    model: str = ""
    """Name and version of the bundle, '' where no network was asked."""
    not_audited: Mapping[str, int] = field(default_factory=dict)
    """Why, and how many of what the source answered are left out."""
