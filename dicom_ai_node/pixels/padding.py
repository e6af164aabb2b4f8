"""Pixels that are no part of the image (Pixel Padding Value, PS3.3 C.7.5.1.1.2).

Padding fills an image up to its rectangle, often with a value far outside the others. It would
shift the percentiles that the contrast rests on, so it is made as dark as the image's own dark.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_ai_node.pixels.header import integer
from dicom_ai_node.pixels.layout import Layout
from dicom_ai_node.pixels.normalise import PERCENTILES
from dicom_ai_node.pixels.refusals import RefusalCode, refuse


def fill_padding(
    values: NDArray[Any], header: Dataset, layout: Layout, *, dark_is_high: bool
) -> NDArray[Any]:
    """Return ``values`` with the padding that ``header`` declares replaced by the dark value.

    The dark value is the contract's lower percentile of the real pixels, so that the stretch maps
    it to 0 and one dead pixel does not set it. Padding lies along an edge; values that touch none
    are image, whatever the header says (it often declares 0, which saturated pixels have too).

    Raises
    ------
    PixelsRefused
        ``blank``: all of the image is padding.
    """
    bounds = _bounds(header, layout)
    if bounds is None:
        return values
    low, high = bounds
    edges = np.concatenate((values[0], values[-1], values[:, 0], values[:, -1]))
    if not ((edges >= low) & (edges <= high)).any():
        return values
    padding = (values >= low) & (values <= high)
    step = max(1, min(values.shape) // 512)
    real = values[::step, ::step][~padding[::step, ::step]]
    if real.size == 0:
        raise refuse(RefusalCode.BLANK, "all of it is padding")
    dark = np.percentile(real, PERCENTILES[1 if dark_is_high else 0], method="nearest")
    return np.where(padding, dark, values)


def _bounds(header: Dataset, layout: Layout) -> tuple[int, int] | None:
    value = integer(header, "PixelPaddingValue")
    if value is None:
        return None
    limit = integer(header, "PixelPaddingRangeLimit")
    first, last = (_as_stored(end, layout) for end in (value, value if limit is None else limit))
    return min(first, last), max(first, last)


def _as_stored(value: int, layout: Layout) -> int:
    """Read a padding value as the pixels are read; its VR is US or SS and often the wrong one."""
    bits = layout.stored
    if not layout.signed:
        return value if 0 <= value < 1 << bits else value & ((1 << bits) - 1)
    half = 1 << (bits - 1)
    return value if -half <= value < half else ((value + half) & ((1 << bits) - 1)) - half
