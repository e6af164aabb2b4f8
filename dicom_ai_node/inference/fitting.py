"""Fits a bundle's calibration to cases whose age and sex are known. Pure numpy.

Shared by ``training`` and by ``model recalibrate``, so that a site's calibration is made as the
shipped one was.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dicom_ai_node.inference import calibration
from dicom_ai_node.inference.calibration import (
    LEVELS,
    AgeCalibration,
    AgeGroup,
    Calibration,
    Distances,
    Quantity,
    Range,
    SexCalibration,
    Widening,
)

EDGES = (40.0, 60.0)
"""Predicted ages that part the bands, where there are images enough."""
SMALLEST_GROUP = 80
"""Fewer images than this make no group of their own; 200 would be better than there often are."""
UNBOUNDED = 1e6
"""Stands for an infinite quantile: too few images for the level, every age is possible."""
TEMPERATURES = np.exp(np.linspace(-np.log(3), np.log(10), 341))
"""No lower than a third: where there is hardly an error, ever more certainty looks ever better."""

Floats = NDArray[np.float64]
_Group = tuple[dict[Quantity, Range], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Cases:
    """What the network says of N images and what is recorded of them; each of shape (N,)."""

    mu: Floats
    """Years, as ``sigma`` and ``years``."""
    sigma: Floats
    sex: Floats
    """Logit of female."""
    content: Floats
    """Distances, see :class:`dicom_ai_node.inference.calibration.Distances`; ``texture`` too."""
    texture: Floats
    years: Floats
    """The recorded age; NaN where unknown."""
    female: Floats
    """The recorded sex: 1 or 0; NaN where unknown."""
    patients: NDArray[np.str_]

    def __len__(self) -> int:
        """How many images."""
        return len(self.mu)

    def at(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "Cases":
        """Return some of the images, by mask or position."""
        return Cases(*(getattr(self, field.name)[chosen] for field in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence["Cases"]) -> "Cases":
        """Return the images of all ``parts``, in order."""
        return cls(
            *(np.concatenate([getattr(p, field.name) for p in parts]) for field in fields(cls))
        )

    @property
    def labelled(self) -> "Cases":
        """Those images whose age and sex are known; others fit nothing."""
        return self.at(~(np.isnan(self.years) | np.isnan(self.female)))

    @property
    def reference(self) -> Distances:
        """The sorted distances that other images' are held against."""
        return Distances(self.content, self.texture).reference


def fit(
    cases: Cases,
    *,
    age_widening: Widening,
    sex_widening: Widening,
    smallest: int = SMALLEST_GROUP,
) -> Calibration:
    """Calibrate on labelled images that trained nothing; goes with ``cases.reference``."""
    return Calibration(age=age(cases, age_widening, smallest), sex=sex(cases, sex_widening))


def age(cases: Cases, widening: Widening, smallest: int = SMALLEST_GROUP) -> AgeCalibration:
    """Conformal quantiles at every level, a pair for each group."""
    reference = cases.reference.texture
    columns: dict[Quantity, Floats] = {
        "age": cases.mu,
        "texture": calibration.p_value(cases.texture, reference),
        "probability_female": 0.5 * (1 + np.sign(cases.sex)),
    }
    wide = cases.sigma * widening.factors(calibration.excess(cases.texture, reference))
    z = (cases.years - cases.mu) / wide
    found = groups(columns, smallest)
    fitted = [
        AgeGroup(
            where=where if number + 1 < len(found) else {},
            images=len(at),
            quantiles={level: _pair(z[at], float(level) / 100) for level in LEVELS},
        )
        for number, (where, at) in enumerate(found)
    ]
    scale = float(np.sqrt(np.mean(np.square(z))))
    return AgeCalibration(
        groups=tuple(fitted),
        smallest_group=smallest,
        widening=widening,
        sd_scale=max(round(scale, 4), 1e-4),
    )


def groups(columns: dict[Quantity, Floats], smallest: int) -> list[_Group]:
    """Part images by band of predicted age, then by nearness, then by predicted sex.

    A band is joined with the next, and a group left whole, where a part would have fewer than
    ``smallest`` images. A small part thereby shares its parent's quantiles with its sibling, and
    they hold for either taken together; quantiles of a parent whose large children had their own
    would hold for nobody.
    """
    edges = [None, *bands(columns["age"], smallest), None]
    ages = columns["age"]
    parts: list[_Group] = []
    for low, high in pairwise(edges):
        inside = (ages >= (-math.inf if low is None else low)) & (
            ages < (math.inf if high is None else high)
        )
        parts.append(({"age": (low, high)}, np.flatnonzero(inside)))
    order: tuple[Quantity, ...] = ("texture", "probability_female")
    for name in order:
        parts = [half for part in parts for half in _halves(part, name, columns[name], smallest)]
    return parts


def bands(mu: Floats, smallest: int) -> list[float]:
    """Those of EDGES that leave at least ``smallest`` images in every band."""
    edges: list[float] = []
    for edge in EDGES:
        last = edges[-1] if edges else -math.inf
        if np.sum((mu >= last) & (mu < edge)) >= smallest:
            edges.append(edge)
    while edges and np.sum(mu >= edges[-1]) < smallest:
        edges.pop()
    return edges


def _halves(group: _Group, name: Quantity, values: Floats, smallest: int) -> list[_Group]:
    where, at = group
    below, above = at[values[at] < 0.5], at[values[at] >= 0.5]
    if min(len(below), len(above)) < smallest:
        return [group]
    return [(where | {name: (None, 0.5)}, below), (where | {name: (0.5, None)}, above)]


def _pair(z: Floats, level: float) -> tuple[float, float]:
    tail = (1 + level) / 2
    return quantile(-z, tail), quantile(z, tail)


def quantile(scores: Floats, share: float) -> float:
    """The ceil((n + 1) share)-th smallest score, at least 0 so that the interval contains mu.

    Where there is no such score, because the images are too few, :data:`UNBOUNDED`.
    """
    rank = math.ceil((len(scores) + 1) * share - 1e-9)
    if rank > len(scores):
        return UNBOUNDED
    return round(max(float(np.sort(scores)[rank - 1]), 0.0), 4)


def sex(cases: Cases, widening: Widening) -> SexCalibration:
    """Temperature with the smallest log loss."""
    factors = widening.factors(calibration.excess(cases.texture, cases.reference.texture))
    found = temperature(cases.sex / factors, cases.female)
    return SexCalibration(temperature=round(found, 4), widening=widening)


def temperature(logits: Floats, positive: Floats) -> float:
    """The one of :data:`TEMPERATURES` that gives ``logits`` the smallest log loss."""
    signed = np.where(positive == 1, logits, -logits)
    losses = [np.mean(np.logaddexp(0, -signed / t)) for t in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(losses))])
