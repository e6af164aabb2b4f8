"""Figures of findings: by label AUC, Brier score and calibration error, beside what needs no image.

Labels of fewer than :data:`FEWEST` positives, or negatives, have an AUC that says little: it is
told with its interval and left out of the mean. Pure but for the fit of the baseline.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from dicom_ai_node.inference.bundle import Figure
from training.data.findings import NAMES, targets
from training.data.images import LabelledImage
from training.measure import metrics
from training.measure.metrics import Floats, Statistic, estimate, resamples, value

AUC, MEAN_AUC, POSITIVES = "AUC", "mean AUC", "positives"
BRIER, ERROR = "Brier score", "calibration error"

FEWEST = 10
"""Positives, and negatives, below which a label is left out of the mean."""

PUBLISHED = {"Cardiomegaly": 0.896, "Nodule": 0.655}
"""AUC of the DenseNet-121 study on its test part of ChestX-ray14: its highest and its lowest."""
PUBLISHED_MEAN = (0.826, 0.858)
"""Means over the 14 labels of others, trained on the whole of ChestX-ray14."""


@dataclass(frozen=True, slots=True)
class FindingsTable:
    """What is said and known of N images of one data set; K labels."""

    dataset: str
    patients: NDArray[np.str_]
    known: Floats
    """1, 0 or NaN, shape (N, K)."""
    score: Floats
    """Logits before calibration, shape (N, K): what an AUC is of. Calibrated in parts, the images
    of a part that has few positives would all move against those of the others."""
    probability: Floats
    """Calibrated by images of other patients, shape (N, K)."""
    without_image: Floats
    """What age, sex and view say alone, shape (N, K)."""
    usual: Floats
    """Share of each label among the images that train, shape (K,)."""


def measure(table: FindingsTable, labels: Sequence[str] = NAMES) -> list[Figure]:
    """Every figure of a data set, label by label, then the means."""
    return [
        *(one for at, label in enumerate(labels) for one in _of_label(table, at, label)),
        *_means(table),
    ]


def _of_label(table: FindingsTable, at: int, label: str) -> Iterator[Figure]:
    chosen = ~np.isnan(table.known[:, at])
    there, said = table.known[chosen, at], table.probability[chosen, at]
    if not len(there):
        return
    weights = resamples(table.patients[chosen].tolist())
    figure = partial(_figure, table.dataset, label, weights, there)
    yield Figure(
        dataset=table.dataset, group=label, quantity=POSITIVES, value=there.sum(), n=len(there)
    )
    if 0 < there.sum() < len(there):
        other = value(metrics.auc, table.without_image[chosen, at], there)
        yield figure(AUC, metrics.auc, table.score[chosen, at], other)
    same = np.full(len(there), there.mean())
    usual = np.full(len(there), table.usual[at])
    yield figure(BRIER, metrics.brier, said, value(metrics.brier, same, there))
    yield figure(
        ERROR, metrics.calibration_error, said, value(metrics.calibration_error, usual, there)
    )


def _figure(
    dataset: str,
    label: str,
    weights: Floats,
    there: Floats,
    quantity: str,
    statistic: Statistic,
    said: Floats,
    baseline: float,
) -> Figure:
    found = estimate(statistic, weights, said, there)
    ends = {"low": found.low, "high": found.high}
    return Figure(
        dataset=dataset, group=label, quantity=quantity, n=len(there),
        value=round(found.value, 4), baseline=round(baseline, 4),
        **{name: round(end, 4) for name, end in ends.items() if not np.isnan(end)},
    )  # fmt: skip


def in_mean(known: Floats) -> NDArray[np.int64]:
    """Positions of the labels with enough positives and negatives for the mean."""
    there, not_there = np.sum(known == 1, axis=0), np.sum(known == 0, axis=0)
    return np.flatnonzero(np.minimum(there, not_there) >= FEWEST)


def _means(table: FindingsTable) -> Iterator[Figure]:
    chosen = in_mean(table.known)
    if not len(chosen):
        return
    weights = resamples(table.patients.tolist())

    def mean(weights: Floats, said: Floats) -> Floats:
        each = [_auc(weights, said[:, at], table.known[:, at]) for at in chosen]
        return np.asarray(np.mean(each, axis=0))

    once = np.ones((1, len(table.known)))
    found = mean(weights, table.score)
    low, high = np.nanpercentile(found, [2.5, 97.5])
    yield Figure(
        dataset=table.dataset, quantity=MEAN_AUC, group=f"{len(chosen)} labels",
        value=round(float(mean(once, table.score)[0]), 4), low=round(float(low), 4),
        high=round(float(high), 4), n=len(table.known),
        baseline=round(float(mean(once, table.without_image)[0]), 4),
    )  # fmt: skip


def _auc(weights: Floats, said: Floats, there: Floats) -> Floats:
    known = ~np.isnan(there)
    return metrics.auc(weights[:, known], said[known], there[known])


def without_image(trained: Sequence[LabelledImage], asked: Sequence[LabelledImage]) -> Floats:
    """What logistic regressions on age, sex and view say of ``asked``, shape (N, 14).

    They learn from ``trained``; a label that none, or all, of these show has its share.
    """
    from sklearn.linear_model import LogisticRegression  # takes a second to import

    known, found = targets(trained)[:, 1:], np.empty((len(asked), len(NAMES)))
    inputs, wanted = _header(trained), _header(asked)
    for at in range(len(NAMES)):
        chosen = ~np.isnan(known[:, at])
        there = known[chosen, at]
        if len(np.unique(there)) < 2:
            found[:, at] = there.mean() if len(there) else 0.5
            continue
        fitted = LogisticRegression(max_iter=1000).fit(inputs[chosen], there)
        found[:, at] = fitted.predict_proba(wanted)[:, 1]
    return found


def _header(items: Sequence[LabelledImage]) -> Floats:
    """Age in decades from 50, its square, sex and view; 0 and a mark where one is unknown."""
    age = np.array([(item.age - 50) / 10 for item in items])
    female = np.array([item.female - 0.5 for item in items])
    ap = np.array([{"AP": 0.5, "PA": -0.5}.get(item.view, np.nan) for item in items])
    columns = np.stack([age, np.square(age), female, ap], axis=1)
    return np.concatenate([np.nan_to_num(columns), np.isnan(columns)], axis=1)
