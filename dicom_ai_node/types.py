"""The vocabulary of the header check, which several rooms share, with no behaviour of its own.

Ages are in years, probabilities in [0, 1], DICOM values as they stand in the header.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum

AttributeValue = float | str
"""A recorded value as it is read: a number in the unit of its attribute, or a code."""


class AttributeStatus(StrEnum):
    """What the check says of one recorded attribute, such as PatientAge."""

    CONSISTENT = "CONSISTENT"
    MISSING = "MISSING"
    MALFORMED = "MALFORMED"
    IMPLAUSIBLE = "IMPLAUSIBLE"
    CONFLICT_HEADER = "CONFLICT_HEADER"
    CONFLICT_IMAGE = "CONFLICT_IMAGE"
    NOT_ASSESSED = "NOT_ASSESSED"


class Severity(StrEnum):
    """How much a finding matters."""

    ERROR = "error"
    WARNING = "warning"
    INFORMATION = "information"


@dataclass(frozen=True, slots=True)
class Proposal:
    """A value that could fill or mend an attribute; never applied by this program on its own."""

    keyword: str
    """DICOM keyword, such as ``PatientAge``."""
    value: str
    """The value in the encoding of the attribute's VR."""
    source: str
    """Where it comes from, such as ``PatientBirthDate and StudyDate``."""
    rule: str
    """Id of the rule that proposed it."""


class ProposalSource(StrEnum):
    """Where a proposed value comes from: the ladder, best first."""

    HEADER = "header"
    """What the header says itself, in its proper form."""
    DATES = "dates"
    """Birth date and study date."""
    WORKLIST = "worklist"
    """A modality worklist's answer about this study or its patient."""
    PRIORS = "priors"
    """The same patient's other studies."""
    INFERENCE = "inference"
    """The network's estimate. Every other one is deterministic."""


@dataclass(frozen=True, slots=True)
class FillProposal:
    """The one value that is proposed for an attribute of a study; policy or a person decides."""

    keyword: str
    """``PatientAge``, ``PatientSex`` or ``BodyPartExamined``."""
    value: str
    """The value in the encoding of the attribute's VR."""
    source: ProposalSource
    detail: str
    """Where it comes from in words, such as ``PatientBirthDate and StudyDate``."""
    rules: tuple[str, ...] = ()
    """Ids of the rules that found the attribute missing or wrong."""
    interval90: tuple[float, float] | None = None
    """Of an inferred age: its 90 % interval, years."""
    probability: float | None = None
    """Of an inferred sex: its probability."""
    recorded: str = ""
    """The attribute as sent, '' when it is absent or empty."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that fired."""

    rule: str
    severity: Severity
    attribute: str
    """``age``, ``sex``, ``body_part``, ``dates``, ``identity`` or ``image``: what it is about."""
    reason: str
    """One line for a person. Names attributes and what is wrong with them."""


@dataclass(frozen=True, slots=True)
class CheckedAttribute:
    """What a study records of one attribute, and what the header rules say of it."""

    name: str
    """Its short name in findings and in JSON: ``age``, ``sex``, ``body_part``."""
    recorded: str
    """As sent, '' when absent or empty; of an attribute of the series all that series record, such
    as ``ABDOMEN, CHEST``."""
    status: AttributeStatus
    value: AttributeValue | None = None
    """As read: PatientAge in years, the code of PatientSex. None when it cannot be read or is a
    placeholder."""
    meant: AttributeValue | None = None
    """What a MALFORMED one surely means: nothing is wrong with it but its form. Of one that need
    not be there, what other attributes state in its place."""
    censored: bool = False
    """It is a lower bound, not a value: a de-identified '90 or over'."""
    by_series: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Of an attribute of the series, where that differs: by SeriesInstanceUID the value that its
    images are compared with, '' where there is none or a rule doubts it. Empty where all series
    have one value."""

    @property
    def number(self) -> float | None:
        """The value of a numeric attribute."""
        return self.value if isinstance(self.value, float) else None

    @property
    def stated(self) -> AttributeValue | None:
        """What is recorded, whatever its form and whatever speaks against it."""
        return self.value if self.meant is None else self.meant


@dataclass(frozen=True, slots=True)
class HeaderCheck:
    """The answer of the header rules for one study."""

    attributes: Mapping[str, CheckedAttribute] = field(hash=False)
    """By DICOM keyword, in the order of ``rules/attributes.py``."""
    findings: tuple[Finding, ...] = ()
    proposals: tuple[Proposal, ...] = ()
    exempt: str = ""
    """Why image and header must not be held against each other ('' when they may be)."""
    birth_date_age: float | None = None
    """Years from PatientBirthDate to StudyDate, None when either cannot be used."""

    def trusted(self, keyword: str) -> AttributeValue | None:
        """The recorded value that the image is compared with; None when a rule doubts it.

        Of a check of the header alone. After the image has been compared, the worst misses of the
        network are CONFLICT_IMAGE, and what is left flatters it.
        """
        row = self.attributes.get(keyword)
        if row is None or self.exempt or row.censored:
            return None
        if row.status is AttributeStatus.CONSISTENT:
            return row.stated
        return row.meant if row.status is AttributeStatus.MALFORMED else None

    def with_status(self, keyword: str, status: AttributeStatus) -> "HeaderCheck":
        """Return this check with another status of one attribute."""
        row = replace(self.attributes[keyword], status=status)
        return replace(self, attributes={**self.attributes, keyword: row})

    @property
    def statuses(self) -> Mapping[str, AttributeStatus]:
        """The status of each attribute by its short name."""
        return {row.name: row.status for row in self.attributes.values()}

    @property
    def flagged(self) -> bool:
        """Whether an attribute is missing, malformed, implausible or in conflict."""
        fine = {AttributeStatus.CONSISTENT, AttributeStatus.NOT_ASSESSED}
        return any(row.status not in fine for row in self.attributes.values())

    @property
    def rules(self) -> tuple[str, ...]:
        """Ids of the rules that fired, each once, in order."""
        return tuple(dict.fromkeys(finding.rule for finding in self.findings))


@dataclass(frozen=True, slots=True)
class PriorStudy:
    """What the database knows of another study of the same patient (rules G1 to G4)."""

    study_instance_uid: str
    study_date: date | None
    sex: str
    birth_date: str
    age_years: float | None


@dataclass(frozen=True, slots=True)
class WorklistAnswer:
    """What a modality worklist says of the patient of a study (rule G6). Holds patient data."""

    matched_by: str
    """Keyword that the study and the answer have in common, such as ``AccessionNumber``."""
    other_patient: bool = False
    """The order of this study is for another PatientID; the rest is empty then."""
    birth_date: str = ""
    """A value of VR DA, '' when there is none."""
    sex: str = ""
    """One letter, '' when there is none."""
    age: str = ""
    """A value of VR AS, '' when there is none or it is not of the order of this study."""
