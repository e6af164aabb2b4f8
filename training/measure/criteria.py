"""The marks that a bundle is held against, and whether it meets them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from dicom_ai_node.inference.bundle import Figure
from training.measure import figures as of
from training.measure.predicted import OTHER
from training.measure.strata import OLD, label

PARITY, BUNDLE, GATE_MATERIAL = "parity", "bundle", "gates"
"""Data sets of figures that are not about people."""
SIZE = "size, MB"
SIDES = "training side and node side"
EIGHT, UNCACHED = "the same, in the 8 bits that training holds", "the same, not cached"
VARIANTS, LOSSLESS = "one image in many encodings", "the same in lossless encodings"
"""Pooled groups of the parity figures; every encoding is a group of its own besides."""
POOLED = (SIDES, EIGHT, UNCACHED, VARIANTS, LOSSLESS)
VARIANT_LIMIT = 0.2
"""Years."""
YEARS_APART, PROBABILITY_APART = (
    "largest difference of age, years",
    "largest difference of P(female)",
)


@dataclass(frozen=True, slots=True)
class Mark:
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
class Held:
    """A mark and what was measured."""

    mark: Mark
    figure: Figure | None

    @property
    def met(self) -> bool | None:
        """Whether the value itself lies within the limits; None when it was not measured."""
        if self.figure is None:
            return None
        low = self.mark.low is None or self.figure.value >= self.mark.low
        return low and (self.mark.high is None or self.figure.value <= self.mark.high)


MARKS = (
    Mark("Age, inside", "val", of.MAE, high=4.5),
    Mark("Sex, inside", "val", of.AUC, low=0.997),
    Mark("Age, another source", "external_dev", of.MAE, high=7.5),
    Mark("Sex, another source", "external_dev", of.AUC, low=0.96),
    Mark("Sex, another hospital", "hannover", of.AUC, low=0.97),
    Mark("Bias over 70", "val", of.BIAS, group=label("age", OLD), low=-4, high=4),
    Mark("Coverage of the 90 % interval, inside", "val", of.coverage("90"), low=0.88, high=0.92),
    Mark(
        "Coverage of the 90 % interval, another source, of what is answered",
        "external_dev",
        of.coverage("90"),
        gated=True,
        low=0.85,
    ),
    Mark("Accepted of what is not a chest", GATE_MATERIAL, of.EVERY_GATE, group=OTHER, high=0.01),
    Mark("Accepted of frontal chests", "val", of.EVERY_GATE, low=0.98),
    Mark("Accepted of frontal chests, low resolution", "val_128", of.EVERY_GATE, low=0.98),
    Mark("Accepted of frontal chests, another source", "external_dev", of.EVERY_GATE, low=0.98),
    Mark("Accepted of frontal chests, another hospital", "hannover", of.EVERY_GATE, low=0.98),
    Mark("Age, training side and node side", PARITY, YEARS_APART, group=SIDES, high=0.05),
    Mark("Sex, training side and node side", PARITY, PROBABILITY_APART, group=SIDES, high=0.001),
    Mark(
        "Age, one image in many encodings", PARITY, YEARS_APART, group=VARIANTS, high=VARIANT_LIMIT
    ),
    Mark("Bundle in the repository, MB", BUNDLE, SIZE, high=40),
)


def held(figures: Sequence[Figure]) -> list[Held]:
    """Every mark with its figure."""
    return [
        Held(m, of.find(figures, m.dataset, m.quantity, group=m.group, gated=m.gated))
        for m in MARKS
    ]
