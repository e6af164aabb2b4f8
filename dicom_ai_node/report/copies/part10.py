"""A DICOM file (PS3.10 7) as its transfer syntax and the bytes of its data set, and back."""

import sys
import zlib
from dataclasses import dataclass
from typing import Final

from dicom_ai_node.dicom.encoding import Encoding, Part, tag_name, tag_of
from dicom_ai_node.dicom.header import file_meta, inflate
from dicom_ai_node.dicom.limits import DEFAULT, Limits
from dicom_ai_node.dicom.part10 import PREFIX_END, file_head, is_part10
from dicom_ai_node.dicom.syntaxes import encoding_of, is_deflated
from dicom_ai_node.dicom.uids import is_uid
from dicom_ai_node.dicom.walk import walk
from dicom_ai_node.errors import UnreadableInstance

MAX_INFLATED: Final = 256 << 20
"""Bytes that a deflated data set may grow to: 100 megapixels of 16 bit, and room for a header."""

_TRANSFER_SYNTAX: Final = tag_of("TransferSyntaxUID")
_WHOLE: Final = Limits(
    header_bytes=sys.maxsize, element_bytes=sys.maxsize, elements=sys.maxsize, depth=DEFAULT.depth
)
"""The file is in memory, and was read within the limits of the configuration before."""


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
    if not is_part10(content):
        raise UnreadableInstance("expected a DICOM file (PS3.10), found no DICM at byte 128")
    file = file_meta(memoryview(content), DEFAULT)
    assert file is not None, "it has DICM"
    syntax = file.uid(_TRANSFER_SYNTAX)
    if not is_uid(syntax):
        state = "is not a UID" if syntax else "is missing"
        raise UnreadableInstance(f"TransferSyntaxUID {state} in the File Meta Information")
    data = content[file.end :]
    if is_deflated(syntax):
        data = _inflated(data)
    return Part10(content[PREFIX_END : file.end], syntax, encoding_of(syntax), data)


def elements_of(data: bytes, encoding: Encoding) -> list[Part]:
    """Return the elements of a data set, its pixel data and what is behind them included.

    Raises
    ------
    UnreadableInstance
        It cannot be followed to its end, or is not in this encoding.
    """
    parts = walk(data, encoding, limits=_WHOLE).parts
    if not encoding.implicit and (mixed := [part.tag for part in parts if not part.vr]):
        raise UnreadableInstance(
            f"{tag_name(mixed[0])} has no VR: the data set is not in the transfer syntax that the"
            " file names"
        )
    return parts


def rebuilt(file: Part10, data: bytes, *, sop_class_uid: str, sop_instance_uid: str) -> bytes:
    """Return ``file`` as this program writes it, with another data set."""
    head = file_head(
        sop_class_uid=sop_class_uid,
        sop_instance_uid=sop_instance_uid,
        transfer_syntax_uid=file.transfer_syntax_uid,
    )
    if is_deflated(file.transfer_syntax_uid):
        data = _deflated(data)
    return head + data


def _inflated(packed: bytes) -> bytes:
    inflated = inflate(packed, MAX_INFLATED)
    if inflated.is_cut or not inflated.has_end:
        raise UnreadableInstance(
            f"the deflated data set is cut off, or larger than {MAX_INFLATED} bytes"
        )
    return inflated.data


def _deflated(data: bytes) -> bytes:
    """Deflate as RFC 1951 has it, padded to even length (PS3.5 A.5)."""
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = deflater.compress(data) + deflater.flush()
    return packed + bytes(len(packed) % 2)
