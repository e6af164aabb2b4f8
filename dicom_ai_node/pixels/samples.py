"""From samples as they were stored to the values that they stand for (PS3.5 8.1.1).

Bits above BitsStored hold the sign, an overlay that the header declares (retired, PS3.5 8.1.2), or
prove the header wrong. Then the image itself tells whether they are part of the values (it is the
smoother with them) or rubbish (it is the smoother without).

Pixels that are no part of the image (Pixel Padding Value, PS3.3 C.7.5.1.1.2) fill it up to its
rectangle, often with a value far outside the others. They would shift the percentiles that the
contrast rests on, so they are made as dark as the image's own dark.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_ai_node.pixels.codestream import Codestream
from dicom_ai_node.pixels.layout import Layout
from dicom_ai_node.pixels.lenient import integer
from dicom_ai_node.pixels.normalise import PERCENTILES
from dicom_ai_node.pixels.refusals import RefusalCode, refuse

OVERSHOOT = 1.125
"""How far above the largest value a lossy codec's may come, as a factor."""

FEW = 2
"""So many different values beyond BitsStored are marks and no part of the picture."""

CLEARLY = 1.2
"""How much rougher, as a factor, a reading by the header must be to be dropped without a proof."""

_PROBE = 256
"""Rows of an image, at most, that tell how smooth it is."""

Values = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Stored:
    """Pixel values: aligned, without foreign bits, with their sign."""

    values: Values
    """Shape (rows, columns); a view of the samples where nothing had to be done."""
    layout: Layout
    """The header's, with as many bits as the values really have."""
    fault: str = ""
    """What is wrong in the header's BitsStored, '' where it is right."""
    largest: int | None = None
    """Of the values, where it is known."""


def stored_values(
    samples: Values,
    layout: Layout,
    stream: Codestream | None = None,
    *,
    padding: tuple[int, ...] = (),
) -> Stored:
    """Return the values of ``samples``, unsigned or, where the codestream is signed, signed.

    ``stream`` is None for native pixel data and RLE; after a lossy codec there is no overlay to be
    left out but there is overshoot, which is clipped. ``padding`` is :func:`stated_padding`, which
    may lie above BitsStored.
    """
    if samples.dtype.kind == "i":
        return Stored(samples, layout)  # a signed codestream knows better than the header
    cells = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    width = 8 * cells.dtype.itemsize
    if stream is not None and stream.precision <= layout.stored:
        # Such a codestream holds the value alone; a wider one the whole cell.
        layout = replace(layout, stored=stream.precision, high_bit=stream.precision - 1)
    elif layout.overlays:
        value_bits = ((1 << layout.stored) - 1) << (layout.high_bit + 1 - layout.stored)
        foreign = layout.overlays & ~value_bits & ((1 << width) - 1)
        cells = cells & cells.dtype.type(~foreign & ((1 << width) - 1)) if foreign else cells
    return (
        _signed(cells, layout, width)
        if layout.signed
        else _unsigned(cells, layout, lossy=stream is not None and stream.lossy, padding=padding)
    )


def _unsigned(cells: Values, layout: Layout, *, lossy: bool, padding: tuple[int, ...]) -> Stored:
    shift = layout.high_bit + 1 - layout.stored
    whole = cells >> shift if shift else cells
    limit = (1 << layout.stored) - 1
    largest = int(whole.max())
    if shift and largest <= limit >> shift and (cells & ((1 << shift) - 1)).any():
        # Nothing in the high bits, and something below the lowest: the values are not shifted.
        last = layout.stored - 1
        fault = f"HighBit is {layout.high_bit}, and no pixel goes beyond bit {last}"
        return Stored(cells, replace(layout, high_bit=last), f"{fault}: read from bit 0")
    if largest <= limit:
        return Stored(whole, layout, largest=largest)
    if lossy and largest <= OVERSHOOT * limit:
        return Stored(np.minimum(whole, limit), layout)
    beyond = whole[whole > limit]
    # Of the wrong one of US and SS, or read with an odd PixelRepresentation, -1 is 65535.
    ends = [end & ((1 << 8 * cells.dtype.itemsize) - 1) for end in padding]
    beyond = beyond[~np.isin(beyond, ends)] if ends else beyond
    if not beyond.size:
        return Stored(whole & limit, layout)  # as the padding value is read, too
    fault = f"{beyond.size} pixels hold more than BitsStored {layout.stored}, up to {largest}"
    seen = int(np.bitwise_or.reduce(beyond))
    if not seen >> layout.stored & 1:
        # Values that grow beyond their bits fill the next one first.
        return Stored(whole & limit, layout, f"{fault}: bits of another use, left out")
    if len(np.unique(beyond)) <= FEW:
        return Stored(np.minimum(whole, limit), layout, f"{fault}: single marks, cut off")
    if _roughness(whole & limit) < _roughness(whole):
        return Stored(whole & limit, layout, f"{fault}: bits of another use, left out")
    return Stored(whole, _widened(layout), f"{fault}: all bits are shown")


def _signed(cells: Values, layout: Layout, width: int) -> Stored:
    """Read two's complement; the sign need not be carried up to the top of the cell."""
    signed = cells.view(np.dtype(f"i{cells.dtype.itemsize}"))
    shift = layout.high_bit + 1 - layout.stored
    whole = signed >> shift if shift else signed
    half = 1 << (layout.stored - 1)
    if -half <= whole.min() and whole.max() < half:
        return Stored(whole, layout)
    up = width - 1 - layout.high_bit
    values = (cells << up).view(signed.dtype) >> (up + shift)
    foreign = int((((cells >> (layout.high_bit + 1)) != 0) & (values != whole)).sum())
    if _roughness(values) <= (1.0 if foreign else CLEARLY) * _roughness(whole):
        fault = f"bits above BitsStored {layout.stored} are no sign: left out in {foreign} pixels"
        return Stored(values, layout, fault if foreign else "")
    fault = f"pixels hold {int(whole.min())} to {int(whole.max())}, BitsStored is {layout.stored}"
    return Stored(whole, _widened(layout), f"{fault}: all bits are shown")


def _widened(layout: Layout) -> Layout:
    bits = layout.allocated - (layout.high_bit + 1 - layout.stored)
    return replace(layout, stored=bits, high_bit=layout.allocated - 1)


def _roughness(values: Values) -> float:
    """How much neighbours along a row differ, in standard deviations of all values."""
    step = max(1, len(values) // _PROBE)
    probe = values[::step].astype(np.float32)
    spread = float(probe.std())
    return float(np.abs(np.diff(probe)).mean()) / spread if spread and probe.shape[1] > 1 else 0.0


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

    Raises PixelsRefused: ``blank``: all of the image is padding.
    """
    found = _padding_range(values, stated, layout)
    if found is None:
        return values
    low, high = found
    padding = (values >= low) & (values <= high)
    step = max(1, min(values.shape) // 512)
    real = values[::step, ::step][~padding[::step, ::step]]
    if real.size == 0:
        raise refuse(RefusalCode.BLANK, "all of it is padding")
    dark = np.percentile(real, PERCENTILES[1 if dark_is_high else 0], method="nearest")
    return np.where(padding, dark, values)


def is_padding(values: NDArray[Any], stated: tuple[int, ...], layout: Layout) -> NDArray[np.bool_]:
    """Return which of ``values`` are padding, as :func:`fill_padding` takes it."""
    found = _padding_range(values, stated, layout)
    if found is None:
        return np.zeros(values.shape, np.bool_)
    padding: NDArray[np.bool_] = (values >= found[0]) & (values <= found[1])
    return padding


def _padding_range(
    values: NDArray[Any], stated: tuple[int, ...], layout: Layout
) -> tuple[int, int] | None:
    """Return the lowest and highest padding value, None where no edge has one."""
    if not stated:
        return None
    ends = [_as_stored(end, layout) for end in stated]
    low, high = min(ends), max(ends)
    edges = np.concatenate((values[0], values[-1], values[:, 0], values[:, -1]))
    return (low, high) if ((edges >= low) & (edges <= high)).any() else None


def _as_stored(value: int, layout: Layout) -> int:
    """Read a padding value as the pixels are read; its VR is US or SS and often the wrong one."""
    bits = layout.stored
    if not layout.signed:
        return value if 0 <= value < 1 << bits else value & ((1 << bits) - 1)
    half = 1 << (bits - 1)
    return value if -half <= value < half else ((value + half) & ((1 << bits) - 1)) - half
