"""Every figure of an evaluation, computed from its table. Pure.

Each has a patient-bootstrap interval and, where there is one, its baseline: the median age, the
central range of ages and the share of females of the training images, which need no image at all.
For accuracy the baseline is the larger sex of the measured images, for the AUC one half.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from dicom_ai_node.inference.bundle import Figure
from dicom_ai_node.inference.intervals import LEVELS
from training.measure import metrics
from training.measure.metrics import Floats, Statistic, estimate, resamples, value
from training.measure.table import (
    FRONTAL,
    GATES,
    LATERAL,
    OTHER,
    SMALLEST,
    SPOILT,
    PredictionTable,
    groups,
)

MAE, BIAS = "age MAE, years", "age bias, years"

AUC, ACCURACY = "sex AUC", "sex accuracy"

EVERY_GATE = "passes every gate"
IMAGES = "images"
REFUSED = "refused by a gate"
CERTAIN = "sex accuracy where 95 % certain"
ABSTAIN = (0.01, 0.05)

AGE: dict[str, Statistic] = {
    MAE: metrics.mae,
    "age RMSE, years": metrics.rmse,
    "age R2": metrics.r2,
    "age ICC(2,1)": metrics.icc,
    BIAS: metrics.bias,
    "age lower limit of agreement, years": partial(metrics.limits_of_agreement, side=-1),
    "age upper limit of agreement, years": partial(metrics.limits_of_agreement, side=1),
}

SEX: dict[str, Statistic] = {
    AUC: metrics.auc,
    ACCURACY: metrics.accuracy,
    "sex ECE": metrics.calibration_error,
    "sex Brier score": metrics.brier,
} | {
    f"sex accuracy without the least sure {share:.0%}": partial(
        metrics.accuracy_of_surest, share=share
    )
    for share in ABSTAIN
}


def coverage(level: str) -> str:
    """Name of the coverage at ``level`` per cent."""
    return f"age coverage at {level} %"


def width(level: str) -> str:
    """Name of the mean width at ``level`` per cent."""
    return f"age width at {level} %, years"


GROUPED = (MAE, BIAS, coverage("90"), width("90"), AUC, ACCURACY)
"""What is measured of a group; of a whole data set, everything is."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The same answer for everyone, taken from the training images."""

    median: float
    """Their median age, years."""
    ranges: dict[str, tuple[float, float]]
    """For each of ``LEVELS``, the central range of their ages, years."""
    females: float
    """Share of females among them."""


def baseline(years: Floats, female: Floats) -> Baseline:
    """Of training images; NaN where a label is unknown.

    Raises ValueError: no age or no sex is known.
    """
    if np.isnan(years).all() or np.isnan(female).all():
        raise ValueError("training images: expected at least one with an age and one with a sex")
    tails = {level: (100 - float(level)) / 2 for level in LEVELS}
    return Baseline(
        median=float(np.nanmedian(years)),
        ranges={
            level: (
                float(np.nanpercentile(years, tail)),
                float(np.nanpercentile(years, 100 - tail)),
            )
            for level, tail in tails.items()
        },
        females=float(np.nanmean(female)),
    )


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose figures are being made."""

    dataset: str
    group: str = ""
    gated: bool = False

    def figure(self, quantity: str, number: float, n: int) -> Figure:
        """A number without an interval."""
        return Figure(
            dataset=self.dataset, group=self.group, gated=self.gated, quantity=quantity,
            value=round(number, 4), n=n,
        )  # fmt: skip

    def measured(
        self,
        quantity: str,
        statistic: Statistic,
        weights: Floats,
        *columns: Floats,
        against: float | None = None,
    ) -> Iterator[Figure]:
        """One figure with interval and baseline; none where it is undefined."""
        found = estimate(statistic, weights, *columns)
        if np.isnan(found.value):
            return
        plain = self.figure(quantity, found.value, len(columns[0]))
        numbers = {"low": found.low, "high": found.high, "baseline": against}
        known = {k: round(v, 4) for k, v in numbers.items() if v is not None and not np.isnan(v)}
        yield plain.model_copy(update=known)


def measure(table: PredictionTable, baseline: Baseline) -> list[Figure]:
    """Every figure of every data set of ``table``, in its order."""
    names = list(dict.fromkeys(str(name) for name in table.dataset))
    return [figure for name in names for figure in _of_dataset(table.of(name), name, baseline)]


def _of_dataset(table: PredictionTable, name: str, baseline: Baseline) -> Iterator[Figure]:
    labelled = table.where(~(np.isnan(table.recorded) & np.isnan(table.female)))
    if len(labelled):
        for gated in (False, True):
            part = labelled.where(labelled.answered) if gated else labelled
            if len(part):
                yield from _estimates(part, Scope(name, gated=gated), baseline)
        for group in groups(labelled):
            yield from _of_group(labelled.where(group.chosen), name, group.label, baseline)
    yield from _gates(table, Scope(name))
    if not len(labelled) and not (table.kind == SPOILT).any():
        yield from _gate_material(table, name)


def _of_group(
    table: PredictionTable, name: str, group: str, baseline: Baseline
) -> Iterator[Figure]:
    plain = Scope(name, group)
    yield plain.figure(IMAGES, len(table), len(table))
    yield plain.figure(REFUSED, int((~table.answered).sum()), len(table))
    for gated in (False, True):
        part = table.where(table.answered) if gated else table
        if len(part) >= SMALLEST:
            scope = Scope(name, group, gated)
            yield from _estimates(part, scope, baseline)


def _estimates(table: PredictionTable, scope: Scope, baseline: Baseline) -> Iterator[Figure]:
    aged, sexed = table.where(~np.isnan(table.recorded)), table.where(~np.isnan(table.female))
    if len(aged):
        yield from _age(aged, scope, baseline)
    if len(sexed):
        yield from _sex(sexed, scope, baseline)


def _age(table: PredictionTable, scope: Scope, baseline: Baseline) -> Iterator[Figure]:
    weights, years = resamples(table.patient.tolist()), table.recorded
    same = np.full(len(table), baseline.median)
    for name, statistic in _wanted(AGE, scope):
        yield from scope.measured(
            name, statistic, weights, table.age, years, against=value(statistic, same, years)
        )
    for level in LEVELS:
        if scope.group and coverage(level) not in GROUPED:
            continue
        low, high = table.interval(level)
        inside = ((years >= low) & (years <= high)).astype(np.float64)
        first, last = baseline.ranges[level]
        usual = float(np.mean((years >= first) & (years <= last)))
        yield from scope.measured(coverage(level), metrics.mean, weights, inside, against=usual)
        yield from scope.measured(
            width(level), metrics.mean, weights, high - low, against=last - first
        )


def _sex(table: PredictionTable, scope: Scope, baseline: Baseline) -> Iterator[Figure]:
    weights, p, female = resamples(table.patient.tolist()), table.p_female, table.female
    same, larger = np.full(len(table), baseline.females), max(female.mean(), 1 - female.mean())
    for name, statistic in _wanted(SEX, scope):
        against = larger if name.startswith(ACCURACY) else value(statistic, same, female)
        yield from scope.measured(
            name, statistic, weights, p, female, against=None if np.isnan(against) else against
        )
    certain = np.maximum(p, 1 - p) >= 0.95
    if scope.gated and not scope.group and certain.any():
        weights = resamples(table.patient[certain].tolist())
        yield from scope.measured(
            CERTAIN, metrics.accuracy, weights, p[certain], female[certain], against=larger
        )


def _wanted(statistics: dict[str, Statistic], scope: Scope) -> Iterator[tuple[str, Statistic]]:
    return ((k, v) for k, v in statistics.items() if not scope.group or k in GROUPED)


def _gates(table: PredictionTable, scope: Scope) -> Iterator[Figure]:
    """Share of images that each gate lets pass, and that all do."""
    weights = resamples(table.patient.tolist())
    for gate, passed in zip(GATES, table.passed.T, strict=True):
        yield from scope.measured(
            f"passes {gate}", metrics.mean, weights, passed.astype(np.float64)
        )
    yield from scope.measured(EVERY_GATE, metrics.mean, weights, table.answered.astype(np.float64))


def _gate_material(table: PredictionTable, name: str) -> Iterator[Figure]:
    """By kind, and by kind and source."""
    for kind in (OTHER, LATERAL, FRONTAL):
        part = table.where(table.kind == kind)
        if len(part):
            yield from _gates(part, Scope(name, kind))
        for source in np.unique(part.source):
            yield from _gates(part.where(part.source == source), Scope(name, f"{kind}: {source}"))


def find(
    figures: Sequence[Figure], dataset: str, quantity: str, *, group: str = "", gated: bool = False
) -> Figure | None:
    """The figure of that name, None when it was not measured."""
    wanted = (dataset, quantity, group, gated)
    found = (f for f in figures if (f.dataset, f.quantity, f.group, f.gated) == wanted)
    return next(found, None)
