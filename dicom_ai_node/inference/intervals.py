"""How the raw answer for a quantity becomes an estimate and its interval. Pure numpy.

The interval is split conformal: errors in units of the network's own sigma, below and above apart,
in groups of images that are told from each other by what is predicted of them. On images
exchangeable with the calibration set it covers the recorded value with at least its nominal
probability, in each group. Far from the calibration set nothing vouches for that, so sigma grows
with the distance of the texture (:class:`Widening`).
"""

import operator
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from dicom_ai_node.inference.distances import Floats

LEVELS = ("50", "80", "90", "95")
TEXTURE = "texture"
STEPS = 1100
"""Of the bounds of a quantity: an interval's ends are found to so fine a part of them."""
AT_ONCE = 2000
"""Images whose ends are looked for at a time."""
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
        """Return the factor at each ``excess``, see :func:`.distances.excess`."""
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


def _check_levels(name: str, pairs: Mapping[str, tuple[float, float]]) -> None:
    """Raise ValueError unless every level has its pair, and none holds a negative number."""
    if set(pairs) != set(LEVELS):
        raise ValueError(f"{name}s for {sorted(pairs)}, expected {LEVELS}")
    if min(number for pair in pairs.values() for number in pair) < 0:
        raise ValueError(f"a negative {name}")


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
        _check_levels("quantile", self.quantiles)
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
        _check_levels("factor", self.factors)
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
