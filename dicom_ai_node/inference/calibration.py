"""How raw answers become calibrated ones. Pure numpy; fitted by :mod:`.fitting`.

The age interval is split conformal: errors in units of the network's own sigma, below and above
apart, in groups of images that are told from each other by what is predicted of them. On images
exchangeable with the calibration set it covers the recorded age with at least its nominal
probability, in each group. Far from the calibration set nothing vouches for that, so sigma and the
temperature of the sex grow with the distance of the texture (:class:`Widening`).

The in-distribution score is a conformal p-value: the share of calibration images that lie as far
from the training set as this one, by the features that the answers are made of.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

LEVELS = ("50", "80", "90", "95")
OLDEST = 110.0

Floats = NDArray[np.float64]
Quantity = Literal["age", "probability_female", "texture"]
"""What groups are told apart by; a network that predicts more (the view, say) can have more.
``texture`` is the p-value of its distance."""
Range = tuple[float | None, float | None]
"""From the first up to but without the second; None is open."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Widening(_Part):
    """A factor of at least 1 that never falls with the distance: piecewise linear in ``excess``."""

    knots: tuple[tuple[float, float], ...] = Field(((0.0, 1.0),), min_length=1)
    """(excess, factor); beyond the last knot the factor stays what it is there."""

    @model_validator(mode="after")
    def _rising(self) -> "Widening":
        for (x, factor), (next_x, next_factor) in pairwise(self.knots):
            if next_x <= x or next_factor < factor:
                raise ValueError("knots do not rise")
        if self.knots[0][1] < 1:
            raise ValueError(f"a factor of {self.knots[0][1]}, expected at least 1")
        return self

    def factors(self, excess: Floats) -> Floats:
        """Return the factor at each ``excess``, see :func:`excess`."""
        x, y = zip(*self.knots, strict=True)
        return np.asarray(np.interp(excess, x, y), dtype=np.float64)


class AgeGroup(_Part):
    """Conformal quantiles of the images whose predicted values lie in some ranges."""

    where: dict[Quantity, Range] = Field(default_factory=dict)
    """Ranges that must all hold; none holds for every image."""
    images: int = Field(ge=1)
    """How many calibration images the quantiles were taken from."""
    quantiles: dict[str, tuple[float, float]]
    """For each level in per cent, (below, above) in units of the widened sigma."""

    @model_validator(mode="after")
    def _complete(self) -> "AgeGroup":
        if set(self.quantiles) != set(LEVELS):
            raise ValueError(f"quantiles for {sorted(self.quantiles)}, expected {LEVELS}")
        if min(q for pair in self.quantiles.values() for q in pair) < 0:
            raise ValueError("a negative quantile")
        return self

    def holds(self, values: Mapping[Quantity, Floats]) -> NDArray[np.bool_]:
        """Which of N images belong here by their predicted ``values``, each of shape (N,)."""
        inside = np.ones(len(values["age"]), dtype=np.bool_)
        for name, (low, high) in self.where.items():
            if low is not None:
                inside &= values[name] >= low
            if high is not None:
                inside &= values[name] < high
        return inside


class AgeCalibration(_Part):
    """Conformal quantiles of (mu - y) / sigma and (y - mu) / sigma in groups."""

    groups: tuple[AgeGroup, ...] = Field(min_length=1)
    """The first that holds counts; the last has no ranges and takes what the others leave."""
    smallest_group: int = Field(ge=1)
    """A group was parted further only where each part kept so many calibration images."""
    widening: Widening = Widening()
    """Of sigma."""
    sd_scale: float = Field(gt=0)
    """The widened sigma times this is the standard deviation of the error."""

    @model_validator(mode="after")
    def _takes_every_image(self) -> "AgeCalibration":
        if self.groups[-1].where:
            raise ValueError("the last group has ranges, so that some image may be in none")
        return self

    def group_of(self, mu: float, p_female: float, p_value: float) -> AgeGroup:
        """Return the group of one image, from what is predicted of it."""
        one = self.groups_of(*(np.array([value]) for value in (mu, p_female, p_value)))
        return self.groups[int(one[0])]

    def intervals(
        self,
        mu: Floats,
        sigma: Floats,
        level: str = "90",
        *,
        p_female: Floats,
        p_value: Floats,
        excess: Floats,
    ) -> tuple[Floats, Floats]:
        """Ends in years of intervals that cover the age with probability ``level`` per cent.

        All of shape (N,); what is predicted of an image says to which group it belongs.
        """
        pairs = np.array([group.quantiles[level] for group in self.groups])
        below, above = pairs[self.groups_of(mu, p_female, p_value)].T
        wide = sigma * self.widening.factors(excess)
        return np.maximum(mu - below * wide, 0.0), np.clip(mu + above * wide, mu, OLDEST)

    def sds(self, sigma: Floats, excess: Floats) -> Floats:
        """Standard deviation of the error of each image, years."""
        return np.asarray(sigma * self.sd_scale * self.widening.factors(excess))

    def groups_of(self, mu: Floats, p_female: Floats, p_value: Floats) -> NDArray[np.int64]:
        """Position in :attr:`groups` of each image's group."""
        values: dict[Quantity, Floats] = {
            "age": mu,
            "probability_female": p_female,
            "texture": p_value,
        }
        found = np.full(len(mu), len(self.groups) - 1)
        for number in reversed(range(len(self.groups) - 1)):
            found[self.groups[number].holds(values)] = number
        return found


class SexCalibration(_Part):
    """Temperature of the sex logit."""

    temperature: float = Field(gt=0)
    widening: Widening = Widening()
    """Of the temperature."""

    def probabilities_female(self, logits: Floats, excess: Floats) -> Floats:
        """Calibrated probability of each image, shape (N,)."""
        return sigmoids(logits / (self.temperature * self.widening.factors(excess)))


class Calibration(_Part):
    """Everything that turns raw answers into calibrated ones, but for the tensors of the spaces."""

    age: AgeCalibration
    sex: SexCalibration


def sigmoid(logit: float) -> float:
    """Logistic function that never overflows."""
    return float(0.5 * (1.0 + np.tanh(0.5 * logit)))


def sigmoids(logits: Floats) -> Floats:
    """:func:`sigmoid` of each."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Space:
    """Where the training images lie in a space of F features: most of them in K dimensions."""

    mean: NDArray[np.float32]
    """Shape (F,)."""
    projection: NDArray[np.float32]
    """Shape (F, K); its columns whiten the K dimensions."""
    residual: NDArray[np.float32]
    """Mean square of what lies outside of them, over its dimension; shape (1,)."""

    def distance(self, features: NDArray[np.float32]) -> Floats:
        """Squared Mahalanobis distance of (N, F) features, shape (N,).

        What lies outside of the K dimensions counts in units of ``residual``.
        """
        centred = features.astype(np.float64) - self.mean
        projection = self.projection.astype(np.float64)
        scores = centred @ projection
        norms = np.square(projection).sum(axis=0)
        outside = np.square(centred).sum(axis=1) - (np.square(scores) / norms).sum(axis=1)
        inside = np.square(scores).sum(axis=1)
        return np.asarray(inside + np.maximum(outside, 0.0) / float(self.residual[0]))


@dataclass(frozen=True, slots=True)
class Distances:
    """How far N images lie from the training images, by :meth:`Space.distance`; each (N,)."""

    content: Floats
    """By the features that the answers are made of: far is what is no such image. It is gated."""
    texture: Floats
    """By the texture: far is what another detector or processing made. Answers get less certain."""

    @property
    def reference(self) -> "Distances":
        """The same, each sorted: what other images' distances are held against."""
        return Distances(np.sort(self.content), np.sort(self.texture))


def p_value(distances: Floats, reference: Floats) -> Floats:
    """Conformal p-value of each distance against the sorted ``reference`` distances."""
    further = len(reference) - np.searchsorted(reference, distances, side="left")
    return np.asarray((1.0 + further) / (1.0 + len(reference)))


def excess(distances: Floats, reference: Floats) -> Floats:
    """Logarithm of each distance over the median of the ``reference``: 0 for a usual image."""
    middle = max(float(np.median(reference)), 1e-9)
    return np.asarray(np.log(np.maximum(distances, 1e-9) / middle))
