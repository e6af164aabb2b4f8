"""How far a site's own trusted headers move what is said there, and what that gains.

Most of what a network errs by at another hospital is alike for all of its patients, and its records
say by how much. A quantity gets a straight line in its estimate and one in how uncertain it is, a
category of two values a bias of its logit. All are shrunk toward none, as if further patients had
been found on whom the network is right: as many as differences between hospitals are worth
(docs/calibration.md), so that few headers move little. A wrong header counts less the further off
it is (Huber). A patient counts once, however many images there are.

Whether to move is decided by what it gains on patients that it was not fitted to.
"""

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from dicom_ai_node.inference.calibration import Calibration, CategoryCalibration, sigmoids
from dicom_ai_node.inference.distances import Floats
from dicom_ai_node.inference.intervals import Movement, QuantityCalibration

SHIFT, SLOPE, SIGMA = 15.0, 40.0, 15.0
"""Patients that speak for no shift, for no slope in the estimate and for none in log sigma: of what
n patients say of the shift, n / (n + SHIFT) is taken. Each is s ** 2 / tau ** 2: s the spread of
the errors, tau that of what hospitals differ by (decision 40)."""
BIAS_SD = 1.0
"""The tau of the bias of a tempered logit."""
ENDS = (0.025, 0.975)
"""Quantiles of a site's estimates beyond which too few are left to say how the line goes on."""
ALIKE = 0.01
"""Between the ends: where estimates, or logarithms of sigma, differ by less they tell nothing."""
HUBER = 1.345
"""Residuals that are larger, over their spread, count less: where errors are normal this is as good
as 95 % of the patients (Huber 1964)."""
ROUNDS, SETTLED = 50, 1e-6
RESAMPLES = 1000
AGES = (0, 20, 30, 40, 50, 60, 70, 80, 130)
"""Recorded ages that part the groups of which gains are told."""


@dataclass(frozen=True, slots=True)
class Moves:
    """How the answers of heads are moved, by the names of the heads."""

    movements: Mapping[str, Movement | None] = field(default_factory=dict)
    """Of quantities."""
    biases: Mapping[str, float] = field(default_factory=dict)
    """Of categories of two values."""

    @classmethod
    def of(cls, calibration: Calibration) -> "Moves":
        """Those of a calibration."""
        found = cls()
        for name, one in calibration.root.items():
            if isinstance(one, QuantityCalibration):
                found = found.moving(name, one.movement)
            elif isinstance(one, CategoryCalibration):
                found = found.biasing(name, one.bias)
        return found

    def moving(self, name: str, movement: Movement | None) -> "Moves":
        """The same with another movement of a quantity."""
        return replace(self, movements={**self.movements, name: movement})

    def biasing(self, name: str, bias: float) -> "Moves":
        """The same with another bias of a category."""
        return replace(self, biases={**self.biases, name: bias})


UNMOVED = Moves()


def of_quantity(
    mu: Floats, sigma: Floats, recorded: Floats, patients: NDArray[np.str_]
) -> Movement | None:
    """Return what moves the estimates ``mu`` (N,) toward what is ``recorded``.

    Ridge regression of ``recorded - mu`` on 1, ``mu`` and the logarithm of ``sigma``, both
    standardised, with Huber's weights. The line in ``mu`` never draws estimates together: least
    squares would wherever they are uncertain, and pay with the old for what the many gain.
    None where there is nothing to tell images apart by.
    """
    columns = np.stack([mu, np.log(sigma)], axis=1)
    centres, spreads = columns.mean(axis=0), columns.std(axis=0)
    (low, sure), (high, unsure) = np.quantile(columns, ENDS, axis=0)
    if not high - low > ALIKE:
        return None
    told = [np.ones(len(mu)), (mu - centres[0]) / spreads[0]]
    penalty = [SHIFT, SLOPE]
    if unsure - sure > ALIKE:
        told.append((columns[:, 1] - centres[1]) / spreads[1])
        penalty.append(SIGMA)
    of_all, weights = np.stack(told, axis=1), once(patients)
    found = _ridge(of_all, recorded - mu, weights, np.array(penalty))
    if found[1] < 0:
        others = np.arange(len(penalty)) != 1
        found[others] = _ridge(of_all[:, others], recorded - mu, weights, np.array(penalty)[others])
        found[1] = 0.0
    shift, slope, *more = found

    def knots(
        ends: tuple[float, float], centre: float, slope: float, added: float = 0.0
    ) -> tuple[tuple[float, float], ...]:
        at = [round(float(end), 3) for end in ends]
        return tuple((end, round(float(added + slope * (end - centre)), 3)) for end in at)

    return Movement(
        knots=knots((low, high), centres[0], slope / spreads[0], shift),
        by_sigma=knots((sure, unsure), centres[1], more[0] / spreads[1]) if more else (),
    )


def once(patients: NDArray[np.str_]) -> Floats:
    """Weight of each image: those of a patient have 1 together. Shape (N,)."""
    _, person, images = np.unique(patients, return_inverse=True, return_counts=True)
    return np.asarray(1.0 / images[person])


def _ridge(columns: Floats, wanted: Floats, weights: Floats, penalty: Floats) -> Floats:
    """Coefficients (K,) of ``columns`` (N, K), by iteratively reweighted least squares."""
    found: Floats = np.zeros(columns.shape[1])
    robust = weights
    for _ in range(ROUNDS):
        weighted, last = columns * robust[:, None], found
        squares = weighted.T @ columns + np.diag(penalty)
        found = np.asarray(np.linalg.solve(squares, weighted.T @ wanted), dtype=np.float64)
        if np.abs(found - last).max() < SETTLED:
            break
        off = np.abs(wanted - columns @ found)
        spread = max(1.4826 * float(np.median(off)), 1e-6)
        robust = weights * np.minimum(1.0, HUBER * spread / np.maximum(off, 1e-9))
    return found


def of_category(logits: Floats, first: Floats, patients: NDArray[np.str_]) -> float:
    """Return what to add to tempered ``logits`` (N,): the most probable with a normal prior.

    ``first`` is 1 where the first value is recorded. By Newton's method: the loss is convex.
    """
    weights, found = once(patients), 0.0
    for _ in range(ROUNDS):
        p = sigmoids(logits + found)
        slope = float(weights @ (p - first)) + found / BIAS_SD**2
        step = slope / (float(weights @ (p * (1 - p))) + BIAS_SD**-2)
        found -= float(np.clip(step, -1.0, 1.0))
        if abs(step) < SETTLED:
            break
    return found


class Gain(BaseModel):
    """What moving does to the images of one group."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: str = Field("", exclude_if=operator.not_)
    """Recorded ages, such as ``70-79``; '' are all images."""
    images: int
    before: float
    """Mean absolute error, in the unit of the quantity; of a category the log loss, nats."""
    after: float
    bias_before: float
    """Mean of what is said less what is recorded; of a category of the first one's probability."""
    bias_after: float
    gain: float
    """:attr:`before` less :attr:`after`."""
    low: float
    """95 % interval of the gain: patients are drawn again with all their images."""
    high: float


class Moved(BaseModel):
    """What moving the answers of one head gains, on patients that it was not fitted to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    head: str
    packed: bool
    """Whether the bundle moves them: only where the gain's interval holds no loss."""
    of_all: Gain
    by_age: tuple[Gain, ...] = Field((), exclude_if=operator.not_)
    """Of an age, by recorded decade."""


Said = tuple[Floats, Floats]
"""Of each image the size of the error and the error, each of shape (N,)."""


def gain(before: Said, after: Said, patients: NDArray[np.str_], group: str = "") -> Gain:
    """Hold what is said after moving against what was said before, of the same images."""
    gained = before[0] - after[0]
    low, high = interval(gained, patients)
    return Gain(
        group=group,
        images=len(gained),
        before=round(float(before[0].mean()), 4),
        after=round(float(after[0].mean()), 4),
        bias_before=round(float(before[1].mean()), 4),
        bias_after=round(float(after[1].mean()), 4),
        gain=round(float(gained.mean()), 4),
        low=round(low, 4),
        high=round(high, 4),
    )


def gains_by_age(
    before: Said, after: Said, patients: NDArray[np.str_], years: Floats
) -> tuple[Gain, ...]:
    """The same of each decade of recorded age in which there is a patient."""
    found = []
    for first, last in pairwise(AGES):
        chosen = (years >= first) & (years < last)
        if chosen.any():
            of_group = [(size[chosen], error[chosen]) for size, error in (before, after)]
            name = f"{first}-{last - 1}" if last < AGES[-1] else f"{first}+"
            found.append(gain(of_group[0], of_group[1], patients[chosen], name))
    return tuple(found)


def interval(values: Floats, patients: NDArray[np.str_]) -> tuple[float, float]:
    """95 % interval of the mean of ``values`` (N,) by drawing patients again, :data:`RESAMPLES`."""
    _, person = np.unique(patients, return_inverse=True)
    sums, images = np.bincount(person, values), np.bincount(person)
    drawn = np.random.default_rng(0).multinomial(
        len(sums), np.full(len(sums), 1 / len(sums)), size=RESAMPLES
    )
    low, high = np.quantile(drawn @ sums / (drawn @ images), (0.025, 0.975))
    return float(low), float(high)
