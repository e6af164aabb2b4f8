"""A DICOM file cut in two: the header, parsed, and the pixel data, mapped (PS3.5 A.4).

The header is followed up to the pixel data and no further; those stay in a memory map, so an
uncompressed image is averaged straight from the page cache without ever being copied in full.
Compressed ones are joined from their fragments (:mod:`dicom_ai_node.pixels.fragments`).
"""

import struct
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from dicom_ai_node.dicom.encoding import UNDEFINED, Encoding
from dicom_ai_node.dicom.header import FileHeader, header_of_file, inflate, mapped
from dicom_ai_node.dicom.limits import DEFAULT, Limits
from dicom_ai_node.dicom.syntaxes import native_syntax_of
from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.pixels.refusals import RefusalCode, refuse

_PIXEL_DATA = 0x7FE00010


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A parsed header and where its pixel data begin."""

    header: Dataset
    """Everything before the pixel data."""
    syntax: str
    """Transfer syntax; guessed from the encoding where the file does not say."""
    encoding: Encoding
    """How header and pixel data element are really encoded, whatever the file says."""
    data: memoryview
    """The file, or the inflated data set."""
    start: int
    """Offset of the pixel data element's tag in :attr:`data`; its length when there is none."""


def read_header(path: Path, limits: Limits = DEFAULT) -> Dataset:
    """Return the header of the file at ``path``: everything before the pixel data.

    Raises UnreadableInstance: the file cannot be read, is not DICOM (a PS3.10 file, or a bare data
    set with SOP UIDs), was cut off within its header, or goes beyond ``limits``.
    """
    return _read(path, limits)[0]


def open_image(path: Path, limits: Limits = DEFAULT) -> ImageFile:
    """Parse the header of the file at ``path`` and map the rest; errors of :func:`read_header`.

    Raises PixelsRefused with ``too_large`` for a deflated data set that grows beyond ``limits``.
    """
    header, found, whole = _read(path, limits)
    encoding = found.header.encoding
    data = whole if found.deflated is None else _inflated(path, found.deflated, limits)
    syntax = found.transfer_syntax_uid or native_syntax_of(encoding)
    return ImageFile(header, syntax, encoding, data, found.header.end)


def _read(path: Path, limits: Limits) -> tuple[Dataset, FileHeader, memoryview]:
    try:
        data = mapped(path)
        found = header_of_file(data, limits)
        header = found.dataset()
    except UnreadableInstance as error:
        raise UnreadableInstance(f"{path.name}: {error}") from error
    except OSError as error:
        raise _unreadable(path, f"a readable file, got: {error.strerror or error}") from error
    if found.meta is None and not ("SOPClassUID" in header and "SOPInstanceUID" in header):
        # A bare data set has no mark of its own: believe one only that names its instance.
        raise _unreadable(path, "a DICOM file, got none of its marks")
    if len(header) == 0:
        raise _unreadable(path, "a DICOM data set, got a header without elements")
    return header, found, data


def _inflated(path: Path, deflated: memoryview, limits: Limits) -> memoryview:
    most = limits.header_bytes + limits.decoded_bytes
    try:
        inflated = inflate(deflated, most)
    except UnreadableInstance as error:
        raise UnreadableInstance(f"{path.name}: {error}") from error
    if inflated.is_cut:
        detail = f"over {most} bytes when inflated; limits.decoded_bytes = {limits.decoded_bytes}"
        raise refuse(RefusalCode.TOO_LARGE, detail)
    return memoryview(inflated.data)


def _unreadable(path: Path, expected: str) -> UnreadableInstance:
    return UnreadableInstance(f"{path.name}: expected {expected}")


def pixel_element(image: ImageFile) -> tuple[str, memoryview | None, int]:
    """Return VR ('' if implicit), native value (None if encapsulated) and the value's offset.

    Raises PixelsRefused: ``no_pixels``: no PixelData (7FE0,0010), or an empty one;
    ``unsupported_depth``: floating point pixel data.
    """
    head = bytes(image.data[image.start : image.start + 12])
    if len(head) < 8:
        raise refuse(RefusalCode.NO_PIXELS)
    tag = image.encoding.tag_at(head, 0)
    if tag != _PIXEL_DATA:
        if tag >> 16 == _PIXEL_DATA >> 16:
            raise refuse(RefusalCode.UNSUPPORTED_DEPTH, "floating point pixel data")
        raise refuse(RefusalCode.NO_PIXELS)
    vr = "" if image.encoding.implicit else head[4:6].decode("ascii", "replace")
    offset = 12 if vr in ("OB", "OW", "UN") else 8
    if len(head) < offset:
        raise refuse(RefusalCode.TRUNCATED)
    (length,) = struct.unpack_from(f"{image.encoding.order}L", head, offset - 4)
    value = image.start + offset
    if length == UNDEFINED:
        return vr, None, value
    if length == 0:
        raise refuse(RefusalCode.NO_PIXELS)
    return vr, image.data[value : value + length], value
