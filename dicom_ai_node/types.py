"""The vocabulary of the program: what flows from stage to stage, with no behaviour of its own.

Ages are in years, probabilities in [0, 1], DICOM values as they stand in the header.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # processes that see no pixels load no numpy for these two names
    import numpy as np
    from numpy.typing import NDArray


class AttributeStatus(StrEnum):
    """What the check says of one recorded attribute (PatientAge or PatientSex)."""

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
class Recorded:
    """Age and sex as the header of the study states them."""

    age: str
    """PatientAge as sent, '' when absent or empty."""
    sex: str
    """PatientSex as sent, '' when absent or empty."""
    age_years: float | None
    """PatientAge in years, None when it cannot be read or is a placeholder."""
    birth_date_age: float | None
    """Years from PatientBirthDate to StudyDate, None when either cannot be used."""


@dataclass(frozen=True, slots=True)
class HeaderCheck:
    """The answer of the header rules for one study."""

    recorded: Recorded
    age: AttributeStatus
    sex: AttributeStatus
    findings: tuple[Finding, ...] = ()
    proposals: tuple[Proposal, ...] = ()
    exempt: str = ""
    """Why image and header must not be held against each other ('' when they may be)."""
    censored_age: bool = False
    """PatientAge is a de-identified '90 or over': a lower bound, not an age."""
    meant_age: float | None = None
    """Years that a MALFORMED PatientAge surely means: nothing is wrong with it but its form."""
    meant_sex: str = ""
    """``M`` or ``F`` where a MALFORMED PatientSex surely means it, else ''."""

    @property
    def trusted_age(self) -> float | None:
        """The recorded age in years that the image is compared with; None when a rule doubts it.

        Of a check of the header alone. After the image has been compared, the worst misses of the
        network are CONFLICT_IMAGE, and what is left flatters it.
        """
        if self.exempt or self.censored_age:
            return None
        if self.age is AttributeStatus.CONSISTENT:
            return self.recorded.age_years
        return self.meant_age if self.age is AttributeStatus.MALFORMED else None

    @property
    def trusted_sex(self) -> str:
        """The recorded sex, ``M`` or ``F``, as :attr:`trusted_age`; '' when a rule doubts it."""
        if self.exempt:
            return ""
        if self.sex is AttributeStatus.CONSISTENT:
            sex = self.recorded.sex.strip()
            return sex if sex in {"F", "M"} else ""
        return self.meant_sex if self.sex is AttributeStatus.MALFORMED else ""

    @property
    def stated_age(self) -> float | None:
        """Years that PatientAge states, whatever its form and whatever speaks against it."""
        years = self.recorded.age_years
        return self.meant_age if years is None else years

    @property
    def stated_sex(self) -> str:
        """The same of PatientSex; '' where it is not assessed."""
        if self.sex is AttributeStatus.NOT_ASSESSED:
            return ""
        return self.meant_sex or self.recorded.sex

    @property
    def flagged(self) -> bool:
        """Whether PatientAge or PatientSex is missing or implausible."""
        fine = {AttributeStatus.CONSISTENT, AttributeStatus.NOT_ASSESSED}
        return self.age not in fine or self.sex not in fine

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
class Unanswered:
    """An attribute of which a study's report gives no estimate, and why."""

    attribute: str
    """``age`` or ``sex``."""
    reason: Reason


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which network answered."""

    name: str
    version: str
    sha256: str
    """SHA-256 of the weights file, hexadecimal."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The calibrated answer of the network for one image."""

    age: float
    """Point estimate, years."""
    age_sd: float
    """Standard deviation of the predictive distribution, years."""
    age_interval90: tuple[float, float]
    """Calibrated 90 % prediction interval, years."""
    probability_female: float
    chest: float
    """Probability that the image shows a chest radiograph."""
    frontal: float
    """Probability that the view is frontal (PA or AP)."""
    in_distribution: float
    """Conformal p-value of the image against the calibration set; small means unlike it."""


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
class AgeEstimate:
    """Pooled age of a study, years."""

    mu: float
    sigma: float
    interval90: tuple[float, float]


@dataclass(frozen=True, slots=True)
class SexEstimate:
    """Pooled appearance of sex of a study."""

    probability_female: float

    @property
    def value(self) -> str:
        """``F`` or ``M``, whichever is more probable."""
        return "F" if self.probability_female >= 0.5 else "M"

    @property
    def certainty(self) -> float:
        """Probability of :attr:`value`."""
        return max(self.probability_female, 1.0 - self.probability_female)


@dataclass(frozen=True, slots=True)
class StudyResult:
    """Everything a report says."""

    study_instance_uid: str
    outcome: Outcome
    check: HeaderCheck
    """With CONFLICT_IMAGE and findings of group H where image and header disagree."""
    images: tuple[ImageResult, ...] = ()
    reason: Reason | None = None
    age: AgeEstimate | None = None
    sex: SexEstimate | None = None
    model: ModelIdentity | None = None
    """None when no network was asked."""
    unanswered: tuple[Unanswered, ...] = ()
    """Why age or sex has no estimate, age first; an attribute that has one is not here."""
    trained_ages: tuple[float, float] | None = None
    """Youngest and oldest age that the network was trained on, years; None when none was asked."""


class Head(StrEnum):
    """The answer of the network that a saliency map explains."""

    AGE = "age"
    SEX = "sex"


class SaliencyMethod(StrEnum):
    """How a saliency map is made."""

    GRAD_CAM = "grad-cam"
    SCORE_CAM = "score-cam"


@dataclass(frozen=True, slots=True, eq=False)
class SaliencyMap:
    """Where in an image one answer of the network comes from."""

    head: Head
    method: SaliencyMethod
    values: "NDArray[np.float32]"
    """Shape (S, S), in [0, 1], 1 where the answer rests on most; all 0 when ``flat``."""
    flat: bool
    """Nothing in the image stands out: there is no map to look at."""


@dataclass(frozen=True, slots=True, eq=False)
class ExplainedImage:
    """One image with the maps of its answers."""

    image: ImageRef
    pixels: "NDArray[np.float32]"
    """As the network saw it: shape (S, S), in [0, 1]."""
    maps: tuple[SaliencyMap, ...]
    """At least one, each of another head."""


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """One durable instance in the spool."""

    image: ImageRef
    transfer_syntax_uid: str
    path: str
    """Path of the DICOM file, relative to the spool."""
    digest: str
    """BLAKE3 of the data set as received, hexadecimal."""
    size: int = 0
    version: int = 1
    """1 for the first content seen under this UID, 2 for the next, and so on."""
    calling_ae: str = ""
    association: str = ""


@dataclass(frozen=True, slots=True)
class EncodedReport:
    """A report ready to be sent: one object in every SOP class that it may travel as."""

    kind: str
    """``sr``, ``sc`` or ``saliency``."""
    files: Sequence["ReportFile"] = field(default_factory=tuple)
    """In order of preference."""
    subject: str = ""
    """SOP Instance UID of the one image that it is about, '' when it is about the study."""


@dataclass(frozen=True, slots=True)
class ReportFile:
    """One DICOM file of a report."""

    sop_class_uid: str
    sop_instance_uid: str
    content: bytes
    """The complete DICOM file (PS3.10)."""
