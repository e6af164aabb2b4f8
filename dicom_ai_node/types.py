"""The vocabulary of the program: what flows from stage to stage, with no behaviour of its own.

Ages are in years, probabilities in [0, 1], DICOM values as they stand in the header.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # processes that see no pixels load no numpy for these two names
    import numpy as np
    from numpy.typing import NDArray

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
    """``PatientAge`` or ``PatientSex``."""
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
    """``age``, ``sex``, ``dates``, ``identity`` or ``image``: what the finding is about."""
    reason: str
    """One line for a person. Names attributes and what is wrong with them."""


@dataclass(frozen=True, slots=True)
class CheckedAttribute:
    """What a study records of one attribute, and what the header rules say of it."""

    name: str
    """Its short name in findings and in JSON: ``age``, ``sex``."""
    recorded: str
    """As sent, '' when absent or empty."""
    status: AttributeStatus
    value: AttributeValue | None = None
    """As read: PatientAge in years, the code of PatientSex. None when it cannot be read or is a
    placeholder."""
    meant: AttributeValue | None = None
    """What a MALFORMED one surely means: nothing is wrong with it but its form."""
    censored: bool = False
    """It is a lower bound, not a value: a de-identified '90 or over'."""

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
            return row.value
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


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a study or image has no estimate: a stable code and a sentence."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which network answered."""

    name: str
    version: str
    sha256: str
    """SHA-256 of the weights file, hexadecimal."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number, such as the age."""

    mu: float
    """Point estimate."""
    sigma: float
    """Standard deviation of the predictive distribution."""
    interval90: tuple[float, float]
    """Calibrated 90 % prediction interval."""
    unit: str = "a"
    """Of all of them, UCUM; ``a`` are years."""
    attribute: str = ""
    """DICOM keyword of the attribute that it is held against, '' for none."""

    @property
    def width(self) -> float:
        """From one end of the interval to the other."""
        low, high = self.interval90
        return high - low


@dataclass(frozen=True, slots=True)
class Category:
    """One of several coded values, such as the sex."""

    probabilities: Mapping[str, float]
    """Of each value, as the attribute codes it."""
    attribute: str = ""
    """As of :class:`Quantity`."""

    @property
    def value(self) -> str:
        """The most probable one."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def certainty(self) -> float:
        """Probability of :attr:`value`."""
        return max(self.probabilities.values())


@dataclass(frozen=True, slots=True)
class LabelProbabilities:
    """Labels of which each may hold or not."""

    probabilities: Mapping[str, float]
    """Of each label."""


Answer = Quantity | Category | LabelProbabilities
"""What a bundle says to one of its questions, by the kind of its head."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The calibrated answers of the network for one image."""

    answers: Mapping[str, Answer]
    """By the name of the head, in the manifest's order."""
    gates: Mapping[str, float]
    """Probability that the image passes each gate, by its name, in the order of asking."""
    in_distribution: float
    """Conformal p-value of the image against the calibration set; small means unlike it."""

    def quantity(self, name: str) -> Quantity:
        """Return the answer of a head of this kind; KeyError where there is none."""
        answer = self.answers[name]
        if not isinstance(answer, Quantity):
            raise KeyError(f"{name} is no quantity")
        return answer

    def category(self, name: str) -> Category:
        """The same of a category."""
        answer = self.answers[name]
        if not isinstance(answer, Category):
            raise KeyError(f"{name} is no category")
        return answer


class Outcome(StrEnum):
    """What became of an image or a study."""

    ESTIMATED = "estimated"
    ABSTAINED = "abstained"
    """The network saw it and a gate or a threshold forbids an answer."""
    REFUSED = "refused"
    """It could not or must not be shown to the network."""
    HEADER_ONLY = "header_only"
    """Policy asked for the header check alone."""


@dataclass(frozen=True, slots=True)
class ImageRef:
    """One received image, as reports and evidence name it."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True, slots=True)
class ImageResult:
    """What became of one image."""

    image: ImageRef
    outcome: Outcome
    reason: Reason | None = None
    """Set unless the outcome is ``estimated``."""
    prediction: Prediction | None = None
    """Set when the network saw the image, also where it then abstained."""


@dataclass(frozen=True, slots=True)
class Concept:
    """A code as a bundle's manifest states it (PS3.3 8.8)."""

    code: str
    scheme: str
    """Coding scheme designator, such as ``SCT``."""
    meaning: str


@dataclass(frozen=True, slots=True)
class Terms:
    """How a report names what a bundle answers, as far as the bundle says so itself."""

    site: Concept | None = None
    """The part of the body that its images show."""
    concepts: Mapping[str, Concept] = field(default_factory=dict)
    """Of heads by their names; of a category's values and of labels as ``head.value``."""


@dataclass(frozen=True, slots=True)
class BundleResult:
    """What one bundle says of a study: its part of the report."""

    outcome: Outcome
    reason: Reason | None = None
    images: tuple[ImageResult, ...] = ()
    """Those that its route accepts. What no bundle accepts is refused by the first."""
    answers: Mapping[str, Answer | Reason] = field(default_factory=dict)
    """Of each head by its name, in the order of the manifest: its answer, pooled over the images,
    or why it has none."""
    model: ModelIdentity | None = None
    """None when the network was not asked."""
    trained_ages: tuple[float, float] | None = None
    """Youngest and oldest age that the network was trained on, years; None when not asked."""
    terms: Terms = field(default=Terms(), compare=False)
    """Not stored: reports are made of results that are at hand."""

    @property
    def stated(self) -> dict[str, Answer]:
        """The answers that are given."""
        return {
            name: answer for name, answer in self.answers.items() if not isinstance(answer, Reason)
        }

    @property
    def given(self) -> dict[str, Answer]:
        """The same, none where the outcome is another than ``estimated``."""
        return self.stated if self.outcome is Outcome.ESTIMATED else {}

    @property
    def unanswered(self) -> dict[str, Reason]:
        """Why other heads have no answer."""
        return {name: reason for name, reason in self.answers.items() if isinstance(reason, Reason)}


_BEST_FIRST = (Outcome.ESTIMATED, Outcome.ABSTAINED, Outcome.REFUSED, Outcome.HEADER_ONLY)


@dataclass(frozen=True, slots=True)
class StudyResult:
    """Everything a report says."""

    study_uid: str
    check: HeaderCheck
    """With CONFLICT_IMAGE and findings of group H where image and header disagree."""
    parts: tuple[BundleResult, ...]
    """Of each bundle that accepts something of the study, in the order of the configuration; of the
    first bundle where none does. Never empty."""

    @property
    def leading(self) -> BundleResult:
        """The first part of those that came furthest: outcome and reason of the study are its."""
        return min(self.parts, key=lambda part: _BEST_FIRST.index(part.outcome))

    @property
    def outcome(self) -> Outcome:
        """Estimated where any bundle gives an answer."""
        return self.leading.outcome

    @property
    def reason(self) -> Reason | None:
        """Why there is no answer, where there is none."""
        return self.leading.reason

    @property
    def images(self) -> tuple[ImageResult, ...]:
        """What became of each image, once for each bundle that it was routed to."""
        return tuple(image for part in self.parts for image in part.images)

    @property
    def asked(self) -> tuple[ModelIdentity, ...]:
        """The networks that took part."""
        return tuple(part.model for part in self.parts if part.model is not None)

    def answering(self, keyword: str) -> BundleResult | None:
        """Return the first part that states what is held against the attribute ``keyword``."""
        return next((part for part in self.parts if held_against(part, keyword)), None)

    def held_against(self, keyword: str) -> Quantity | Category | None:
        """Return the answer of :meth:`answering`."""
        part = self.answering(keyword)
        return held_against(part, keyword) if part else None


def held_against(part: BundleResult, keyword: str) -> Quantity | Category | None:
    """Return what a bundle states that is held against the attribute ``keyword``."""
    found = (answer for answer in part.given.values() if isinstance(answer, Quantity | Category))
    return next((answer for answer in found if answer.attribute == keyword), None)


class SaliencyMethod(StrEnum):
    """How a saliency map is made."""

    GRAD_CAM = "grad-cam"
    SCORE_CAM = "score-cam"


@dataclass(frozen=True, slots=True, eq=False)
class SaliencyMap:
    """Where in an image one answer of the network comes from."""

    head: str
    """Name of the answer's head."""
    kind: str
    """Its kind: ``quantity``, ``category`` or ``findings``."""
    method: SaliencyMethod
    values: "NDArray[np.float32]"
    """Shape (S, S), in [0, 1], 1 where the answer rests on most; all 0 when ``flat``."""
    flat: bool
    """Nothing in the image stands out: there is no map to look at."""
