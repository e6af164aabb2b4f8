"""The way of every DICOM image to the networks: file, stored values, square tensor."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import RLELossless

from dicom_ai_node.pixels.codecs import Samples, decode, decode_rle, unpack_native
from dicom_ai_node.pixels.codestream import Codestream, inspect
from dicom_ai_node.pixels.colour import from_palette, grey_plane
from dicom_ai_node.pixels.display import Display, display_of
from dicom_ai_node.pixels.encapsulation import codestream, is_codestream, pixel_element
from dicom_ai_node.pixels.fitness import refuse_unfit
from dicom_ai_node.pixels.layout import PALETTE, Layout, layout_of
from dicom_ai_node.pixels.normalise import reduce, stretch
from dicom_ai_node.pixels.padding import fill_padding
from dicom_ai_node.pixels.refusals import RefusalCode, refuse
from dicom_ai_node.pixels.samples import stored_values
from dicom_ai_node.pixels.source import NATIVE_SYNTAXES, Source, open_source


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded image, still in the units that it was stored in."""

    values: NDArray[Any]
    """Shape (rows, columns); padding is already dark. May be a view of the mapped file."""
    display: Display
    """How the values become grey."""

    def tensor(self, size: int) -> NDArray[np.float32]:
        """Return what the networks see: shape (size, size), float32, in [0, 1].

        Values are averaged first and shown afterwards (:mod:`dicom_ai_node.pixels.display` says
        why), then stretched by the contract of :mod:`dicom_ai_node.pixels.normalise`.

        Raises
        ------
        PixelsRefused
            ``blank``.
        """
        result = stretch(self.display.apply(reduce(self.values, size)))
        if not result.any():
            raise refuse(RefusalCode.BLANK)
        return result


def load(path: Path, *, size: int) -> NDArray[np.float32]:
    """Return the DICOM image at ``path`` as the networks see it.

    Returns
    -------
    Array of shape (size, size), float32, in [0, 1]; bones are bright.

    Raises
    ------
    UnreadableInstance
        The file is not DICOM.
    PixelsRefused
        The image must not be shown to the network; any code of
        :class:`~dicom_ai_node.pixels.refusals.RefusalCode`.
    """
    source = open_source(path)
    refuse_unfit(source.header)
    return _frame(source, size).tensor(size)


def grey(path: Path) -> NDArray[np.float32]:
    """Return the image at ``path`` in full resolution, as a person would see it.

    For pictures and figures. The networks get :func:`load`, whose numbers differ a little, since
    there the window follows the averaging.

    Returns
    -------
    Array of shape (rows, columns), float32, larger is brighter, on an arbitrary scale. Errors are
    those of :func:`load`, but any single-frame grey image is accepted, radiograph or not.
    """
    frame = read_frame(path)
    return frame.display.apply(frame.values)


def read_frame(path: Path, *, size: int | None = None) -> Frame:
    """Decode the single frame at ``path``, whatever kind of image it is.

    With ``size``, the side of the tensor that is wanted, the codec may leave out resolution that
    the tensor would not show. Errors are those of :func:`load`.
    """
    return _frame(open_source(path), size)


def _frame(source: Source, size: int | None) -> Frame:
    layout = layout_of(source.header)
    samples, stream = _samples(source, layout, size)
    if samples.ndim == 3:
        bits = min(layout.stored, stream.precision) if stream else layout.stored
        return Frame(grey_plane(samples, bits), Display())
    values = stored_values(samples, layout, stream)
    if layout.photometric == PALETTE:
        return Frame(grey_plane(*from_palette(values, source.header)), Display())
    display = display_of(source.header, signed=layout.signed)
    values = fill_padding(values, source.header, layout, dark_is_high=display.dark_is_high)
    return Frame(values, display)


def _samples(source: Source, layout: Layout, size: int | None) -> tuple[Samples, Codestream | None]:
    """Decode by what is there: fragments or a native value, and in fragments by their markers."""
    vr, value, offset = pixel_element(source)
    if value is None:
        data = codestream(source, offset)
        if source.syntax == RLELossless:
            return decode_rle(data, layout), None
    elif source.syntax not in NATIVE_SYNTAXES and is_codestream(value):
        data = bytes(value)
    else:
        return unpack_native(value, layout, vr=vr, little_endian=source.little_endian), None
    stream = inspect(data)
    return decode(stream, layout, size=size), stream
