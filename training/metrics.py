"""Figures with patient-bootstrap intervals, and coverage by cross-fitting. Pure numpy."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_ai_node.inference import coverage
from dicom_ai_node.inference.fitting import Cases
from training import calibrate

RESAMPLES = 1000
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


def bootstrap(
    statistic: Callable[..., float], patients: list[str], *columns: Floats, seed: int = 0
) -> Estimate:
    """``statistic(*columns)`` with the interval from resampling patients."""
    _, group = np.unique(np.array(patients), return_inverse=True)
    members = [np.flatnonzero(group == g) for g in range(group.max() + 1)]
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(RESAMPLES):
        drawn = rng.integers(0, len(members), len(members))
        at = np.concatenate([members[g] for g in drawn])
        values.append(statistic(*(column[at] for column in columns)))
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return Estimate(statistic(*columns), float(low), float(high))


def mae(mu: Floats, years: Floats) -> float:
    """Mean absolute error."""
    return float(np.mean(np.abs(mu - years)))


def rmse(mu: Floats, years: Floats) -> float:
    """Root of the mean squared error."""
    return float(np.sqrt(np.mean(np.square(mu - years))))


def bias(mu: Floats, years: Floats) -> float:
    """Mean of estimate minus recorded."""
    return float(np.mean(mu - years))


def r2(mu: Floats, years: Floats) -> float:
    """Share of the variance that is explained."""
    return float(1 - np.mean(np.square(mu - years)) / np.var(years))


def auc(score: Floats, positive: Floats) -> float:
    """Area under the ROC curve, ties counted half; NaN when one class is missing."""
    n1 = int(positive.sum())
    n0 = len(positive) - n1
    if not n0 or not n1:
        return float("nan")
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[positive == 1].sum() - n1 * (n1 + 1) / 2) / (n0 * n1))


def accuracy(probability: Floats, positive: Floats) -> float:
    """Share of cases on the right side of one half."""
    return float(np.mean((probability >= 0.5) == (positive == 1)))


def brier(probability: Floats, positive: Floats) -> float:
    """Mean squared error of the probability."""
    return float(np.mean(np.square(probability - positive)))


def calibration_error(probability: Floats, positive: Floats) -> float:
    """Expected calibration error over ten equal bins of P(female)."""
    which = np.minimum((probability * 10).astype(int), 9)
    gaps = [
        abs(probability[which == b].mean() - positive[which == b].mean()) * np.mean(which == b)
        for b in np.unique(which)
    ]
    return float(np.sum(gaps))


def accuracy_of_surest(probability: Floats, positive: Floats, share: float) -> float:
    """Accuracy when the ``share`` of least sure cases is left out."""
    sure = np.argsort(-np.abs(probability - 0.5), kind="stable")
    kept = sure[: round(len(sure) * (1 - share))]
    return accuracy(probability[kept], positive[kept])


def cross_fitted(
    cases: Cases, shifted: Cases | None = None, *, caution: float = 1.0
) -> tuple[coverage.Covered, ...]:
    """Coverage by calibrations that have not seen the patient.

    ``shifted`` are the same patients' images changed on purpose, which the widening is seen on.
    """
    return coverage.summary(calibrate.cross_fitted(cases, shifted, caution=caution), cases.years)
