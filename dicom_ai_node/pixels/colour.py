"""Grey pictures in colour clothing: one grey plane of them, or a refusal.

Whether three samples are RGB or YBR is stated in up to three places (PhotometricInterpretation,
the codestream's markers, the codec's habits) which often disagree. It need not be known: an image
is grey if its samples are equal (RGB) or if the last two rest at their middle (YBR), and either
finding names the grey plane.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut

from dicom_ai_node.pixels.lenient import quiet
from dicom_ai_node.pixels.refusals import RefusalCode, refuse

TOLERATED_CHROMA = 0.1
"""Distance from grey, as a part of full scale, that compression and tinted film may cause."""

TOLERATED_AREA = 0.01
"""Part of the image that may be more colourful than that: a mark or a line of text."""

_STRIP = 256
"""Rows that are turned into grey at a time."""


def grey_plane(samples: NDArray[Any], bits: int) -> NDArray[Any]:
    """Return the grey plane, shape (rows, columns): Y of YBR as it is, or RGB's luma as float32.

    ``samples`` are unsigned, of shape (rows, columns, 3) and so many ``bits``.

    Raises PixelsRefused: ``colour``: over :data:`TOLERATED_AREA` is coloured by either reading.
    """
    # A fraction of the pixels tells: at most about 256 of each row and column.
    steps = tuple(max(1, side // 256) for side in samples.shape[:2])
    probe = samples[:: steps[0], :: steps[1]].astype(np.int32)
    tolerated = TOLERATED_CHROMA * (1 << bits)
    spread = probe.max(axis=-1) - probe.min(axis=-1)
    chroma = np.abs(probe[..., 1:] - (1 << (bits - 1))).max(axis=-1)
    as_rgb, as_ybr = (float((distance > tolerated).mean()) for distance in (spread, chroma))
    if min(as_rgb, as_ybr) > TOLERATED_AREA:
        raise refuse(RefusalCode.COLOUR, f"{100 * min(as_rgb, as_ybr):.0f} % of the area")
    # A flat grey image passes both ways; then Y is right and so is any of R, G and B.
    if as_ybr <= as_rgb:
        return samples[..., 0]
    grey = np.empty(samples.shape[:2], np.float32)
    for start in range(0, len(grey), _STRIP):  # sums of the whole image would take four times it
        grey[start : start + _STRIP] = _luma(samples[start : start + _STRIP])
    return grey


def _luma(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Rec. 601 luma in 256ths: exact where the three are equal, also in 16 bit."""
    luma = np.uint32(77) * samples[..., 0]
    luma += np.uint32(150) * samples[..., 1]
    luma += np.uint32(29) * samples[..., 2]
    return luma.astype(np.float32) / np.float32(256)


def from_palette(indices: NDArray[Any], header: Dataset) -> tuple[NDArray[Any], int]:
    """Look palette indices up (PS3.3 C.7.9): samples of shape (rows, columns, 3), and their bits.

    Raises PixelsRefused: ``unsupported_layout``: the palette is absent or damaged.
    """
    try:
        with quiet():
            looked_up = apply_color_lut(indices, header)
    except Exception as error:
        raise refuse(RefusalCode.UNSUPPORTED_LAYOUT, f"palette: {type(error).__name__}") from error
    return looked_up[..., :3], 8 * looked_up.dtype.itemsize
