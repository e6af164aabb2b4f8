"""Statistics of estimates over weighted images, with intervals from resampling patients. Pure.

Every statistic takes weights of shape (R, N), one row a resample, and columns of shape (N,), and
gives R values; NaN where a resample leaves it undefined. A row of ones gives the figure itself, the
rows of :func:`resamples` its interval: a thousand of them are one product of matrices.

Ages and widths are in years. ``female`` is 1 or 0, ``p`` the probability of female.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

Statistic = Callable[..., Floats]
"""Weights (R, N) and columns (N,) to R values, see :mod:`training.measure.metrics`."""

BINS = 10
"""Equal bins of P(female) for calibration."""

NORMAL95 = 1.959964
"""Two-sided 95 % point of the normal distribution."""

RESAMPLES = 1000

AT_ONCE = 20_000_000
"""Weights that a statistic is given at a time: it makes several copies of them."""


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


def mean(weights: Floats, values: Floats) -> Floats:
    """Weighted mean of ``values``."""
    return np.asarray(weights @ values / weights.sum(axis=1))


def mae(weights: Floats, mu: Floats, years: Floats) -> Floats:
    """Mean absolute error."""
    return mean(weights, np.abs(mu - years))


def rmse(weights: Floats, mu: Floats, years: Floats) -> Floats:
    """Root of the mean squared error."""
    return np.sqrt(mean(weights, np.square(mu - years)))


def bias(weights: Floats, mu: Floats, years: Floats) -> Floats:
    """Mean of estimate minus recorded."""
    return mean(weights, mu - years)


def r2(weights: Floats, mu: Floats, years: Floats) -> Floats:
    """Share of the variance that is explained; below 0 when the mean would do better."""
    centred = years - years.mean()
    variance = mean(weights, np.square(centred)) - np.square(mean(weights, centred))
    return 1 - _ratio(mean(weights, np.square(mu - years)), variance)


def icc(weights: Floats, *raters: Floats) -> Floats:
    """ICC(2,1): two-way random effects, absolute agreement, single rater.

    Shrout & Fleiss 1979, Psychological Bulletin 86:420; the raters here are the network and the
    record.
    """
    ratings = np.stack(raters)
    ratings = ratings - ratings.mean()
    k, n = len(ratings), weights.sum(axis=1)
    by_image, by_rater = ratings.mean(axis=0), weights @ ratings.T / n[:, None]
    grand = by_rater.mean(axis=1)
    total = weights @ np.square(ratings).sum(axis=0) - n * k * np.square(grand)
    images = k * (weights @ np.square(by_image) - n * np.square(grand))
    between = n * np.square(by_rater - grand[:, None]).sum(axis=1)
    rest = np.maximum(total - images - between, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        msr, msc = images / (n - 1), between / (k - 1)
        mse = rest / ((n - 1) * (k - 1))
        return np.asarray((msr - mse) / (msr + (k - 1) * mse + k * (msc - mse) / n))


def limits_of_agreement(weights: Floats, mu: Floats, years: Floats, *, side: int) -> Floats:
    """Bland-Altman limit: bias plus ``side`` (-1 or 1) times 1.96 standard deviations."""
    error = mu - years
    centre = mean(weights, error)
    n = weights.sum(axis=1)
    variance = (mean(weights, np.square(error)) - np.square(centre)) * n / np.maximum(n - 1, 1)
    return np.asarray(centre + side * NORMAL95 * np.sqrt(np.maximum(variance, 0.0)))


def auc(weights: Floats, score: Floats, positive: Floats) -> Floats:
    """Area under the ROC curve, ties counted half; NaN when one class is missing."""
    order = np.argsort(score, kind="stable")
    first = np.flatnonzero(np.diff(score[order], prepend=-np.inf))  # of each run of ties
    ups = np.add.reduceat((weights * positive)[:, order], first, axis=1)
    downs = np.add.reduceat((weights * (1 - positive))[:, order], first, axis=1)
    below = np.cumsum(downs, axis=1) - downs
    won = (ups * (below + downs / 2)).sum(axis=1)
    return _ratio(won, ups.sum(axis=1) * downs.sum(axis=1))


def accuracy(weights: Floats, p: Floats, female: Floats) -> Floats:
    """Share of images on the right side of one half."""
    return mean(weights, right(p, female).astype(np.float64))


def accuracy_of_surest(weights: Floats, p: Floats, female: Floats, *, share: float) -> Floats:
    """Accuracy when the ``share`` of least sure images is left out."""
    order = np.argsort(-np.abs(p - 0.5), kind="stable")
    ordered = weights[:, order]
    room = np.round(ordered.sum(axis=1, keepdims=True) * (1 - share))
    used = np.clip(room - (np.cumsum(ordered, axis=1) - ordered), 0.0, ordered)
    return mean(used, right(p, female)[order].astype(np.float64))


def aurc(weights: Floats, doubt: Floats, error: Floats) -> Floats:
    """Area under the risk-coverage curve: the mean error of the surest, averaged over all shares.

    El-Yaniv & Wiener 2010; Geifman & El-Yaniv 2019. The surest have the least ``doubt``.
    """
    order = np.argsort(doubt, kind="stable")
    ordered = weights[:, order]
    counted = np.cumsum(ordered, axis=1)
    risk = np.cumsum(ordered * error[order], axis=1) / np.maximum(counted, 1e-9)
    return np.asarray((ordered * risk).sum(axis=1) / ordered.sum(axis=1))


def brier(weights: Floats, p: Floats, female: Floats) -> Floats:
    """Mean squared error of the probability."""
    return mean(weights, np.square(p - female))


def calibration_error(weights: Floats, p: Floats, female: Floats) -> Floats:
    """Expected calibration error over :data:`BINS` equal bins of P(female)."""
    members = bin_of(p)[:, None] == np.arange(BINS)
    gaps = weights @ ((p - female)[:, None] * members)
    return np.asarray(np.abs(gaps).sum(axis=1) / weights.sum(axis=1))


def right(p: Floats, female: Floats) -> Bools:
    """Whether one half parts each image correctly."""
    return np.asarray((p >= 0.5) == (female == 1))


def bin_of(p: Floats) -> NDArray[np.int64]:
    """Bin of each probability, 0 to :data:`BINS` - 1."""
    return np.minimum((p * BINS).astype(np.int64), BINS - 1)


def reliability(p: Floats, female: Floats) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Mean probability, share of females and number of images of every bin that has any."""
    bins = bin_of(p)
    used = np.unique(bins)
    stated = np.array([p[bins == b].mean() for b in used])
    seen = np.array([female[bins == b].mean() for b in used])
    return stated, seen, np.bincount(bins)[used]


def _ratio(above: Floats, below: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below == 0, np.nan, above / below)
