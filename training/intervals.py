"""Age intervals of an evaluation: the bundle's own, and cross-fitted ones where it was calibrated.

The only place of the evaluation that knows how intervals are calibrated.
"""

from collections.abc import Sequence

import numpy as np

from dicom_ai_node.inference.calibration import LEVELS, AgeCalibration
from dicom_ai_node.types import Prediction
from training import calibrate
from training.metrics import Bools, Floats

FOLDS = 10
"""Ninety per cent of the patients calibrate, nearly as many as ship."""

Bounds = tuple[Floats, Floats]
"""Lower and upper ends in years, each of shape (N, levels)."""


def shipped(age: AgeCalibration, predictions: Sequence[Prediction]) -> Bounds:
    """Intervals of ``predictions`` at each of ``LEVELS``, as the bundle gives them."""
    low, high = _bounds(age, age.sd_scale, predictions)
    at = LEVELS.index("90")
    low[:, at], high[:, at] = np.array([p.age_interval90 for p in predictions]).T
    return low, high


def cross_fitted(
    age: AgeCalibration, predictions: Sequence[Prediction], years: Floats, patients: Sequence[str]
) -> Bounds:
    """Intervals from a calibration that has not seen the patient.

    For images that the bundle is calibrated on, where the shipped intervals would cover what they
    say by construction. Each tenth of the patients gets intervals calibrated on the other nine.
    """
    names, person = np.unique(np.asarray(patients), return_inverse=True)
    fold = np.random.default_rng(0).permutation(len(names))[person] % FOLDS
    low = np.full((len(predictions), len(LEVELS)), np.nan)
    high = low.copy()
    for one in np.unique(fold):
        fit, here = (fold != one) & ~np.isnan(years), fold == one
        fitted = _fitted(age.sd_scale, _chosen(predictions, fit), years[fit])
        low[here], high[here] = _bounds(fitted, age.sd_scale, _chosen(predictions, here))
    return low, high


def _fitted(scale: float, predictions: Sequence[Prediction], years: Floats) -> AgeCalibration:
    """Calibrate anew; ``scale`` is the one that ``predictions`` were made with."""
    mu = np.array([p.age for p in predictions], dtype=np.float32)
    sigma = np.array([p.age_sd / scale for p in predictions], dtype=np.float32)
    return calibrate.age(mu, sigma, years.astype(np.float32))


def _bounds(age: AgeCalibration, scale: float, predictions: Sequence[Prediction]) -> Bounds:
    ends = [[age.interval(p.age, p.age_sd / scale, level) for level in LEVELS] for p in predictions]
    both = np.array(ends, dtype=np.float64).reshape(-1, len(LEVELS), 2)
    return both[..., 0].copy(), both[..., 1].copy()


def _chosen(predictions: Sequence[Prediction], mask: Bools) -> list[Prediction]:
    return [p for p, use in zip(predictions, mask, strict=True) if use]
