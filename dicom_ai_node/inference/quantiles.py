"""Conformal quantiles of a quantity's errors, in groups by what is predicted of the images.

Pure numpy; :mod:`.intervals` says how they are used.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dicom_ai_node.inference.distances import Floats
from dicom_ai_node.inference.intervals import LEVELS, Group, Range, Tilt

EDGES: Mapping[str, tuple[float, ...]] = {"age": (40.0, 60.0)}
"""Predicted values that part the bands of a quantity, where there are images enough."""
TILTED: Mapping[str, tuple[float, ...]] = {"age": (20.0, 40.0, 60.0, 70.0)}
"""Recorded values that part the bands of a tilt, where there are images enough."""
SMALLEST_BAND = 60
"""Fewer images than this make no band of their own: the 95 % interval wants 39 of each side."""
TRUSTED = 40
"""Images with which a band speaks as much for itself as the whole does."""
SMALLEST_GROUP = 80
"""Fewer images than this make no group of their own; 200 would be better than there often are."""
UNBOUNDED = 1e6
"""Stands for an infinite quantile: too few images for the level, every age is possible."""
Part = tuple[dict[str, Range], NDArray[np.int64]]
"""A group of images: the ranges that they lie in, and their positions."""


def tilt(
    z: Floats, truth: Floats, whole: Group, edges: Sequence[float], smallest: int = SMALLEST_BAND
) -> tuple[Tilt, ...]:
    """Say how much further, or less far, images of each band of recorded values are off.

    ``z`` are errors in units of the widened sigma, ``whole`` holds their quantiles. Groups go by
    what is predicted: of those predicted at 60 some are 75, and among all of one prediction they
    are too few to count. Bands of what is recorded are covered each for itself: the quantile of a
    band, in units of that of the whole (label-conditional conformal prediction, Vovk 2012), drawn
    toward 1 with a weight of :data:`TRUSTED` images. Levels stay nested. None for a single band.
    """
    parts = [None, *bands(truth, smallest, edges), None]
    found: list[Tilt] = []
    for low, high in pairwise(parts) if len(parts) > 2 else ():
        of_band = (truth >= (-math.inf if low is None else low)) & (
            truth < (math.inf if high is None else high)
        )
        errors, count = z[of_band], int(of_band.sum())
        weight, reached, factors = count / (count + TRUSTED), np.zeros(2), {}
        for level in LEVELS:
            usual = np.array(whole.quantiles[level])
            own = np.minimum(np.array(pair(errors, float(level) / 100)), UNBOUNDED)
            wanted = np.maximum((1 - weight) * usual + weight * own, reached)
            settled = (usual <= 0) | (usual >= UNBOUNDED)  # no factor moves these
            factors[level] = tuple(
                np.where(settled, 1.0, wanted / np.maximum(usual, 1e-9)).round(4).tolist()
            )
            reached = wanted
        found.append(Tilt(at=round(float(truth[of_band].mean()), 2), images=count, factors=factors))
    return tuple(found)


def groups(columns: Mapping[str, Floats], smallest: int, edges: Sequence[float] = ()) -> list[Part]:
    """Part images by band of the first of ``columns``, then in halves by each of the others.

    Of an age: by band of predicted age, then by nearness, then by predicted sex.

    A band is joined with the next, and a group left whole, where a part would have fewer than
    ``smallest`` images. A small part thereby shares its parent's quantiles with its sibling, and
    they hold for either taken together; quantiles of a parent whose large children had their own
    would hold for nobody.
    """
    (name, values), *others = columns.items()
    parts: list[Part] = []
    for low, high in pairwise([None, *bands(values, smallest, edges), None]):
        inside = (values >= (-math.inf if low is None else low)) & (
            values < (math.inf if high is None else high)
        )
        parts.append(({name: (low, high)}, np.flatnonzero(inside)))
    for name, values in others:
        parts = [half for part in parts for half in _halves(part, name, values, smallest)]
    return parts


def bands(mu: Floats, smallest: int, edges: Sequence[float]) -> list[float]:
    """Those of ``edges`` that leave at least ``smallest`` images in every band."""
    found: list[float] = []
    for edge in edges:
        last = found[-1] if found else -math.inf
        if np.sum((mu >= last) & (mu < edge)) >= smallest:
            found.append(edge)
    while found and np.sum(mu >= found[-1]) < smallest:
        found.pop()
    return found


def _halves(group: Part, name: str, values: Floats, smallest: int) -> list[Part]:
    where, at = group
    below, above = at[values[at] < 0.5], at[values[at] >= 0.5]
    if min(len(below), len(above)) < smallest:
        return [group]
    return [(where | {name: (None, 0.5)}, below), (where | {name: (0.5, None)}, above)]


def pair(z: Floats, level: float) -> tuple[float, float]:
    """Quantiles (below, above) that leave out as many errors ``z`` at either end."""
    tail = (1 + level) / 2
    return quantile(-z, tail), quantile(z, tail)


def quantile(scores: Floats, share: float) -> float:
    """The ceil((n + 1) share)-th smallest score, at least 0 so that the interval contains mu.

    Where there is no such score, because the images are too few, :data:`UNBOUNDED`.
    """
    rank = math.ceil((len(scores) + 1) * share - 1e-9)
    if rank > len(scores):
        return UNBOUNDED
    return round(max(float(np.sort(scores)[rank - 1]), 0.0), 4)
