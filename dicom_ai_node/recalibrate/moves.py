"""What a site's records move, decided by what it gains on patients that it was not fitted to.

The rule: a head is moved where the 95 % interval of its gain holds no loss. Another one stays where
the bundle has it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dicom_ai_node.inference import coverage, fitting, movement, quantiles
from dicom_ai_node.inference.calibration import Calibration
from dicom_ai_node.inference.distances import Far
from dicom_ai_node.inference.fitting import Cases
from dicom_ai_node.inference.heads import AGE, CategoryHead, Head, QuantityHead
from dicom_ai_node.inference.intervals import Predicted, QuantityCalibration
from dicom_ai_node.inference.movement import Gain, Moved, Moves, Said

Fit = Callable[[Cases, frozenset[str]], Calibration]
"""Calibrates on cases, moving the heads of these names."""


@dataclass(frozen=True, slots=True)
class Decided:
    """Which heads are moved, and what moving each gains or would gain."""

    heads: frozenset[str]
    told: tuple[Moved, ...]


def decide(cases: Cases, fit: Fit) -> Decided:
    """Say of each head with a truth what moving it gains, and which of them gain enough."""
    heads = movable(cases)
    names = frozenset(head.name for head in heads)
    before = coverage.cross_predicted(cases, lambda some: fit(some, frozenset()))
    after = coverage.cross_predicted(cases, lambda some: fit(some, names))
    told = tuple(_told(cases, head, before, after) for head in heads)
    return Decided(frozenset(moved.head for moved in told if moved.packed), told)


def movable(cases: Cases) -> list[Head]:
    """Heads with a truth of which there is a movement: numbers, and categories of two values."""
    return [
        head
        for head in cases.heads
        if head.name in cases.truth
        and (
            isinstance(head, QuantityHead)
            or (isinstance(head, CategoryHead) and len(head.values) == 2)
        )
    ]


def fitted(cases: Cases, old: Calibration, heads: frozenset[str]) -> Moves:
    """Fit how ``heads`` are moved to labelled cases; any other stays where ``old`` has it."""
    found = Moves.of(old)
    for head in movable(cases):
        raw, truth = cases.raw[head.name], cases.truth[head.name]
        if head.name not in heads:
            continue
        if isinstance(head, QuantityHead):
            mu, sigma = raw.T
            found = found.moving(head.name, movement.of_quantity(mu, sigma, truth, cases.patients))
        elif isinstance(head, CategoryHead):
            plain = fitting.category(cases, head, old.category(head.name).widening)
            far = Far.of(cases.distances, cases.reference)
            tempered = plain.tempered(raw, plain.excess(far))
            bias = movement.of_category(tempered, 1.0 - truth, cases.patients)
            found = found.biasing(head.name, bias)
    return found


def fit_of(old: Calibration) -> Fit:
    """Return what calibrates anew on some cases what ``old`` calibrates, and moves some heads."""
    calibrations = old.root
    widening = {name: calibration.widening for name, calibration in calibrations.items()}
    smallest = {
        calibration.smallest_group
        for calibration in calibrations.values()
        if isinstance(calibration, QuantityCalibration)
    }
    tilted = any(
        bool(one.tilt) for one in calibrations.values() if isinstance(one, QuantityCalibration)
    )

    def fit(cases: Cases, moved: frozenset[str]) -> Calibration:
        made = fitting.fit(
            cases,
            widening,
            smallest=max(smallest, default=quantiles.SMALLEST_GROUP),
            tilted=tilted,
            moves=fitted(cases, old, moved),
        )
        return Calibration({**calibrations, **made.root})  # a head without truth keeps its own

    return fit


def _told(cases: Cases, head: Head, before: Predicted, after: Predicted) -> Moved:
    was, now = (_said(cases, head, predicted) for predicted in (before, after))
    gain = movement.gain(was, now, cases.patients)
    by_age: tuple[Gain, ...] = ()
    if head.name == AGE.name:
        by_age = movement.gains_by_age(was, now, cases.patients, cases.truth[head.name])
    return Moved(head=head.name, packed=gain.low > 0, of_all=gain, by_age=by_age)


def _said(cases: Cases, head: Head, predicted: Predicted) -> Said:
    truth = cases.truth[head.name]
    if isinstance(head, CategoryHead):
        first = predicted[f"{head.name}.{head.values[0]}"]
        recorded = np.where(truth == 0, first, 1.0 - first)
        return -np.log(np.maximum(recorded, LEAST)), first - (truth == 0)
    error = predicted[head.name] - truth
    return np.abs(error), error


LEAST = 1e-12
"""Probability below which a log loss is not told."""
