"""A DICOM file (PS3.10 7) as its transfer syntax and the bytes of its data set, and back."""

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.pixels.source import MAX_INFLATED
from dicom_ai_node.report.copies.encoding import (
    BIG_ENDIAN,
    EXPLICIT,
    IMPLICIT,
    LONG_VRS,
    Encoding,
)
from dicom_ai_node.report.copies.walk import walk
from dicom_ai_node.report.elements import tag_of
from dicom_ai_node.report.provenance import PROGRAM_UID

_PREAMBLE = 128
# PS3.5 9.1 but for leading zeros, which are forbidden and common.
UID_VALUE = re.compile(r"[0-9.]{1,64}")
_TRANSFER_SYNTAX: Final = tag_of("TransferSyntaxUID")
_ENCODINGS: Mapping[str, Encoding] = {
    ImplicitVRLittleEndian: IMPLICIT,
    ExplicitVRBigEndian: BIG_ENDIAN,
}
"""Every other transfer syntax is Explicit VR Little Endian (PS3.5 A.4)."""
_DEFLATED = frozenset(
    {DeflatedExplicitVRLittleEndian, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"}
)
"""The last two are JPIP Referenced Deflate and JPIP HTJ2K Referenced Deflate (PS3.5 A.6, A.11)."""


@dataclass(frozen=True, slots=True)
class Part10:
    """A DICOM file, taken apart."""

    meta: bytes
    """The File Meta Information, without the preamble."""
    transfer_syntax_uid: str
    encoding: Encoding
    data: bytes
    """The data set; inflated, where the file holds it deflated."""


def opened(content: bytes) -> Part10:
    """Take a file apart.

    Raises
    ------
    UnreadableInstance
        It is no PS3.10 file, names no transfer syntax, or cannot be inflated.
    """
    if content[_PREAMBLE : _PREAMBLE + 4] != b"DICM":
        raise UnreadableInstance("expected a DICOM file (PS3.10), found no DICM at byte 128")
    start = _PREAMBLE + 4
    end = _end_of_meta(content, start)
    meta = content[start:end]
    syntax = ""
    for part in walk(meta, EXPLICIT):
        if part.tag == _TRANSFER_SYNTAX:
            syntax = meta[part.value : part.end].decode("ascii", "replace").strip("\0 ")
    if not UID_VALUE.fullmatch(syntax):
        state = "is not a UID" if syntax else "is missing"
        raise UnreadableInstance(f"TransferSyntaxUID {state} in the File Meta Information")
    data = content[end:]
    if syntax in _DEFLATED:
        data = _inflated(data)
    return Part10(meta, syntax, _ENCODINGS.get(syntax, EXPLICIT), data)


def rebuilt(file: Part10, data: bytes, *, sop_class_uid: str, sop_instance_uid: str) -> bytes:
    """Return ``file`` as this program writes it, with another data set.

    The preamble is zero: what a TIFF reader would find there are offsets of the source.
    """
    elements = b"".join(
        (
            EXPLICIT.element(tag_of("FileMetaInformationVersion"), "OB", b"\0\1"),
            EXPLICIT.text("MediaStorageSOPClassUID", "UI", sop_class_uid),
            EXPLICIT.text("MediaStorageSOPInstanceUID", "UI", sop_instance_uid),
            EXPLICIT.text("TransferSyntaxUID", "UI", file.transfer_syntax_uid),
            EXPLICIT.text("ImplementationClassUID", "UI", PROGRAM_UID),
            EXPLICIT.text("ImplementationVersionName", "SH", "DICOM_AI_NODE"),
        )
    )
    length = len(elements).to_bytes(4, "little")
    group_length = EXPLICIT.element(tag_of("FileMetaInformationGroupLength"), "UL", length)
    if file.transfer_syntax_uid in _DEFLATED:
        data = _deflated(data)
    return b"".join((bytes(_PREAMBLE), b"DICM", group_length, elements, data))


def _end_of_meta(content: bytes, offset: int) -> int:
    """Return where the group 0002 ends, whatever its group length says."""
    while content[offset : offset + 2] == b"\x02\x00":
        long = content[offset + 4 : offset + 6].decode("latin-1") in LONG_VRS
        size = slice(offset + 8, offset + 12) if long else slice(offset + 6, offset + 8)
        offset = size.stop + int.from_bytes(content[size], "little")
    return offset


def _inflated(packed: bytes) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(packed, MAX_INFLATED)
    except zlib.error as error:
        raise UnreadableInstance(f"expected a deflated data set: {error}") from error
    if inflater.unconsumed_tail or not inflater.eof:
        raise UnreadableInstance(
            f"the deflated data set is cut off, or larger than {MAX_INFLATED} bytes"
        )
    return data


def _deflated(data: bytes) -> bytes:
    """Deflate as RFC 1951 has it, padded to even length (PS3.5 A.5)."""
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = deflater.compress(data) + deflater.flush()
    return packed + bytes(len(packed) % 2)
