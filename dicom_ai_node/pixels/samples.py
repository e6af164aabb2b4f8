"""From samples as they were stored to the values that they stand for (PS3.5 8.1.1).

Bits above BitsStored hold the sign, an overlay that the header declares (retired, PS3.5 8.1.2), or
prove the header wrong. Then the image itself tells whether they are part of the values (it is the
smoother with them) or rubbish (it is the smoother without).
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_ai_node.pixels.codestream import Codestream
from dicom_ai_node.pixels.layout import Layout

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


def stored_values(
    samples: Values,
    layout: Layout,
    stream: Codestream | None = None,
    *,
    padding: tuple[int, ...] = (),
) -> Stored:
    """Return the values of ``samples``, unsigned or, where the codestream is signed, signed.

    After a lossy codec there is no overlay to be left out but there is overshoot, which is clipped.

    Parameters
    ----------
    stream
        Where the samples come from, None for native pixel data and RLE.
    padding
        Values outside the image, as the header has them, which may lie above BitsStored.
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
        fault = f"HighBit is {layout.high_bit}, and no pixel goes beyond bit {layout.stored - 1}"
        return Stored(
            cells, replace(layout, high_bit=layout.stored - 1), f"{fault}: read from bit 0"
        )
    if largest <= limit:
        return Stored(whole, layout)
    if lossy and largest <= OVERSHOOT * limit:
        return Stored(np.minimum(whole, limit), layout)
    beyond = whole[whole > limit]
    beyond = beyond[~np.isin(beyond, padding)] if padding else beyond
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
