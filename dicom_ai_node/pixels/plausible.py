"""Whether a grey scale transformation can be meant for the image that it came with.

A curve or a window that belongs to another image, or was damaged on the way, shows nearly all of
this one as black or as white; and a curve whose bytes are in the wrong order jumps up and down.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

MONOTONIC = 0.9
"""Part of all ups and downs of a curve that has to lead from its start to its end."""

DISTINGUISHED = 0.5
"""Part of the pixels between the image's own black and white that must stay between them."""

_ENDS = (0.5, 99.5)
_MARGIN = 0.02

Floats = NDArray[np.float64]


def monotonic(entries: Floats) -> bool:
    """Whether ``entries`` nearly always rise, or nearly always fall."""
    steps = np.diff(entries)
    way = float(np.abs(steps).sum())
    return way > 0 and abs(float(steps.sum())) >= MONOTONIC * way


def reach(values: Floats) -> tuple[float, float]:
    """Return the lowest and the highest of ``values``, less a few of which one cannot be sure."""
    low, high = np.percentile(values, _ENDS)
    return float(low), float(high)


def distinguishes(values: Floats, between: Callable[[Floats], NDArray[np.bool_]]) -> bool:
    """Whether a transformation leaves most of ``values`` neither black nor white.

    Collimated borders and air are black or white already and may cover more than half of an image;
    they do not count. ``between`` says for each value whether it stays between black and white.
    """
    low, high = reach(values)
    margin = _MARGIN * (high - low)
    inside = values[(values > low + margin) & (values < high - margin)]
    return float(between(inside if inside.size else values.ravel()).mean()) >= DISTINGUISHED
