"""A bundle's predictions of labelled images, as the table that everything is measured from."""

from collections.abc import Mapping
from functools import partial

import numpy as np

from dicom_ai_node.answers import Prediction
from dicom_ai_node.inference import coverage
from dicom_ai_node.inference.coverage import Bounds
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.inference.fitting import Cases
from dicom_ai_node.inference.heads import AGE, SEX
from dicom_ai_node.inference.intervals import LEVELS
from training.data import images as data
from training.fit import calibrate
from training.fit.calibrate import CHANGED, Change, calibration_cases, cases, measured
from training.measure.table import FRONTAL, GATES, LATERAL, OTHER, SPOILT, PredictionTable

SPOIL: dict[str, Change] = {
    "turned by 90": partial(np.rot90, k=1, axes=(1, 2)),
    "turned by 180": partial(np.rot90, k=2, axes=(1, 2)),
    "turned by 270": partial(np.rot90, k=3, axes=(1, 2)),
    "upside down": lambda x: x[:, ::-1],
    "inverted": lambda x: 1 - x,
}
"""What an image must not be accepted as."""


def predict(estimator: Estimator, images: data.Images, dataset: str) -> PredictionTable:
    """Predictions of ``images``, which have not calibrated the bundle."""
    raw, distances = measured(estimator.measure, images)
    bounds = _shipped(estimator, cases(raw, distances, images))
    return _table(estimator, images, estimator.calibrated(raw, distances), bounds, dataset)


def cross_fitted(
    estimator: Estimator, parts: Mapping[str, data.Images]
) -> dict[str, PredictionTable]:
    """Predictions of the data sets that have calibrated the bundle together, by their names.

    The shipped intervals would cover such images by construction: theirs are cross-fitted. The
    first set is the one whose changed copies and distances the calibration goes by.
    """
    said = {name: measured(estimator.measure, images) for name, images in parts.items()}
    first, *others = [cases(*said[name], images) for name, images in parts.items()]
    changed = calibration_cases(estimator.measure, next(iter(parts.values())), changed=True)
    low, high = calibrate.cross_fitted(
        first,
        changed,
        beside=Cases.joined(others) if others else None,
        caution=estimator.manifest.training.caution,
    )
    ends = np.cumsum([len(images) for images in parts.values()])[:-1]
    bounds = zip(np.split(low, ends), np.split(high, ends), strict=True)
    return {
        name: _table(estimator, images, estimator.calibrated(*said[name]), of_set, name)
        for (name, images), of_set in zip(parts.items(), bounds, strict=True)
    }


def spoilt(estimator: Estimator, images: data.Images, dataset: str) -> list[PredictionTable]:
    """A table for each of :data:`SPOIL`: ``images`` changed so that no gate should accept them."""
    tables, images = [], images.some(CHANGED)
    for name, change in SPOIL.items():
        raw, distances = measured(estimator.measure, images, change)
        bounds = _shipped(estimator, cases(raw, distances, images))
        predictions = estimator.calibrated(raw, distances)
        tables.append(
            _table(estimator, images, predictions, bounds, f"{dataset}, {name}", kind=SPOILT)
        )
    return tables


def _shipped(estimator: Estimator, found: Cases) -> Bounds:
    return coverage.intervals(estimator.manifest.calibration, estimator.reference, found, AGE)


def _table(
    estimator: Estimator,
    images: data.Images,
    predictions: list[Prediction],
    bounds: Bounds,
    dataset: str,
    kind: str = "",
) -> PredictionTable:
    items, n = images.items, len(images.items)
    spoilt = kind == SPOILT
    unknown = np.full(n, np.nan)
    passing = [{**p.gates, "in_distribution": p.in_distribution} for p in predictions]
    scores = np.array([[one[gate] for gate in GATES] for one in passing]).reshape(n, len(GATES))
    thresholds = np.array([estimator.manifest.thresholds[gate] for gate in GATES])
    ages = [p.quantity(AGE.name) for p in predictions]
    low, high = (ends.reshape(n, len(LEVELS)) for ends in bounds)
    return PredictionTable(
        dataset=np.array([dataset] * n, dtype=np.str_),
        kind=np.array([kind or kind_of(item) for item in items], dtype=np.str_),
        image=np.array([item.path for item in items], dtype=np.str_),
        patient=np.array([item.patient for item in items], dtype=np.str_),
        source=np.array([item.source for item in items], dtype=np.str_),
        view=np.array([item.view for item in items], dtype=np.str_),
        recorded=unknown if spoilt else images.column("age").astype(np.float64),
        female=unknown if spoilt else images.column("female").astype(np.float64),
        age=np.array([age.mu for age in ages], dtype=np.float64),
        sd=np.array([age.sigma for age in ages], dtype=np.float64),
        low=low,
        high=high,
        p_female=np.array([female(p) for p in predictions], dtype=np.float64),
        gates=scores,
        passed=scores >= thresholds,
    )


def female(prediction: Prediction) -> float:
    """The probability of female."""
    return prediction.category(SEX.name).probabilities["F"]


def kind_of(item: data.LabelledImage) -> str:
    """What an image shows: one of the kinds of :mod:`training.measure.table`."""
    if item.chest == 0:
        return OTHER
    return LATERAL if item.frontal == 0 else FRONTAL
