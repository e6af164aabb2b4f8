"""From DICOM files to the inputs of the networks, by the contract that a bundle names."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_ai_node.dicom.limits import DEFAULT, Limits
from dicom_ai_node.errors import PixelsRefused, UnreadableInstance
from dicom_ai_node.pixels.contracts import PROJECTIONS, SQUARE, WINDOWS
from dicom_ai_node.pixels.file import open_image
from dicom_ai_node.pixels.frame import Shown, show_square
from dicom_ai_node.pixels.functional_groups import frame_header, frames_of, geometry
from dicom_ai_node.pixels.order import in_order, read_sample
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

T = TypeVar("T")

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
    Errors are those of :func:`load`; where frames cannot be shown and others can, the nearest ones
    stand for them.
    """
    image = open_image(path, limits)
    refuse_unfit(image.header, accepted)
    if contract == SQUARE:
        return [show_square(image, size, limits)]
    if contract != WINDOWS:
        raise ValueError(f"{contract}: expected a contract whose input is an image")
    frames = frames_of(image.header)
    shown: list[Shown] = []
    refused: list[PixelsRefused] = []

    def read(frame: int) -> bool:
        try:
            seen = section(image, limits, frame=frame, frames=frames)
            shown.append(_windowed(seen, size))
        except PixelsRefused as error:
            refused.append(error)
            return False
        return True

    if frames == 1:
        read(0)
    else:
        places = [geometry(image.header, frame) for frame in range(frames)]
        read_sample(in_order(places), sample or MOST_AT_ONCE, read)
    if not shown:
        raise refused[0]
    return shown


@dataclass(frozen=True, slots=True)
class ShownSeries(Shown):
    """What the networks see of a series."""

    missing: Mapping[int, PixelsRefused | UnreadableInstance] = field(default_factory=dict)
    """Why images that were to be decoded are missing, by their places among those given."""


def show_series(
    files: Sequence[tuple[Dataset, Path]],
    *,
    size: int,
    contract: str = PROJECTIONS,
    limits: Limits = DEFAULT,
    sample: int = 0,
) -> ShownSeries:
    """Return the one input that all images of a series make together.

    Of each its header, which has been found fit, and its path; at most ``sample`` images are
    decoded, one after the other. One that cannot be decoded counts as missing: what is left must
    be a series by itself (:func:`~dicom_ai_node.pixels.volume.arrange`).

    Raises PixelsRefused: the images make no volume, or too many of them cannot be shown;
    ConfigError: a package is missing.
    """
    if contract != PROJECTIONS:
        raise ValueError(f"{contract}: expected a contract whose input is a series")
    places, planes = [], []
    for at, (header, _) in enumerate(files):
        frames = frames_of(header)
        for frame in range(frames):
            places.append((at, frame, frames))
            planes.append(plane_of(header if frames == 1 else frame_header(header, frame)))
    stack = arrange(planes).sampled(sample)
    found: dict[Finding, None] = {}
    lost: dict[int, PixelsRefused | UnreadableInstance] = {}

    def hounsfield() -> Iterator[NDArray[np.float32] | None]:
        last, image = -1, None
        for place in stack.order:
            at, frame, frames = places[place]
            try:
                if image is None or at != last:
                    last, image = at, open_image(files[at][1], limits)
                seen = section(image, limits, frame=frame, frames=frames)
            except (PixelsRefused, UnreadableInstance) as error:
                lost[place] = error
                yield None
                continue
            if not seen.hounsfield:
                raise refuse(RefusalCode.NO_SCALE)
            found.update(dict.fromkeys(seen.findings))
            yield seen.values

    made = _unless_lost(lost, len(stack.order), lambda: volume(stack, hounsfield()))
    if lost:
        left = [plane for place, plane in enumerate(planes) if place not in lost]
        _unless_lost(lost, len(stack.order), lambda: arrange(left))
    read = {places[place][0] for place in stack.order if place not in lost}
    missing = {places[at][0]: lost[at] for at in sorted(lost) if places[at][0] not in read}
    return ShownSeries(project(made, size), tuple(found), missing)


def _unless_lost(
    lost: Mapping[int, PixelsRefused | UnreadableInstance], count: int, make: Callable[[], T]
) -> T:
    """Return what ``make`` does; where that fails for want of what was lost, say that.

    Raises PixelsRefused.
    """
    try:
        return make()
    except (PixelsRefused, ValueError) as error:
        if not lost or (isinstance(error, ValueError) and len(lost) < count):
            raise
        first = next(iter(lost.values()))
        code = first.reason.code if isinstance(first, PixelsRefused) else RefusalCode.UNDECODABLE
        detail = f": {error.reason.text}" if isinstance(error, PixelsRefused) else ""
        text = f"{len(lost)} of {count} sections that were to be read are damaged{detail}"
        raise PixelsRefused(code, f"{text} ({first})") from error


def _windowed(seen: Section, size: int) -> Shown:
    if seen.values.min() == seen.values.max():
        raise refuse(RefusalCode.BLANK)
    tensor = windows(seen.values, "CT" if seen.hounsfield else "", size)
    return Shown(tensor, seen.findings)
