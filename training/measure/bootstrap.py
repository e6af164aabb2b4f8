"""Intervals from resampling patients, all resamples at once. Pure numpy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from training.measure.metrics import Floats

RESAMPLES = 1000
AT_ONCE = 20_000_000
"""Weights that a statistic is given at a time: it makes several copies of them."""
Statistic = Callable[..., Floats]
"""Weights (R, N) and columns (N,) to R values, see :mod:`training.measure.metrics`."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its 95 % interval (percentiles of the resamples)."""

    value: float
    low: float
    high: float


def resamples(patients: Sequence[str], *, count: int = RESAMPLES, seed: int = 0) -> Floats:
    """How often each image is in each of ``count`` resamples, shape (count, N).

    Patients are drawn with replacement, as many as there are, and bring all their images: images of
    one patient are not independent.
    """
    _, person = np.unique(np.asarray(patients), return_inverse=True)
    people = int(person.max()) + 1
    drawn = np.random.default_rng(seed).integers(people, size=(count, people))
    drawn += people * np.arange(count)[:, None]
    times = np.bincount(drawn.ravel(), minlength=count * people).reshape(count, people)
    return times[:, person].astype(np.float64)


def value(statistic: Statistic, *columns: Floats) -> float:
    """``statistic`` of the images as they are, each once."""
    return float(statistic(np.ones((1, len(columns[0]))), *columns)[0])


def estimate(statistic: Statistic, weights: Floats, *columns: Floats) -> Estimate:
    """``statistic`` with its interval over the resamples ``weights``.

    Resamples that leave it undefined (one sex only, for an AUC) are left out.
    """
    rows = max(AT_ONCE // weights.shape[1], 1)
    some = (weights[first : first + rows] for first in range(0, len(weights), rows))
    found = np.concatenate([statistic(part, *columns) for part in some])
    found = found[~np.isnan(found)]
    if not len(found):
        return Estimate(value(statistic, *columns), float("nan"), float("nan"))
    low, high = np.percentile(found, [2.5, 97.5])
    return Estimate(value(statistic, *columns), float(low), float(high))
