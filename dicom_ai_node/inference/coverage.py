"""How often calibrated intervals cover, and how wide they are. Pure numpy."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from dicom_ai_node.inference import calibration
from dicom_ai_node.inference.calibration import LEVELS, Calibration, Distances
from dicom_ai_node.inference.fitting import Cases, Floats

FOLDS = 10
"""Nine tenths of the patients calibrate a fold, nearly as many as the calibration that is kept."""

Bounds = tuple[Floats, Floats]
"""Lower and upper ends in years, each of shape (N, levels), levels as in ``LEVELS``."""
Fit = Callable[[NDArray[np.bool_]], Calibration]
"""Calibrates on those cases that a mask chooses, and on nothing else."""


class Covered(BaseModel):
    """Share of recorded ages within the intervals of one level, and the intervals' mean width."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: str
    coverage: float
    width: float
    """Years."""


def intervals(fitted: Calibration, reference: Distances, cases: Cases) -> Bounds:
    """Intervals of ``cases`` by a calibration and the distances that it goes with."""
    low = np.empty((len(cases), len(LEVELS)))
    high = low.copy()
    for at, level in enumerate(LEVELS):
        low[:, at], high[:, at] = fitted.age.intervals(
            cases.mu,
            cases.sigma,
            level,
            p_female=calibration.sigmoids(cases.sex),
            p_value=calibration.p_value(cases.texture, reference.texture),
            excess=calibration.excess(cases.texture, reference.texture),
        )
    return low, high


def cross_fitted(cases: Cases, fit: Fit) -> Bounds:
    """Intervals of ``cases``, each by a calibration that has not seen the patient.

    For images that a calibration is made of: its own intervals would cover them by construction.
    Each of :data:`FOLDS` parts of the patients gets those calibrated on the others.
    """
    names, person = np.unique(cases.patients, return_inverse=True)
    fold = np.random.default_rng(0).permutation(len(names))[person] % FOLDS
    low = np.full((len(cases), len(LEVELS)), np.nan)
    high = low.copy()
    for one in np.unique(fold):
        rest, here = fold != one, fold == one
        reference = cases.at(rest).labelled.reference
        low[here], high[here] = intervals(fit(rest), reference, cases.at(here))
    return low, high


def summary(bounds: Bounds, years: Floats) -> tuple[Covered, ...]:
    """Coverage of ``years`` (N,) and mean width at every level."""
    low, high = bounds
    inside = (low <= years[:, None]) & (years[:, None] <= high)
    return tuple(
        Covered(
            level=level,
            coverage=round(float(inside[:, at].mean()), 4),
            width=round(float((high - low)[:, at].mean()), 4),
        )
        for at, level in enumerate(LEVELS)
    )


def sex_log_loss(fitted: Calibration, reference: Distances, cases: Cases) -> float:
    """Mean negative log likelihood of the recorded sex, nats."""
    excess = calibration.excess(cases.texture, reference.texture)
    tempered = cases.sex / (fitted.sex.temperature * fitted.sex.widening.factors(excess))
    signed = np.where(cases.female == 1, tempered, -tempered)
    return float(np.mean(np.logaddexp(0, -signed)))
