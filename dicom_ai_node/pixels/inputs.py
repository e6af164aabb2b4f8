"""From DICOM files to the inputs of the networks, by the contract that a bundle names."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_ai_node.dicom.limits import DEFAULT, Limits
from dicom_ai_node.errors import PixelsRefused
from dicom_ai_node.pixels.contracts import PROJECTIONS, SQUARE, WINDOWS
from dicom_ai_node.pixels.file import open_image
from dicom_ai_node.pixels.frame import Shown, show_square
from dicom_ai_node.pixels.functional_groups import frame_header, frames_of, geometry
from dicom_ai_node.pixels.order import in_order
from dicom_ai_node.pixels.projections import project
from dicom_ai_node.pixels.refusals import (
    RADIOGRAPHY,
    Accepted,
    RefusalCode,
    refuse,
    refuse_unfit,
)
from dicom_ai_node.pixels.sections import Section, section
from dicom_ai_node.pixels.volume import arrange, plane_of, volume
from dicom_ai_node.pixels.windows import windows
from dicom_ai_node.types import Finding

MOST_AT_ONCE = 512
"""Frames of one object that are read, where a route asks for all: their inputs are in memory."""


def load(
    path: Path,
    *,
    size: int,
    contract: str = SQUARE,
    limits: Limits = DEFAULT,
    accepted: Accepted = RADIOGRAPHY,
) -> NDArray[np.float32]:
    """Return the DICOM image at ``path`` as the networks see it; of several frames the middle one.

    Raises UnreadableInstance: the file is not DICOM; PixelsRefused: the image must not be shown to
    the network; any code of :class:`~dicom_ai_node.pixels.refusals.RefusalCode`.
    """
    return show(path, size=size, contract=contract, limits=limits, accepted=accepted).tensor


def show(
    path: Path,
    *,
    size: int,
    contract: str = SQUARE,
    limits: Limits = DEFAULT,
    accepted: Accepted = RADIOGRAPHY,
) -> Shown:
    """Return the image of :func:`load`, and what its header says wrongly of its pixels."""
    found = show_all(path, size=size, contract=contract, limits=limits, accepted=accepted, sample=1)
    return found[0]


def show_all(
    path: Path,
    *,
    size: int,
    contract: str = SQUARE,
    limits: Limits = DEFAULT,
    accepted: Accepted = RADIOGRAPHY,
    sample: int = 0,
) -> list[Shown]:
    """Return the inputs that an image makes, and what its header says wrongly of its pixels.

    One, unless it has several frames and its class may (Enhanced CT and MR): then one of each, or
    of at most ``sample`` of them, along the body, and never of more than :data:`MOST_AT_ONCE`.
    Errors are those of :func:`load`; frames that cannot be shown are left out where others can.
    """
    image = open_image(path, limits)
    refuse_unfit(image.header, accepted)
    if contract == SQUARE:
        return [show_square(image, size, limits)]
    if contract != WINDOWS:
        raise ValueError(f"{contract}: expected a contract whose input is an image")
    frames = frames_of(image.header)
    shown, refused = [], []
    for frame in _sampled(image.header, frames, sample or MOST_AT_ONCE):
        try:
            seen = section(image, limits, frame=frame, frames=frames)
            shown.append(_windowed(seen, size))
        except PixelsRefused as error:
            refused.append(error)
    if not shown:
        raise refused[0]
    return shown


def show_series(
    files: Sequence[tuple[Dataset, Path]],
    *,
    size: int,
    contract: str = PROJECTIONS,
    limits: Limits = DEFAULT,
    sample: int = 0,
) -> Shown:
    """Return the one input that all images of a series make together.

    Of each its header, which has been found fit, and its path; at most ``sample`` images are
    decoded, one after the other.

    Raises UnreadableInstance: a file is not DICOM; PixelsRefused: the images make no volume, or one
    of them cannot be shown; ConfigError: a package is missing.
    """
    if contract != PROJECTIONS:
        raise ValueError(f"{contract}: expected a contract whose input is a series")
    places, planes = [], []
    for header, path in files:
        frames = frames_of(header)
        for frame in range(frames):
            places.append((path, frame, frames))
            planes.append(plane_of(header if frames == 1 else frame_header(header, frame)))
    stack = arrange(planes).sampled(sample)
    found: dict[Finding, None] = {}

    def hounsfield() -> Iterator[NDArray[np.float32]]:
        last, image = Path(), None
        for at in stack.order:
            path, frame, frames = places[at]
            if image is None or path != last:
                last, image = path, open_image(path, limits)
            seen = section(image, limits, frame=frame, frames=frames)
            if not seen.hounsfield:
                raise refuse(RefusalCode.NO_SCALE)
            found.update(dict.fromkeys(seen.findings))
            yield seen.values

    return Shown(project(volume(stack, hounsfield()), size), tuple(found))


def _sampled(header: Dataset, frames: int, most: int) -> list[int]:
    """Return the numbers of the frames that are read, from 0 on, along the body."""
    if frames == 1:
        return [0]
    return in_order([geometry(header, frame) for frame in range(frames)]).sample(most)


def _windowed(seen: Section, size: int) -> Shown:
    if seen.values.min() == seen.values.max():
        raise refuse(RefusalCode.BLANK)
    tensor = windows(seen.values, "CT" if seen.hounsfield else "", size)
    return Shown(tensor, seen.findings)
