"""What others have published, to be read beside every figure of ours. Constants alone.

Populations, ages, labels and image sizes differ: these are bearings, not competitors.
"""

from dataclasses import dataclass

from training.data.sets import Look
from training.measure.figures import AUC, MAE


@dataclass(frozen=True, slots=True)
class Reference:
    """One published figure, or a range of them."""

    study: str
    quantity: str
    """As in :mod:`training.measure.figures`."""
    look: Look
    value: str
    material: str


REFERENCES = (
    Reference("Ieki 2022 (RIKEN)", MAE, Look.INSIDE, "3.67", "NIH, more than 100,000 images"),
    Reference(
        "Yang 2021", MAE, Look.INSIDE, "2.1",
        "66,000 healthy people of a narrow range of ages; not the target",
    ),
    Reference("Sabottke 2020", MAE, Look.INSIDE, "4.69 to 4.94", "CheXpert, AP"),
    Reference("Taiwan 2023", MAE, Look.INSIDE, "4.80", "53,000 images"),
    Reference("Taiwan 2023", MAE, Look.OUTSIDE, "4.31", "53,000 images"),
    Reference("ianpan", MAE, Look.INSIDE, "5.25", "335,000 images"),
    Reference(
        "Kerber 2023", MAE, Look.INSIDE, "5.76", "1,653 CT projections, ResNet-18, Gaussian NLL"
    ),
    Reference("Kerber 2023", MAE, Look.OUTSIDE, "6.50", "1,653 CT projections"),
    Reference("Taiwan 2023", AUC, Look.INSIDE, "0.9993", "53,000 images"),
    Reference("Taiwan 2023", AUC, Look.OUTSIDE, "0.9988", "53,000 images"),
    Reference("Yi 2021", AUC, Look.INSIDE, "1.0", "NIH, ResNet-18; 0.91 on children alone"),
    Reference("Yi 2021", AUC, Look.OUTSIDE, "0.98", "NIH, ResNet-18"),
    Reference(
        "SPR 2023", AUC, Look.INSIDE, "0.955 to 0.994",
        "10,700 images: frozen DenseNet-121 to the same fine-tuned",
    ),
    Reference("Small network, ImageNet start", MAE, Look.INSIDE, "7.5 to 9", "1,000 images"),
    Reference("Small network, ImageNet start", MAE, Look.INSIDE, "5.8 to 7", "5,000 images"),
    Reference(
        "Small network, ImageNet start", MAE, Look.OUTSIDE, "10 to 30 % above its own inside", ""
    ),
    Reference(
        "Small network, ImageNet start", AUC, Look.OUTSIDE, "0.01 to 0.05 below its own inside", ""
    ),
    Reference(
        "MobileNetV2 in 34 CPU minutes", MAE, Look.INSIDE, "5.08",
        "the first try on these data; 6.15 on a sealed set of the same institution",
    ),
    Reference(
        "MobileNetV2 in 34 CPU minutes", MAE, Look.OUTSIDE, "7.91 and 8.85",
        "another hospital, and public articles; sealed sets",
    ),
    Reference(
        "MobileNetV2 in 34 CPU minutes", AUC, Look.INSIDE, "0.996",
        "the first try on these data; 0.988 on a sealed set of the same institution",
    ),
    Reference(
        "MobileNetV2 in 34 CPU minutes", AUC, Look.OUTSIDE, "0.980 and 0.932",
        "another hospital, and public articles; sealed sets",
    ),
)  # fmt: skip

LEAK = (
    "A figure better than these on fewer images is a leak between training and measured patients"
    " until it has been looked for."
)


def beside(quantity: str, look: Look) -> list[Reference]:
    """References of one quantity at one distance."""
    return [one for one in REFERENCES if (one.quantity, one.look) == (quantity, look)]
