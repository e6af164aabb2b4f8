"""How raw answers become calibrated ones. Pure numpy; fitted by :mod:`.fitting`.

The interval of a quantity is split conformal: errors in units of the network's own sigma, below and
above apart, in groups of images that are told from each other by what is predicted of them. On
images exchangeable with the calibration set it covers the recorded value with at least its nominal
probability, in each group. Far from the calibration set nothing vouches for that, so sigma and all
temperatures grow with the distance of the texture, or of the content where that says more of the
errors (:class:`Widening`).

The in-distribution score is a conformal p-value: the share of calibration images that lie as far
from the training set as this one, by the features that the answers are made of.
"""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    RootModel,
    Tag,
    model_validator,
)

from dicom_ai_node.inference.heads import (
    CategoryHead,
    FindingsHead,
    Head,
    QuantityHead,
)

LEVELS = ("50", "80", "90", "95")
TEXTURE = "texture"
STEPS = 1100
"""Of the bounds of a quantity: an interval's ends are found to so fine a part of them."""
AT_ONCE = 2000
"""Images whose ends are looked for at a time."""

Floats = NDArray[np.float64]
Predicted = Mapping[str, Floats]
"""What groups are told apart by, each of shape (N,): the p-value of the :data:`TEXTURE`'s distance,
each quantity's estimate by the name of its head, each category's probabilities as ``sex.F``."""
Range = tuple[float | None, float | None]
"""From the first up to but without the second; None is open."""


class ManifestPart(BaseModel):
    """A table of a bundle's manifest; what it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Widening(ManifestPart):
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
        return _between(excess, self.knots)


class Movement(ManifestPart):
    """What is added to an estimate, by it and by its sigma; the same beyond the ends of both.

    What a site's trusted headers say that the network errs by there, see :mod:`.movement`.
    """

    knots: tuple[tuple[float, float], ...] = Field(min_length=1)
    """(estimate, what is added), both in the unit of the quantity; linear between them."""
    by_sigma: tuple[tuple[float, float], ...] = Field((), exclude_if=operator.not_)
    """(natural logarithm of sigma, what is added besides), likewise."""

    @model_validator(mode="after")
    def _rising(self) -> "Movement":
        for (x, added), (next_x, next_added) in pairwise(self.knots):
            if next_x <= x or next_x + next_added < x + added:
                raise ValueError("knots of a movement do not rise, or change an order")
        for (x, _), (next_x, _) in pairwise(self.by_sigma):
            if next_x <= x:
                raise ValueError("knots of a movement by sigma do not rise")
        return self

    def added(self, mu: Floats, sigma: Floats) -> Floats:
        """Return what is added to each of the network's estimates, shape (N,)."""
        found = _between(mu, self.knots)
        if self.by_sigma:
            found = found + _between(np.log(sigma), self.by_sigma)
        return found


def _between(x: Floats, knots: Sequence[tuple[float, float]]) -> Floats:
    at, value = zip(*knots, strict=True)
    return np.asarray(np.interp(x, at, value), dtype=np.float64)


def moved(
    mu: Floats, sigma: Floats, movement: Movement | None, bounds: tuple[float, float]
) -> Floats:
    """Return the estimates that are stated for the network's ``mu`` (N,), within ``bounds``."""
    return mu if movement is None else np.clip(mu + movement.added(mu, sigma), *bounds)


class Group(ManifestPart):
    """Conformal quantiles of the images whose predicted values lie in some ranges."""

    where: dict[str, Range] = Field(default_factory=dict)
    """Ranges of :data:`Predicted` that must all hold; none holds for every image."""
    images: int = Field(ge=1)
    """How many calibration images the quantiles were taken from."""
    quantiles: dict[str, tuple[float, float]]
    """For each level in per cent, (below, above) in units of the widened sigma."""

    @model_validator(mode="after")
    def _complete(self) -> "Group":
        if set(self.quantiles) != set(LEVELS):
            raise ValueError(f"quantiles for {sorted(self.quantiles)}, expected {LEVELS}")
        if min(q for pair in self.quantiles.values() for q in pair) < 0:
            raise ValueError("a negative quantile")
        return self

    def holds(self, predicted: Predicted) -> NDArray[np.bool_]:
        """Which of N images belong here."""
        inside = np.ones(len(predicted[TEXTURE]), dtype=np.bool_)
        for name, (low, high) in self.where.items():
            if low is not None:
                inside &= predicted[name] >= low
            if high is not None:
                inside &= predicted[name] < high
        return inside


class Tilt(ManifestPart):
    """What quantiles are multiplied by for values around one."""

    at: float
    """Mean recorded value of its images."""
    images: int = Field(ge=1)
    factors: dict[str, tuple[float, float]]
    """For each level in per cent, of the quantiles (below, above)."""

    @model_validator(mode="after")
    def _complete(self) -> "Tilt":
        if set(self.factors) != set(LEVELS):
            raise ValueError(f"factors for {sorted(self.factors)}, expected {LEVELS}")
        if min(factor for pair in self.factors.values() for factor in pair) < 0:
            raise ValueError("a negative factor")
        return self


class QuantityCalibration(ManifestPart):
    """Conformal quantiles of (mu - y) / sigma and (y - mu) / sigma in groups."""

    groups: tuple[Group, ...] = Field(min_length=1)
    """The first that holds counts; the last has no ranges and takes what the others leave."""
    smallest_group: int = Field(ge=1)
    """A group was parted further only where each part kept so many calibration images."""
    widening: Widening = Widening()
    """Of sigma."""
    sd_scale: float = Field(gt=0)
    """The widened sigma times this is the standard deviation of the error."""
    movement: Movement | None = Field(None, exclude_if=operator.not_)
    """Of the estimate, before anything else is made of it; None: it stays the network's."""
    tilt: tuple[Tilt, ...] = Field((), exclude_if=operator.not_)
    """An interval holds the values that it would miss by no more than is usual of images of that
    value: whose errors below and above lie within the quantiles times the factors there. Between
    the values of these rows factors are interpolated, beyond them they stay. None: 1 everywhere."""

    @model_validator(mode="after")
    def _values_rise(self) -> "QuantityCalibration":
        if any(one.at >= following.at for one, following in pairwise(self.tilt)):
            raise ValueError("the values of the tilt do not rise")
        return self

    @model_validator(mode="after")
    def _takes_every_image(self) -> "QuantityCalibration":
        if self.groups[-1].where:
            raise ValueError("the last group has ranges, so that some image may be in none")
        return self

    def intervals(
        self,
        mu: Floats,
        sigma: Floats,
        level: str = "90",
        *,
        predicted: Predicted,
        excess: Floats,
        bounds: tuple[float, float],
    ) -> tuple[Floats, Floats]:
        """Ends of intervals that cover the value with probability ``level`` per cent.

        All of shape (N,), in the unit of ``mu``, which is :func:`moved`; none reaches beyond
        ``bounds``.
        """
        pairs = np.array([group.quantiles[level] for group in self.groups])
        below, above = pairs[self.groups_of(predicted)].T
        wide = sigma * self.widening.factors(excess)
        least, most = bounds
        if self.tilt:
            return self._tilted(mu, below * wide, above * wide, level, bounds)
        return np.maximum(mu - below * wide, least), np.clip(mu + above * wide, mu, most)

    def _tilted(
        self, mu: Floats, below: Floats, above: Floats, level: str, bounds: tuple[float, float]
    ) -> tuple[Floats, Floats]:
        """Ends by :attr:`tilt`: of all values in steps, the first and the last that belong in.

        ``below`` and ``above`` are the furthest errors where the factors are 1, (N,) as ``mu``.
        """
        values = np.linspace(*bounds, STEPS + 1)
        at = [one.at for one in self.tilt]
        shorter, longer = (
            np.interp(values, at, [one.factors[level][side] for one in self.tilt])
            for side in (0, 1)
        )
        low, high = mu.copy(), mu.copy()
        for start in range(0, len(mu), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            missed = values - mu[some, None]
            inside = (missed >= -below[some, None] * shorter) & (
                missed <= above[some, None] * longer
            )
            known = inside.any(axis=1)
            first, last = inside.argmax(axis=1), STEPS - inside[:, ::-1].argmax(axis=1)
            low[some] = np.where(known, np.minimum(mu[some], values[first]), mu[some])
            high[some] = np.where(known, np.maximum(mu[some], values[last]), mu[some])
        return low, high

    def sds(self, sigma: Floats, excess: Floats) -> Floats:
        """Standard deviation of the error of each image, in the unit of ``sigma``."""
        return np.asarray(sigma * self.sd_scale * self.widening.factors(excess))

    def groups_of(self, predicted: Predicted) -> NDArray[np.int64]:
        """Position in :attr:`groups` of each image's group."""
        found = np.full(len(predicted[TEXTURE]), len(self.groups) - 1)
        for number in reversed(range(len(self.groups) - 1)):
            found[self.groups[number].holds(predicted)] = number
        return found


class CategoryCalibration(ManifestPart):
    """Temperature of a category's logits, and of two values a bias (Platt scaling)."""

    temperature: float = Field(gt=0)
    bias: float = Field(0.0, exclude_if=operator.not_)
    """What is added to the logit of the first of two values over its temperature."""
    widening: Widening = Widening()
    """Of the temperature."""
    widened_by: Literal["texture", "content"] = Field(
        "texture", exclude_if=lambda name: name == "texture"
    )
    """Which of the :class:`Distances` the widening is by."""

    def excess(self, far: "Far") -> Floats:
        """Of what the widening is by."""
        return far.content if self.widened_by == "content" else far.excess

    def probabilities(self, logits: Floats, excess: Floats) -> Floats:
        """Calibrated probability of each value: (N, 2) from (N,) logits of the first, or (N, K)."""
        cooled = self.tempered(logits, excess)
        if cooled.ndim == 1:
            first = sigmoids(cooled)
            return np.stack([first, 1 - first], axis=1)
        powers = np.exp(cooled - cooled.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def tempered(self, logits: Floats, excess: Floats) -> Floats:
        """Return the logits over their temperature, and the bias added."""
        cooled = (logits.T / (self.temperature * self.widening.factors(excess))).T
        return np.asarray(cooled + self.bias)


class FindingsCalibration(ManifestPart):
    """Temperature and bias of each label's logit (Platt scaling)."""

    temperatures: dict[str, float]
    biases: dict[str, float] = Field(default_factory=dict, exclude_if=operator.not_)
    """What is added to each logit over its temperature; none: 0 for all."""
    widening: Widening = Widening()
    """Of all temperatures."""

    def probabilities(self, logits: Floats, excess: Floats) -> Floats:
        """Calibrated probability of each label, shape (N, K); ``logits`` of one are (N,)."""
        of_label = np.array(list(self.temperatures.values()))
        added = np.array([self.biases.get(label, 0.0) for label in self.temperatures])
        columns = logits.reshape(len(logits), len(of_label))
        return sigmoids(columns / (of_label * self.widening.factors(excess)[:, None]) + added)


HeadCalibration = QuantityCalibration | CategoryCalibration | FindingsCalibration
_KINDS: Mapping[type[HeadCalibration], str] = {
    QuantityCalibration: "quantity",
    CategoryCalibration: "category",
    FindingsCalibration: "findings",
}
_MARKS = {"groups": "quantity", "temperature": "category", "temperatures": "findings"}


def _kind(value: Any) -> str | None:
    """Tell from its keys which kind of head a calibration is of."""
    if isinstance(value, HeadCalibration):
        return _KINDS[type(value)]
    return next((kind for mark, kind in _MARKS.items() if mark in value), None)


class Calibration(
    RootModel[
        dict[
            str,
            Annotated[
                Annotated[QuantityCalibration, Tag("quantity")]
                | Annotated[CategoryCalibration, Tag("category")]
                | Annotated[FindingsCalibration, Tag("findings")],
                Discriminator(_kind),
            ],
        ]
    ]
):
    """Everything that turns raw answers into calibrated ones, but for the tensors of the spaces."""

    model_config = ConfigDict(frozen=True)

    def quantity(self, name: str) -> QuantityCalibration:
        """Return that of the quantity of this name."""
        found = self.root[name]
        assert isinstance(found, QuantityCalibration)
        return found

    def category(self, name: str) -> CategoryCalibration:
        """Return that of the category of this name."""
        found = self.root[name]
        assert isinstance(found, CategoryCalibration)
        return found

    def findings(self, name: str) -> FindingsCalibration:
        """Return that of the findings of this name."""
        found = self.root[name]
        assert isinstance(found, FindingsCalibration)
        return found

    def check(self, heads: Sequence[Head]) -> None:
        """Raise ValueError unless this is a calibration of these heads."""
        expected = {head.name: head.kind for head in heads}
        found = {name: _KINDS[type(one)] for name, one in self.root.items()}
        if found != expected:
            raise ValueError(f"calibration of {found}, expected {expected}")
        for head in heads:
            many = isinstance(head, CategoryHead) and len(head.values) > 2
            if many and self.category(head.name).bias:
                raise ValueError(f"{head.name}: a bias, and more than two values")
            if isinstance(head, FindingsHead):
                labels = tuple(self.findings(head.name).temperatures)
                if labels != head.labels:
                    raise ValueError(f"{head.name}: temperatures of {labels}, not {head.labels}")
                if strangers := set(self.findings(head.name).biases) - set(labels):
                    raise ValueError(f"{head.name}: biases of {sorted(strangers)}: no such labels")

    def predicted(
        self, heads: Sequence[Head], raw: Mapping[str, NDArray[np.floating]], far: "Far"
    ) -> Predicted:
        """Return what the groups of N images are told apart by.

        This is where estimates are moved: every answer is made of what is returned here.
        """
        columns: dict[str, Floats] = {TEXTURE: far.p_value}
        for head in heads:
            if isinstance(head, FindingsHead):
                continue
            values = raw[head.name].astype(np.float64)
            if isinstance(head, QuantityHead):
                movement = self.quantity(head.name).movement
                mu, sigma = values.T
                columns[head.name] = moved(mu, sigma, movement, head.bounds)
            elif isinstance(head, CategoryHead):
                fitted = self.category(head.name)
                found = fitted.probabilities(values, fitted.excess(far))
                names = [f"{head.name}.{value}" for value in head.values]
                columns |= dict(zip(names, found.T, strict=True))
        return columns


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


@dataclass(frozen=True, slots=True)
class Far:
    """How far the texture and the content of N images lie off, each of shape (N,)."""

    p_value: Floats
    excess: Floats
    """Of the texture, see :func:`excess`."""
    content: Floats
    """The same of the content."""

    @classmethod
    def of(cls, distances: Distances, reference: Distances) -> "Far":
        """Hold ``distances`` against those that are known."""
        return cls(
            p_value(distances.texture, reference.texture),
            excess(distances.texture, reference.texture),
            excess(distances.content, reference.content),
        )
