"""What figures are held against: the criteria of a bundle, and what others have published. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from dicom_ai_node.inference.bundle import Figure
from training.data.images import Institution
from training.measure.answering import AGE_ANSWERED, SEX_ANSWERED, TOGETHER
from training.measure.figures import AUC, BIAS, EVERY_GATE, MAE, coverage, find
from training.measure.table import OLD, OTHER, label

PARITY, BUNDLE, GATE_MATERIAL = "parity", "bundle", "gates"
"""Data sets of figures that are not about people."""
SIZE = "size, MB"
SIDES = "training side and node side"
EIGHT, UNCACHED = "the same, in the 8 bits that training holds", "the same, not cached"
VARIANTS, LOSSLESS = "one image in many encodings", "the same in lossless encodings"
"""Pooled groups of the parity figures; every encoding is also a group by itself."""
POOLED = (SIDES, EIGHT, UNCACHED, VARIANTS, LOSSLESS)
VARIANT_LIMIT = 0.2
"""Years."""
YEARS_APART, PROBABILITY_APART = (
    "largest difference of age, years",
    "largest difference of P(female)",
)


@dataclass(frozen=True, slots=True)
class Criterion:
    """What one figure has to be, limits included."""

    name: str
    dataset: str
    quantity: str
    group: str = ""
    gated: bool = False
    low: float | None = None
    high: float | None = None

    @property
    def limit(self) -> str:
        """The limits in words."""
        if self.low is None:
            return f"at most {self.high:g}"
        if self.high is None:
            return f"at least {self.low:g}"
        return f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True, slots=True)
class Judged:
    """A criterion and what was measured."""

    criterion: Criterion
    figure: Figure | None

    @property
    def met(self) -> bool | None:
        """Whether the value itself lies within the limits; None when it was not measured."""
        if self.figure is None:
            return None
        low = self.criterion.low is None or self.figure.value >= self.criterion.low
        return low and (self.criterion.high is None or self.figure.value <= self.criterion.high)


EVERY_SET = ("val", "val_128", "external_dev", "external_dev2", "hannover")
_COVERAGE = "Coverage of the 90 % interval"
CRITERIA = (
    Criterion("Age, inside", "val", MAE, high=4.5),
    Criterion("Sex, inside", "val", AUC, low=0.997),
    Criterion("Age, inside at low resolution", "val_128", MAE, high=4.7),
    Criterion("Age, another source", "external_dev", MAE, high=7.3),
    Criterion("Sex, another source", "external_dev", AUC, low=0.97),
    Criterion("Sex, another hospital", "hannover", AUC, low=0.97),
    Criterion("Bias over 70, inside", TOGETHER, BIAS, group=label("age", OLD), low=-4, high=4),
    Criterion(
        "Bias over 70, another source",
        "external_dev",
        BIAS,
        group=label("age", OLD),
        low=-6,
        high=6,
    ),
    *(
        Criterion(f"{name} of frontal chests", dataset, quantity, low=0.95)
        for dataset in EVERY_SET
        for name, quantity in (("Age answered", AGE_ANSWERED), ("Sex answered", SEX_ANSWERED))
    ),
    Criterion(f"{_COVERAGE}, inside", "val", coverage("90"), low=0.88, high=0.92),
    Criterion(
        f"{_COVERAGE}, inside at low resolution", "val_128", coverage("90"), low=0.88, high=0.92
    ),
    *(
        Criterion(
            f"{_COVERAGE}, another source, of what is answered",
            dataset,
            coverage("90"),
            gated=True,
            low=0.85,
        )
        for dataset in ("external_dev", "external_dev2")
    ),
    Criterion("Accepted of what is not a chest", GATE_MATERIAL, EVERY_GATE, group=OTHER, high=0.01),
    Criterion("Age, training side and node side", PARITY, YEARS_APART, group=SIDES, high=0.05),
    Criterion(
        "Sex, training side and node side", PARITY, PROBABILITY_APART, group=SIDES, high=0.001
    ),
    Criterion(
        "Age, one image in many lossless encodings",
        PARITY,
        YEARS_APART,
        group=LOSSLESS,
        high=VARIANT_LIMIT,
    ),
    Criterion("Bundle in the repository, MB", BUNDLE, SIZE, high=40),
)


def judged(figures: Sequence[Figure]) -> list[Judged]:
    """Every criterion with its figure."""
    return [
        Judged(c, find(figures, c.dataset, c.quantity, group=c.group, gated=c.gated))
        for c in CRITERIA
    ]


@dataclass(frozen=True, slots=True)
class PublishedFigure:
    """One published figure, or a range of them."""

    study: str
    quantity: str
    """As in :mod:`training.measure.figures`."""
    institution: Institution
    value: str
    material: str


_SAME, _OTHER = Institution.SAME, Institution.OTHER
REFERENCES = (
    PublishedFigure("Ieki 2022 (RIKEN)", MAE, _SAME, "3.67", "NIH, more than 100,000 images"),
    PublishedFigure(
        "Yang 2021", MAE, _SAME, "2.1",
        "66,000 healthy people of a narrow range of ages; not the target",
    ),
    PublishedFigure("Sabottke 2020", MAE, _SAME, "4.69 to 4.94", "CheXpert, AP"),
    PublishedFigure("Taiwan 2023", MAE, _SAME, "4.80", "53,000 images"),
    PublishedFigure("Taiwan 2023", MAE, _OTHER, "4.31", "53,000 images"),
    PublishedFigure("ianpan", MAE, _SAME, "5.25", "335,000 images"),
    PublishedFigure(
        "Kerber 2023", MAE, _SAME, "5.76", "1,653 CT projections, ResNet-18, Gaussian NLL"
    ),
    PublishedFigure("Kerber 2023", MAE, _OTHER, "6.50", "1,653 CT projections"),
    PublishedFigure("Taiwan 2023", AUC, _SAME, "0.9993", "53,000 images"),
    PublishedFigure("Taiwan 2023", AUC, _OTHER, "0.9988", "53,000 images"),
    PublishedFigure("Yi 2021", AUC, _SAME, "1.0", "NIH, ResNet-18; 0.91 on children alone"),
    PublishedFigure("Yi 2021", AUC, _OTHER, "0.98", "NIH, ResNet-18"),
    PublishedFigure(
        "SPR 2023", AUC, _SAME, "0.955 to 0.994",
        "10,700 images: frozen DenseNet-121 to the same fine-tuned",
    ),
    PublishedFigure("Small network, ImageNet start", MAE, _SAME, "7.5 to 9", "1,000 images"),
    PublishedFigure("Small network, ImageNet start", MAE, _SAME, "5.8 to 7", "5,000 images"),
    PublishedFigure(
        "Small network, ImageNet start", MAE, _OTHER, "10 to 30 % above its own inside", ""
    ),
    PublishedFigure(
        "Small network, ImageNet start", AUC, _OTHER, "0.01 to 0.05 below its own inside", ""
    ),
    PublishedFigure(
        "MobileNetV2 in 34 CPU minutes", MAE, _SAME, "5.08",
        "the first try on these data; 6.15 on a sealed set of the same institution",
    ),
    PublishedFigure(
        "MobileNetV2 in 34 CPU minutes", MAE, _OTHER, "7.91 and 8.85",
        "another hospital, and public articles; sealed sets",
    ),
    PublishedFigure(
        "MobileNetV2 in 34 CPU minutes", AUC, _SAME, "0.996",
        "the first try on these data; 0.988 on a sealed set of the same institution",
    ),
    PublishedFigure(
        "MobileNetV2 in 34 CPU minutes", AUC, _OTHER, "0.980 and 0.932",
        "another hospital, and public articles; sealed sets",
    ),
)  # fmt: skip

LEAK = (
    "A figure better than these on fewer images is a leak between training and measured patients"
    " until it has been looked for."
)


def references_of(quantity: str, institution: Institution) -> list[PublishedFigure]:
    """References of one quantity, measured on images of one kind of institution."""
    return [r for r in REFERENCES if (r.quantity, r.institution) == (quantity, institution)]
