"""The way of a single image to the networks of ``square-1``: file, stored values, square."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import RLELossless

from dicom_ai_node.dicom.limits import DEFAULT, Limits
from dicom_ai_node.dicom.syntaxes import NATIVE_SYNTAXES
from dicom_ai_node.pixels.codecs import (
    Samples,
    decode,
    decode_rle,
    native_length,
    unpack_native,
)
from dicom_ai_node.pixels.codestream import Codestream, inspect
from dicom_ai_node.pixels.colour import from_palette, grey_plane
from dicom_ai_node.pixels.display import Display, display_of
from dicom_ai_node.pixels.file import (
    ImageFile,
    open_image,
    pixel_element,
)
from dicom_ai_node.pixels.fragments import codestream, is_codestream, is_rle
from dicom_ai_node.pixels.layout import PALETTE, Layout, layout_of
from dicom_ai_node.pixels.normalise import reduce, stretch
from dicom_ai_node.pixels.refusals import RefusalCode, refuse, refuse_long, refuse_private
from dicom_ai_node.pixels.samples import fill_padding, stated_padding, stored_values
from dicom_ai_node.types import Finding, Severity

JUDGED_SIDE = 320
"""About so many rows or columns tell which tables and windows are meant for an image."""

_UNFIT = "damaged, or shows most of the image as black or white: not applied"


@dataclass(frozen=True, slots=True)
class Shown:
    """What the networks see of one image, and what its header says wrongly of its pixels."""

    tensor: NDArray[np.float32]
    """Shape (size, size), in [0, 1]; bones are bright."""
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class GreyFrame:
    """One decoded image, still in the units that it was stored in."""

    values: NDArray[Any]
    """Shape (rows, columns); padding is already dark. May be a view of the mapped file."""
    display: Display
    """How the values become grey."""
    findings: tuple[Finding, ...] = ()
    """What the header says wrongly of the values."""
    largest: int | None = None
    """Of the values, where it is known."""

    def shown(self, size: int) -> Shown:
        """Return what the networks see.

        Values are averaged first and shown afterwards (:mod:`dicom_ai_node.pixels.display` says
        why), then stretched by the contract of :mod:`dicom_ai_node.pixels.normalise`.

        Raises PixelsRefused: ``blank``.
        """
        small = reduce(self.values, size, largest=self.largest)
        display, passed = self.display.judged(small)
        result = stretch(display.apply(small))
        if not result.any():
            raise refuse(RefusalCode.BLANK)
        unused = [finding("I6", f"{keyword}: {_UNFIT}") for keyword in passed]
        return Shown(result, (*self.findings, *unused))


def show_square(image: ImageFile, size: int, limits: Limits) -> Shown:
    """Return what the networks of ``square-1`` see of an image of one frame."""
    return _frame(image, size, limits).shown(size)


def grey(path: Path) -> NDArray[np.float32]:
    """Return the image at ``path`` in full resolution, as a person would see it.

    Shape (rows, columns), float32, larger is brighter, on an arbitrary scale. For pictures and
    figures: the numbers of :func:`load` differ a little, since there the window follows the
    averaging. Errors are the same, but any single-frame grey image is accepted.
    """
    frame = read_frame(path)
    step = max(1, min(frame.values.shape) // JUDGED_SIDE)
    display, _ = frame.display.judged(frame.values[::step, ::step])
    return display.apply(frame.values)


def read_frame(path: Path, *, size: int | None = None, limits: Limits = DEFAULT) -> GreyFrame:
    """Decode the single frame at ``path``, whatever kind of image it is.

    With ``size``, the side of the tensor that is wanted, the codec may leave out resolution that
    the tensor would not show. Errors are those of :func:`load`.
    """
    return _frame(open_image(path), size, limits)


def _frame(image: ImageFile, size: int | None, limits: Limits) -> GreyFrame:
    layout = layout_of(image.header, limits)
    samples, stream = read_samples(image, layout, size, limits)
    if samples.ndim == 3:
        bits, findings = bits_of_colour(samples, layout, stream)
        return GreyFrame(grey_plane(samples, bits), Display(), findings)
    padding = stated_padding(image.header)
    stored = stored_values(samples, layout, stream, padding=padding)
    findings = (finding("I5", stored.fault),) if stored.fault else ()
    if layout.photometric == PALETTE:
        plane = grey_plane(*from_palette(stored.values, image.header))
        return GreyFrame(plane, Display(), findings)
    display = display_of(image.header, signed=layout.signed)
    values = fill_padding(stored.values, padding, stored.layout, dark_is_high=display.dark_is_high)
    largest = stored.largest if values is stored.values else None
    return GreyFrame(values, display, findings, largest)


def bits_of_colour(
    samples: Samples, layout: Layout, stream: Codestream | None
) -> tuple[int, tuple[Finding, ...]]:
    """Return how many bits the samples of a colour image have, and what the header says wrongly."""
    bits = min(layout.stored, stream.precision) if stream else layout.stored
    used = int(samples.max()).bit_length() if bits < 8 * samples.dtype.itemsize else bits
    if used <= bits:
        return bits, ()
    fault = f"samples of {used} bits, BitsStored is {layout.stored}: all bits are shown"
    return used, (finding("I5", fault),)


def finding(rule: str, reason: str) -> Finding:
    """Return what a rule about pixels finds."""
    return Finding(rule, Severity.WARNING, "image", reason)


def read_samples(
    image: ImageFile,
    layout: Layout,
    size: int | None,
    limits: Limits,
    *,
    frame: int = 0,
    frames: int = 1,
) -> tuple[Samples, Codestream | None]:
    """Decode one frame by what is there: fragments or native, and compressed by its markers.

    ``frame``, from 0 on, is one of the ``frames`` that the pixel data hold. Other frames are not
    read.
    """
    vr, value, offset = pixel_element(image)
    length = native_length(layout)
    if value is not None and not _is_compressed(value, image, frames * length):
        refuse_private(image.syntax)
        if frames > 1:
            value = value[frame * length : (frame + 1) * length]
        return unpack_native(value, layout, vr=vr, little_endian=image.encoding.little), None
    if value is None:
        data = codestream(image, offset, limits, frame=frame, frames=frames)
    else:
        refuse_long(len(value), limits)
        data = bytes(value)
    if is_rle(data) or (image.syntax == RLELossless and not is_codestream(data)):
        return decode_rle(data, layout), None
    stream = inspect(data)
    return decode(stream, layout, size=size, limits=limits), stream


def _is_compressed(value: memoryview, image: ImageFile, native: int) -> bool:
    """Whether a value without fragments is a codestream all the same."""
    if not is_codestream(value):
        return False
    # Native pixels may begin like one by chance, but there are as many as the header says.
    return image.syntax not in NATIVE_SYNTAXES or len(value) < native
