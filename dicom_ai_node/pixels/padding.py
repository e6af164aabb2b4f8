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


def stated_padding(header: Dataset) -> tuple[int, ...]:
    """Return the ends of the range of padding values as the header has them, none without one."""
    value = integer(header, "PixelPaddingValue")
    if value is None:
        return ()
    limit = integer(header, "PixelPaddingRangeLimit")
    return (value, value if limit is None else limit)


def fill_padding(
    values: NDArray[Any], stated: tuple[int, ...], layout: Layout, *, dark_is_high: bool
) -> NDArray[Any]:
    """Return ``values`` with the padding of :func:`stated_padding` replaced by the dark value.

    The dark value is the contract's lower percentile of the real pixels, so that the stretch maps
    it to 0 and one dead pixel does not set it. Padding lies along an edge; values that touch none
    are image, whatever the header says (it often declares 0, which saturated pixels have too).

    Raises
    ------
    PixelsRefused
        ``blank``: all of the image is padding.
    """
    if not stated:
        return values
    ends = [_as_stored(end, layout) for end in stated]
    low, high = min(ends), max(ends)
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


def _as_stored(value: int, layout: Layout) -> int:
    """Read a padding value as the pixels are read; its VR is US or SS and often the wrong one."""
    bits = layout.stored
    if not layout.signed:
        return value if 0 <= value < 1 << bits else value & ((1 << bits) - 1)
    half = 1 << (bits - 1)
    return value if -half <= value < half else ((value + half) & ((1 << bits) - 1)) - half
