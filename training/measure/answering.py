"""What is answered of a data set, and how well: shares, risk against coverage, cells. Pure.

Answered is what every gate lets pass and the node's policy lets be given, as it is without a
configuration. The order of a risk-coverage curve is the bundle's own uncertainty: the width of the
90 % interval, and how far the sex is from one half. Its thresholds are those that a site may set in
``[policy]``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from dicom_ai_node.config.stages import PolicySettings
from dicom_ai_node.inference.bundle import Figure
from training.measure import metrics
from training.measure.figures import ACCURACY, BIAS, IMAGES, MAE, Scope, coverage, width
from training.measure.metrics import Bools, Floats, resamples
from training.measure.table import OLD, PredictionTable, label

AGE_ANSWERED, SEX_ANSWERED = "age answered", "sex answered"
"""Shares of all images of a data set, those included that a gate refuses."""
AGE_CERTAIN, SEX_CERTAIN = "age certain", "sex certain"
"""Shares that may speak against a record."""
AURC_AGE, AURC_SEX = "age risk over the curve, years", "sex risk over the curve"
"""Mean absolute error, and share of wrong sexes, averaged over all shares of answers, the surest
first; the baseline is an order at random."""
PERFECT = "a perfect order"
"""Group of the same where the smallest errors come first."""

WIDTHS = (20, 25, 30, 35, 40, 45, 50, 60, 80)
"""Of the 90 % interval, years: thresholds of ``policy.max_age_interval``."""
CERTAINTIES = (0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Thresholds of ``policy.min_sex_certainty``."""
BANDS = ((0, 19), (20, 39), (40, 59), (60, 69), (70, 100))
"""Recorded ages of a cell, completed years, both included."""
FEWEST = 20
"""Images of a cell that is reported."""

INSIDE, TOGETHER = ("val", "val_128"), "val and val_128"
"""Sets of the training institution, and the name of both as one."""


def at_most(years: float) -> str:
    """Name of the group of images whose 90 % interval is no wider."""
    return f"interval at most {years:g} years"


def at_least(certainty: float) -> str:
    """Name of the group of images whose sex is no less certain."""
    return f"certainty at least {certainty:g}"


def measure(table: PredictionTable) -> list[Figure]:
    """Figures of every data set of ``table`` with ages or sexes, and of :data:`INSIDE` together."""
    known = table.where(~(np.isnan(table.recorded) & np.isnan(table.female)))
    found: list[Figure] = []
    for name in dict.fromkeys(str(one) for one in known.dataset):
        part, scope = known.of(name), Scope(name)
        found += [*_answered(part, scope), *_of_age(part, scope), *_of_sex(part, scope)]
        found += _cells(part, scope)
    return [*found, *_together(known)]


def _answered(table: PredictionTable, scope: Scope) -> Iterator[Figure]:
    policy, weights = PolicySettings(), resamples(table.patient.tolist())
    wide, sure = age_doubt(table), sex_certainty(table)
    most = np.inf if policy.max_age_interval is None else policy.max_age_interval
    for name, chosen in {
        AGE_ANSWERED: wide <= most,
        SEX_ANSWERED: sure >= policy.min_sex_certainty,
        AGE_CERTAIN: wide <= policy.certain_age_interval,
        SEX_CERTAIN: sure >= policy.certain_sex,
    }.items():
        yield from _share(table, scope, name, chosen & table.answered, weights)


def _of_age(table: PredictionTable, scope: Scope) -> Iterator[Figure]:
    aged = table.where(~np.isnan(table.recorded))
    if not len(aged):
        return
    weights, wide = resamples(aged.patient.tolist()), age_doubt(aged)
    for most in WIDTHS:
        chosen, group = (wide <= most) & aged.answered, replace(scope, group=at_most(most))
        yield from _share(aged, group, AGE_ANSWERED, chosen, weights)
        if chosen.any():
            some = aged.where(chosen)
            drawn = resamples(some.patient.tolist())
            yield from group.measured(MAE, metrics.mae, drawn, some.age, some.recorded)
            low, high = some.interval("90")
            inside = (low <= some.recorded) & (some.recorded <= high)
            yield from group.measured(
                coverage("90"), metrics.mean, drawn, inside.astype(np.float64)
            )
    some = aged.where(aged.answered)
    yield from _curve(AURC_AGE, scope, some, age_doubt(some), np.abs(some.age - some.recorded))


def _of_sex(table: PredictionTable, scope: Scope) -> Iterator[Figure]:
    sexed = table.where(~np.isnan(table.female))
    if not len(sexed):
        return
    weights, sure = resamples(sexed.patient.tolist()), sex_certainty(sexed)
    for least in CERTAINTIES:
        chosen, group = (sure >= least) & sexed.answered, replace(scope, group=at_least(least))
        yield from _share(sexed, group, SEX_ANSWERED, chosen, weights)
        if chosen.any():
            some = sexed.where(chosen)
            drawn = resamples(some.patient.tolist())
            yield from group.measured(ACCURACY, metrics.accuracy, drawn, some.p_female, some.female)
    some = sexed.where(sexed.answered)
    wrong = ~metrics.right(some.p_female, some.female)
    yield from _curve(AURC_SEX, scope, some, -sex_certainty(some), wrong.astype(np.float64))


def _share(
    table: PredictionTable, scope: Scope, name: str, chosen: Bools, weights: Floats
) -> Iterator[Figure]:
    yield from scope.measured(name, metrics.mean, weights, chosen.astype(np.float64))


def _curve(
    name: str, scope: Scope, table: PredictionTable, doubt: Floats, error: Floats
) -> Iterator[Figure]:
    """The mean risk over the curve, and that of a perfect order."""
    if len(table):
        weights = resamples(table.patient.tolist())
        at_random = float(error.mean())
        perfect = replace(scope, group=PERFECT)
        yield from scope.measured(name, metrics.aurc, weights, doubt, error, against=at_random)
        yield from perfect.measured(name, metrics.aurc, weights, error, error, against=at_random)


def _cells(table: PredictionTable, scope: Scope) -> Iterator[Figure]:
    """Coverage, bias and width of each sex, band of age and source with enough images."""
    for name, chosen in cells(table):
        some = table.where(chosen)
        if len(some) < FEWEST:
            continue
        of_cell = replace(scope, group=label("cell", name))
        weights, (low, high) = resamples(some.patient.tolist()), some.interval("90")
        inside = (low <= some.recorded) & (some.recorded <= high)
        yield of_cell.figure(IMAGES, len(some), len(some))
        for quantity, column in (
            (coverage("90"), inside.astype(np.float64)),
            (width("90"), high - low),
            (BIAS, some.age - some.recorded),
        ):
            yield from of_cell.measured(quantity, metrics.mean, weights, column)


def cells(table: PredictionTable) -> Iterator[tuple[str, Bools]]:
    """Name and images of each cell that has any."""
    for source in np.unique(table.source):
        for first, last in BANDS:
            for sex, value in (("female", 1), ("male", 0)):
                of_band = (table.recorded >= first) & (table.recorded < last + 1)
                chosen = (table.source == source) & of_band & (table.female == value)
                if chosen.any():
                    ages = f"{first} to {last}" if last < 100 else f"{first} and over"
                    yield f"{sex}, {ages}, {source}", chosen


def _together(table: PredictionTable) -> Iterator[Figure]:
    """The bias of the old of both sets of the training institution, too few in either alone."""
    old = table.where(np.isin(table.dataset, INSIDE) & (table.recorded >= 70))
    if len(old):
        scope = Scope(TOGETHER, label("age", OLD))
        weights = resamples(old.patient.tolist())
        yield from scope.measured(BIAS, metrics.bias, weights, old.age, old.recorded)


def worst_cell(figures: Sequence[Figure], dataset: str) -> Figure | None:
    """Coverage of the cell that is covered least, None where no cell has enough images."""
    found = [
        one
        for one in figures
        if (one.dataset, one.quantity) == (dataset, coverage("90"))
        and one.group.startswith(label("cell", ""))
    ]
    return min(found, key=lambda one: one.value, default=None)


def curve(table: PredictionTable, doubt: Floats, error: Floats) -> tuple[Floats, Floats]:
    """Shares of answers, and the mean error of the surest such share, of what the gates let pass.

    Shares are of all images of ``table``; ``doubt`` and ``error`` are of all of them, too.
    """
    at = np.flatnonzero(table.answered)
    at = at[np.argsort(doubt[at], kind="stable")]
    number = np.arange(1, len(at) + 1)
    return number / len(table), np.cumsum(error[at]) / number


def age_doubt(table: PredictionTable) -> Floats:
    """What ages are ordered by: the width of their 90 % interval, years."""
    low, high = table.interval("90")
    return high - low


def sex_certainty(table: PredictionTable) -> Floats:
    """Probability of the more probable sex."""
    return np.maximum(table.p_female, 1 - table.p_female)
