"""The input contract ``windows-1``: one image of CT or MR becomes three channels in a square.

A CT of 4000 HU does not fit into one stretch: what tells a lung from a bowel and a skull from a
knee lies in windows that radiologists set apart. So a CT in HU becomes its lung, soft tissue and
bone window, one a channel; anything else, which has no absolute scale, its percentile stretch
(:func:`dicom_ai_node.pixels.normalise.stretch`) in all three.

1. block mean by whole factors, then an antialiased bilinear resize of the longer side to ``size``;
   the shorter side follows, for a slice's proportions tell a leg from a trunk, they are known, and
   a field of view that was cropped to a strip is one all the same: squashed to a square (which
   ``square-1`` does because the radiographs that it learnt from were) it would look like another
   part of the body;
2. windows of HU, or the percentile stretch of the image alone;
3. black to the left and right, or above and below, up to the square: to a window that is air.

Means are taken of HU, before a window clips them: what a scanner of larger pixels would measure.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dicom_ai_node.pixels.normalise import block, block_mean, stretch

Values = NDArray[Any]
"""(rows, columns), any real dtype; larger means brighter."""


@dataclass(frozen=True, slots=True)
class Window:
    """A linear window (PS3.3 C.11.2.1.2.1, as LINEAR_EXACT), in HU."""

    name: str
    centre: float
    width: float

    def of(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """``values`` in HU scaled to [0, 1]; what lies outside of the window is clipped."""
        low = np.float32(self.centre - self.width / 2)
        scaled = (values - low) * np.float32(1.0 / self.width)
        clipped: NDArray[np.float32] = np.clip(scaled, 0.0, 1.0, dtype=np.float32)
        return clipped


WINDOWS = (
    Window("lung", -600.0, 1500.0),
    Window("soft tissue", 40.0, 400.0),
    Window("bone", 400.0, 1800.0),
)
"""The channels of a CT, in order: the windows that viewers come with."""


def windows(values: Values, modality: str, size: int) -> NDArray[np.float32]:
    """Return an image as the networks of ``windows-1`` see it: (3, size, size) in [0, 1].

    Parameters
    ----------
    values
        A grey image, (rows, columns), any real dtype. Where ``modality`` is CT in HU, that is after
        the rescale of its header; else in any unit, larger being brighter (MONOCHROME2).
    modality
        Modality of the image (PS3.3 C.7.3.1.1.1). A picture of a CT whose window is burnt in, such
        as a Secondary Capture, is none of HU: '' for it.
    size
        Side in pixels.

    Raises ValueError: ``values`` is no grey image, or holds what is not a finite number.
    """
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"expected a grey image of shape (rows, columns), got {values.shape}")
    small = fit(values, size)
    if not np.isfinite(small).all():
        raise ValueError("expected finite values, got an image that has some that are not")
    if modality == "CT":
        channels = np.stack([window.of(small) for window in WINDOWS])
    else:
        channels = np.repeat(stretch(small)[np.newaxis], len(WINDOWS), axis=0)
    return padded(channels, size)


def fit(image: Values, size: int) -> NDArray[np.float32]:
    """Area-average ``image`` so that its longer side is ``size``, in the units of the input.

    The shorter side is rounded, and at least one pixel.
    """
    rows, columns = image.shape
    scale = size / max(rows, columns)
    high, wide = (max(1, round(side * scale)) for side in (rows, columns))
    small = block_mean(image, block(rows, high), block(columns, wide))
    resized = Image.fromarray(small).resize((wide, high), Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.float32)


def padded(channels: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Put (C, rows, columns) into the middle of zeros (C, size, size)."""
    _, high, wide = channels.shape
    top, left = (size - high) // 2, (size - wide) // 2
    square = np.zeros((len(channels), size, size), np.float32)
    square[:, top : top + high, left : left + wide] = channels
    return square
