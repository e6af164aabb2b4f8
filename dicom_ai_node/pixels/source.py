"""A DICOM file cut in two: the header, parsed, and the bytes of the pixel data, mapped.

The header is followed up to the pixel data and no further; those stay in a memory map, so an
uncompressed image is averaged straight from the page cache without ever being copied in full.
"""

from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicom_ai_node.dicom.encoding import Encoding
from dicom_ai_node.dicom.header import FileHeader, header_of_file, inflate, mapped
from dicom_ai_node.dicom.limits import DEFAULT, Limits
from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.pixels.refusals import RefusalCode, refuse


@dataclass(frozen=True, slots=True)
class Source:
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

    @property
    def implicit(self) -> bool:
        """Whether the pixel data element has no VR."""
        return self.encoding.implicit

    @property
    def little_endian(self) -> bool:
        """Byte order of element headers and of native pixels."""
        return self.encoding.little


def read_header(path: Path, limits: Limits = DEFAULT) -> Dataset:
    """Return the header of the file at ``path``: everything before the pixel data.

    Raises
    ------
    UnreadableInstance
        The file cannot be read, is not DICOM (a PS3.10 file, or a bare data set with SOP UIDs), was
        cut off within its header, or goes beyond ``limits``.
    """
    return _read(path, limits)[0]


def open_source(path: Path, limits: Limits = DEFAULT) -> Source:
    """Parse the header of the file at ``path`` and map the rest; errors of :func:`read_header`.

    Raises PixelsRefused with ``too_large`` for a deflated data set that grows beyond ``limits``.
    """
    header, found, whole = _read(path, limits)
    encoding = found.header.encoding
    data = whole if found.deflated is None else _inflated(found.deflated, limits)
    syntax = found.transfer_syntax_uid or _syntax_of(encoding)
    return Source(header, syntax, encoding, data, found.header.end)


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


def _inflated(deflated: memoryview, limits: Limits) -> memoryview:
    most = limits.header_bytes + limits.decoded_bytes
    inflated = inflate(deflated, most)
    if inflated.is_cut:
        detail = f"over {most} bytes when inflated; limits.decoded_bytes = {limits.decoded_bytes}"
        raise refuse(RefusalCode.TOO_LARGE, detail)
    return memoryview(inflated.data)


def _syntax_of(encoding: Encoding) -> str:
    if encoding.implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if encoding.little else ExplicitVRBigEndian


def _unreadable(path: Path, expected: str) -> UnreadableInstance:
    return UnreadableInstance(f"{path.name}: expected {expected}")
