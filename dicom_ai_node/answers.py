"""What bundles answer: of an image, of a study, and why not. Ages are in years."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from dicom_ai_node.likeness import Embedding
from dicom_ai_node.types import HeaderCheck

if TYPE_CHECKING:  # processes that see no pixels load no numpy for these two names
    import numpy as np
    from numpy.typing import NDArray


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
    certain: bool = True
    """Whether the policy lets it speak against what is recorded; else it is reported as uncertain,
    contradicts nothing, and is never proposed."""

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
    covered: tuple[str, ...] = ()
    """Of images along the body, which may truly show different values: those that are covered, in
    their order from head to foot. Empty where all images were asked for one value."""
    certain: bool = True
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

    @property
    def ordered(self) -> list[tuple[str, float]]:
        """Labels with their probabilities, the most probable first."""
        return sorted(self.probabilities.items(), key=lambda one: -one[1])


Answer = Quantity | Category | LabelProbabilities
"""What a bundle says to one of its questions, by the kind of its head."""


def as_certain_as(answer: Answer, of_study: "Answer | Reason") -> Answer:
    """Return the answer of an image, as certain as what is said of its study: never more."""
    kinds = Quantity | Category
    if not isinstance(answer, kinds) or not isinstance(of_study, kinds):
        return answer
    return replace(answer, certain=of_study.certain)


@dataclass(frozen=True, slots=True)
class Measured:
    """What the network says of one image before any calibration: all that fits another one."""

    raw: Mapping[str, tuple[float, ...]]
    """Of each quantity its estimate and sigma, of each category its logits, by the head's name."""
    content: float
    """Distance from the training images by the features, and by the ``texture``."""
    texture: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """The calibrated answers of the network for one image."""

    answers: Mapping[str, Answer]
    """By the name of the head, in the manifest's order."""
    gates: Mapping[str, float]
    """Probability that the image passes each gate, by its name, in the order of asking."""
    in_distribution: float
    """Conformal p-value of the image against the calibration set; small means unlike it."""
    embedding: Embedding | None = field(default=None, compare=False, repr=False)
    """Of the chest; no answer, and neither stored with the result nor reported. None unless
    ``model.compare_chests`` asks for it and the bundle can."""
    measured: Measured | None = field(default=None, compare=False)
    """Not stored with a result; None where several frames answer together."""

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
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Of heads by their names: the DICOM keyword of what they are held against."""


@dataclass(frozen=True, slots=True)
class SeriesResult:
    """What a bundle says of one series, of heads that are held against an attribute of it."""

    series_instance_uid: str
    answers: Mapping[str, Answer | Reason]
    """Of each such head by its name: its answer, pooled over the series' images, or why none."""

    @property
    def stated(self) -> dict[str, Answer]:
        """The answers that are given."""
        return _stated(self.answers)


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
    research: bool = False
    """What it says is reported as research: never held against the header, never proposed."""
    offered: int = 0
    """How many images, counting frames, its route accepts where it read a sample; 0: it read
    all."""
    read: int = 0
    """How many of :attr:`offered` it read."""
    terms: Terms = field(default=Terms(), compare=False)
    """Not stored: reports are made of results that are at hand."""
    series: tuple[SeriesResult, ...] = ()
    """Of each series of which the network saw an image, where those are several and a head is held
    against an attribute of the series; in the order of the images."""

    @property
    def stated(self) -> dict[str, Answer]:
        """The answers that are given."""
        return _stated(self.answers)

    @property
    def differing(self) -> tuple[SeriesResult, ...]:
        """What is said of each series where that is not the same of all of them, else nothing."""
        said = {
            tuple((name, one.value if isinstance(one, Category) else one) for name, one in pairs)
            for pairs in (series.answers.items() for series in self.series)
        }
        return self.series if len(said) > 1 else ()

    def answers_of(self, series_uid: str) -> dict[str, Answer | Reason]:
        """What is said of the images of a series: of it where it has an answer, else the study."""
        own = [one.answers for one in self.series if one.series_instance_uid == series_uid]
        return {**self.answers, **(own[0] if own else {})}

    @property
    def seen(self) -> frozenset[str]:
        """SOP Instance UIDs of the images of which it says anything."""
        return frozenset(one.image.sop_instance_uid for one in self.images)

    @property
    def given(self) -> dict[str, Answer]:
        """The same, none where the outcome is another than ``estimated``."""
        return self.stated if self.outcome is Outcome.ESTIMATED else {}

    @property
    def unanswered(self) -> dict[str, Reason]:
        """Why other heads have no answer."""
        return {name: reason for name, reason in self.answers.items() if isinstance(reason, Reason)}


def _stated(answers: Mapping[str, Answer | Reason]) -> dict[str, Answer]:
    return {name: answer for name, answer in answers.items() if not isinstance(answer, Reason)}


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
    """Return what a bundle states that is held against the attribute ``keyword``.

    Of a bundle for research nothing is.
    """
    if part.research:
        return None
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
    label: str = ""
    """Of findings: the label that is explained."""
