"""The pixels of slices of CT and MR, before windows and stretch, for what is made of them.

Networks are trained on values from which many inputs can be made, and measured on exactly what
``windows-1`` makes of an image (:mod:`dicom_ai_node.pixels.windows`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dicom_ai_node.errors import NodeError
from dicom_ai_node.pixels.file import open_image
from dicom_ai_node.pixels.normalise import stretch
from dicom_ai_node.pixels.sections import AIR, section
from dicom_ai_node.pixels.windows import fit, padded, windows
from training.data.regions import Slice
from training.data.tables import DataError

OUTSIDE = -4096.0
"""HU of what lies beyond an image: black in every window."""


@dataclass(frozen=True, slots=True)
class Values:
    """N images in squares, before they have channels."""

    values: NDArray[np.float16]
    """(N, S, S): HU, :data:`OUTSIDE` beyond the image; or a stretch to [0, 1], 0 beyond."""
    absolute: NDArray[np.bool_]
    """(N,): whether they are HU."""

    def __len__(self) -> int:
        """How many images."""
        return len(self.values)

    def at(self, positions: NDArray[np.int64]) -> "Values":
        """Some of the images."""
        return Values(self.values[positions], self.absolute[positions])


def image(one: Slice) -> tuple[NDArray[np.float32], bool]:
    """A grey image (rows, columns), and whether it is in HU.

    Raises DataError: the file cannot be read.
    """
    try:
        if one.file.suffix == ".npz":
            return _array(one)
        if one.file.suffix.lower() in (".dcm", ""):
            return _dicom(one.file)
        with Image.open(one.file) as picture:
            return np.asarray(picture.convert("L"), np.float32), False
    except (OSError, ValueError, KeyError, NodeError) as error:
        raise DataError(f"{one.file}: expected an image: {error}") from error


def _array(one: Slice) -> tuple[NDArray[np.float32], bool]:
    """Values in the units of the Modality LUT: HU of a CT."""
    with np.load(one.file) as stored:
        found = stored["hu" if "hu" in stored.files else "px"].astype(np.float32)
    ct = one.modality == "CT"
    return (np.maximum(found, np.float32(AIR)) if ct else found), ct


def _dicom(file: Path) -> tuple[NDArray[np.float32], bool]:
    """As the node reads it."""
    seen = section(open_image(file))
    return seen.values, seen.hounsfield


def values(slices: Sequence[Slice], side: int) -> Values:
    """Images in squares of ``side``, proportions kept."""
    found = np.empty((len(slices), side, side), np.float16)
    absolute = np.zeros(len(slices), np.bool_)
    for at, one in enumerate(slices):
        pixels, absolute[at] = image(one)
        small = fit(pixels, side)
        if absolute[at]:
            clipped = np.clip(small, AIR, 6000)
            found[at] = padded(clipped[np.newaxis] - np.float32(OUTSIDE), side)[0] + OUTSIDE
        else:
            found[at] = padded(stretch(small)[np.newaxis], side)[0]
    return Values(found, absolute)


def inputs(slices: Sequence[Slice], side: int) -> NDArray[np.float16]:
    """What ``windows-1`` makes of each image, (N, 3, side, side) in [0, 1]."""
    found = np.empty((len(slices), 3, side, side), np.float16)
    for at, one in enumerate(slices):
        pixels, absolute = image(one)
        found[at] = windows(pixels, "CT" if absolute else "", side)
    return found
