"""How well a calibration covers cases whose answers are known. Pure numpy."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from dicom_ai_node.inference.calibration import Calibration
from dicom_ai_node.inference.distances import Distances, Far, Floats, excess
from dicom_ai_node.inference.fitting import Cases
from dicom_ai_node.inference.heads import CategoryHead, QuantityHead
from dicom_ai_node.inference.intervals import LEVELS, Predicted

FOLDS = 10
"""Nine tenths of the patients calibrate a fold, nearly as many as the calibration that is kept."""
Bounds = tuple[Floats, Floats]
"""Lower and upper ends, each of shape (N, levels), levels as in ``LEVELS``."""
Fit = Callable[[NDArray[np.bool_]], Calibration]
"""Calibrates on those cases that a mask chooses, and on nothing else."""


class Covered(BaseModel):
    """Share of recorded values within the intervals of one level, and the intervals' mean width."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: str
    coverage: float
    width: float
    """In the quantity's unit."""


def intervals(
    fitted: Calibration, reference: Distances, cases: Cases, head: QuantityHead
) -> Bounds:
    """Intervals of ``cases`` by a calibration and the distances that it goes with."""
    far = Far.of(cases.distances, reference)
    predicted = fitted.predicted(cases.heads, cases.raw, far)
    mu, sigma = predicted[head.name], cases.raw[head.name][:, 1]
    low = np.empty((len(cases), len(LEVELS)))
    high = low.copy()
    for at, level in enumerate(LEVELS):
        low[:, at], high[:, at] = fitted.quantity(head.name).intervals(
            mu, sigma, level, predicted=predicted, excess=far.excess, bounds=head.bounds
        )
    return low, high


def cross_fitted(
    cases: Cases, fit: Fit, head: QuantityHead, near: NDArray[np.bool_] | None = None
) -> Bounds:
    """Intervals of ``cases``, each by a calibration that has not seen the patient.

    For images that a calibration is made of: its own intervals would cover them by construction.
    Each of :data:`FOLDS` parts of the patients gets those calibrated on the others. The distances
    of those that ``near`` chooses are the reference, of all without it.
    """
    near = np.ones(len(cases), dtype=np.bool_) if near is None else near
    low = np.full((len(cases), len(LEVELS)), np.nan)
    high = low.copy()
    for rest, here in folds(cases):
        reference = cases.at(rest & near).labelled.reference
        low[here], high[here] = intervals(fit(rest), reference, cases.at(here), head)
    return low, high


def cross_predicted(cases: Cases, fit: Callable[[Cases], Calibration]) -> Predicted:
    """What is said of labelled ``cases``, each by a calibration that has not seen the patient."""
    columns: dict[str, Floats] = {}
    for rest, here in folds(cases):
        some, others = cases.at(rest), cases.at(here)
        far = Far.of(others.distances, some.reference)
        for name, said in fit(some).predicted(cases.heads, others.raw, far).items():
            columns.setdefault(name, np.full(len(cases), np.nan))[here] = said
    return columns


def folds(cases: Cases) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Yield for each of :data:`FOLDS` parts of the patients the images of others, and its own."""
    names, person = np.unique(cases.patients, return_inverse=True)
    fold = np.random.default_rng(0).permutation(len(names))[person] % FOLDS
    for one in np.unique(fold):
        yield fold != one, fold == one


def summary(bounds: Bounds, truth: Floats) -> tuple[Covered, ...]:
    """Coverage of ``truth`` (N,) and mean width at every level."""
    low, high = bounds
    inside = (low <= truth[:, None]) & (truth[:, None] <= high)
    return tuple(
        Covered(
            level=level,
            coverage=round(float(inside[:, at].mean()), 4),
            width=round(float((high - low)[:, at].mean()), 4),
        )
        for at, level in enumerate(LEVELS)
    )


def log_loss(fitted: Calibration, reference: Distances, cases: Cases, head: CategoryHead) -> float:
    """Mean negative log likelihood of the recorded one of two values, nats."""
    far = excess(cases.texture, reference.texture)
    tempered = fitted.category(head.name).tempered(cases.raw[head.name], far)
    signed = np.where(cases.truth[head.name] == 0, tempered, -tempered)
    return float(np.mean(np.logaddexp(0, -signed)))
