"""What a network says of images, a part of them at a time: an archive does not fit into memory."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dicom_ai_node.inference.calibration import Distances
from dicom_ai_node.inference.engine import Raw, run
from dicom_ai_node.inference.fitting import Cases
from dicom_ai_node.inference.network import Network
from training.data import shift
from training.data.images import Images
from training.fit import calibrate

CHANGED_COPIES = 8
"""Changed copies of each calibration image that the widening is fitted on."""
CHANGED = 2400
"""Where there are twice as many calibration images or more, only so many are changed, or spoilt."""

Pixels = NDArray[np.float32]
Change = Callable[[Pixels], Pixels]
"""From (N, S, S) to (N, S, S)."""
_Columns = TypeVar("_Columns", Raw, Distances)
Measure = Callable[[Pixels], tuple[Raw, Distances]]
"""Answers, and distances from the training images."""


def answers(network: Network, images: Images, device: str = "cpu") -> Raw:
    """What ``network`` says of at least one of ``images``."""
    return _joined(Raw, [run(network, part, device=device) for part in images.floats()])


def measured(
    measure: Measure, images: Images, change: Change = lambda x: x
) -> tuple[Raw, Distances]:
    """What ``measure`` gives for at least one of ``images``, each changed before."""
    raws, distances = zip(*(measure(change(part)) for part in images.floats()), strict=True)
    return _joined(Raw, raws), _joined(Distances, distances)


def calibration_cases(measure: Measure, images: Images, changed: bool = False) -> Cases:
    """What a network says of ``images``, or of :data:`CHANGED_COPIES` changed copies of them.

    Of the changed ones only those that still pass for upright frontal chests: the others get no
    answer, so nothing is to be learnt from how wrong it would be.
    """
    if changed:
        return Cases.joined([*_changed(measure, images)])
    return cases(*measured(measure, images), images)


def _changed(measure: Measure, images: Images) -> Iterator[Cases]:
    images, rng = images.some(CHANGED), np.random.default_rng(0)
    for _ in range(CHANGED_COPIES):
        raw, distances = measured(measure, images, partial(shift.shifted, rng=rng))
        passed = (raw.chest >= 0) & (raw.frontal >= 0)
        yield cases(raw, distances, images).at(passed)


def cases(raw: Raw, distances: Distances, images: Images) -> Cases:
    """Answers beside the labels of ``images``."""
    labels = (images.column("age"), images.column("female"))
    return calibrate.cases(raw, distances, *labels, [item.patient for item in images.items])


def _joined(kind: type[_Columns], parts: Sequence[_Columns]) -> _Columns:
    names = [field.name for field in fields(kind)]
    return kind(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
