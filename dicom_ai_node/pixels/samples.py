"""From samples as they were stored to the values that they stand for (PS3.5 8.1.1)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_ai_node.pixels.codestream import Codestream
from dicom_ai_node.pixels.layout import Layout


def stored_values(
    samples: NDArray[Any], layout: Layout, stream: Codestream | None = None
) -> NDArray[Any]:
    """Return the stored pixel values: aligned, without foreign bits, with their sign.

    Bits above the high bit may hold an overlay (retired, PS3.5 8.1.2) or rubbish and are masked.
    After a lossy codec there is no overlay to be saved but there is overshoot, which a mask would
    turn from brightest to darkest; there values are clipped instead.

    Parameters
    ----------
    samples
        Shape (rows, columns), unsigned, or signed where the codestream is.
    stream
        Where the samples come from, None for native pixel data and RLE.

    Returns
    -------
    Array of the same shape; a view where nothing had to be done.
    """
    if samples.dtype.kind == "i":
        return samples  # a signed JPEG 2000 codestream knows better than the header
    samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    # A codestream as wide as the cell holds the whole cell; a narrower one only the value.
    whole_cell = stream is None or stream.precision > layout.stored
    bits = layout.stored if whole_cell or stream is None else stream.precision
    shift = layout.high_bit + 1 - layout.stored if whole_cell else 0
    if layout.signed:
        return _signed(samples >> shift if shift else samples, bits)
    if shift:
        samples = samples >> shift
    limit = (1 << bits) - 1
    if limit < np.iinfo(samples.dtype).max and samples.max() > limit:
        clip = stream is not None and stream.lossy
        samples = np.minimum(samples, limit) if clip else samples & limit
    return samples


def _signed(samples: NDArray[Any], bits: int) -> NDArray[Any]:
    """Read the low ``bits`` in two's complement."""
    width = 8 * samples.dtype.itemsize
    signed = samples.view(np.dtype(f"i{samples.dtype.itemsize}"))
    half = 1 << (bits - 1)
    if bits == width or (signed.min() >= -half and signed.max() < half):
        return signed  # the sign is already carried up to the top bit
    up = (samples << (width - bits)).view(signed.dtype)
    return up >> (width - bits)
