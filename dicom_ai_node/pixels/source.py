"""A DICOM file cut in two: the header, parsed, and the bytes of the pixel data, mapped.

pydicom parses up to the pixel data and no further; those stay in a memory map, so an uncompressed
image is averaged straight from the page cache without ever being copied in full.
"""

import mmap
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset, read_file_meta_info
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.pixels.header import quiet

MAX_INFLATED = 256 << 20
"""Bytes that a deflated data set may grow to: 100 megapixels of 16 bit, and room for a header."""

NATIVE_SYNTAXES = frozenset(
    {
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    }
)

_PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_PREAMBLE = 132


@dataclass(frozen=True, slots=True)
class Source:
    """A parsed header and where its pixel data begin."""

    header: Dataset
    """Everything before the pixel data."""
    syntax: str
    """Transfer syntax; guessed from the encoding where the file does not say."""
    data: memoryview
    """The file, or the inflated data set."""
    start: int
    """Offset of the pixel data element's tag in :attr:`data`; its length when there is none."""

    @property
    def implicit(self) -> bool:
        """Whether the pixel data element has no VR."""
        return bool(self.header.original_encoding[0])

    @property
    def little_endian(self) -> bool:
        """Byte order of element headers and of native pixels."""
        return self.header.original_encoding[1] is not False


def read_header(path: Path) -> Dataset:
    """Return the header of the file at ``path``: everything before the pixel data.

    Raises
    ------
    UnreadableInstance
        The file cannot be read, is not DICOM (a PS3.10 file, or a bare data set with SOP UIDs), or
        is a deflated data set that grows beyond :data:`MAX_INFLATED`.
    """
    return open_source(path).header


def open_source(path: Path) -> Source:
    """Parse the header of the file at ``path`` and map the rest; errors of :func:`read_header`."""
    try:
        with path.open("rb") as file, quiet():
            return _open(path, file)
    except UnreadableInstance:
        raise
    except OSError as error:
        raise _unreadable(path, f"a readable file, got: {error.strerror or error}") from error
    except InvalidDicomError as error:
        raise _unreadable(path, "a DICOM file, got none of its marks") from error
    except zlib.error as error:
        raise _unreadable(path, f"a deflated data set, got: {error}") from error


def _open(path: Path, file: BinaryIO) -> Source:
    # An empty file cannot be mapped.
    if not file.read(1):
        raise _unreadable(path, "a DICOM data set, got an empty file")
    mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    if _syntax_in_meta(path, mapped) == DeflatedExplicitVRLittleEndian:
        return _open_deflated(path, mapped)
    file.seek(0)
    header = _parse(path, file)
    return Source(header, _syntax_of(header), mapped, file.tell())


def _parse(path: Path, file: BinaryIO) -> Dataset:
    try:
        try:
            header = dcmread(file, stop_before_pixels=True)
        except InvalidDicomError:
            # A bare data set has no mark of its own: believe one only that names its instance.
            file.seek(0)
            header = dcmread(file, stop_before_pixels=True, force=True)
            if not ("SOPClassUID" in header and "SOPInstanceUID" in header):
                raise
    except InvalidDicomError:
        raise
    except Exception as error:
        # Damaged element headers make pydicom fail in more ways than it documents. Its messages
        # quote the header, which may not leave it.
        raise _unreadable(path, f"a DICOM data set, got {type(error).__name__}") from error
    if len(header) == 0:
        raise _unreadable(path, "a DICOM data set, got a header without elements")
    return header


def _syntax_in_meta(path: Path, mapped: memoryview) -> str:
    """Return the transfer syntax of the file meta information, '' when it cannot be read."""
    if bytes(mapped[128:_PREAMBLE]) != b"DICM":
        return ""
    try:
        return str(read_file_meta_info(path).get("TransferSyntaxUID", ""))
    except Exception as error:
        raise _unreadable(
            path, f"file meta information (PS3.10 7.1), got {type(error).__name__}"
        ) from error


def _open_deflated(path: Path, mapped: memoryview) -> Source:
    """Inflate within bounds, which pydicom does not do (PS3.5 A.5)."""
    meta = read_file_meta_info(path)
    group_length = meta.get("FileMetaInformationGroupLength")
    if not isinstance(group_length, int):
        raise _unreadable(path, "FileMetaInformationGroupLength, got none")
    # The group length counts from the end of its own element of 12 bytes.
    deflated = mapped[_PREAMBLE + 12 + group_length :]
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(deflated, MAX_INFLATED)
    if inflater.unconsumed_tail:
        raise _unreadable(path, f"at most {MAX_INFLATED >> 20} MiB when inflated, got more")
    buffer = BytesIO(inflated)
    try:
        header = read_dataset(
            buffer,
            is_implicit_VR=False,
            is_little_endian=True,
            stop_when=lambda tag, _vr, _length: tag in _PIXEL_TAGS,
        )
    except Exception as error:
        raise _unreadable(path, f"a DICOM data set, got {type(error).__name__}") from error
    header.file_meta = meta
    header.set_original_encoding(False, True)
    return Source(header, DeflatedExplicitVRLittleEndian, memoryview(inflated), buffer.tell())


def _syntax_of(header: Dataset) -> str:
    stated = header.file_meta.get("TransferSyntaxUID") if hasattr(header, "file_meta") else None
    if stated:
        return str(stated)
    implicit, little = header.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRBigEndian if little is False else ExplicitVRLittleEndian


def _unreadable(path: Path, expected: str) -> UnreadableInstance:
    return UnreadableInstance(f"{path.name}: expected {expected}")
