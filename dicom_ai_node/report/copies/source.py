"""The file that a copy is made of, taken apart into its elements, and spliced together again.

Elements are put in, replaced and taken out; every other byte stays as it was.
"""

import struct
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dicom_ai_node.dicom.encoding import ITEM, ElementSpan, Encoding, tag_name, tag_of
from dicom_ai_node.dicom.header import file_meta, inflate
from dicom_ai_node.dicom.limits import DEFAULT, Limits
from dicom_ai_node.dicom.part10 import PREFIX_END, file_head, is_part10
from dicom_ai_node.dicom.syntaxes import encoding_of, is_deflated
from dicom_ai_node.dicom.uids import is_uid
from dicom_ai_node.dicom.walk import walk
from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.report.identity import ReportFile

MAX_INFLATED: Final = 256 << 20
"""Bytes that a deflated data set may grow to: 100 megapixels of 16 bit, and room for a header."""

_TRANSFER_SYNTAX: Final = tag_of("TransferSyntaxUID")
_WHOLE: Final = Limits(
    header_bytes=sys.maxsize, element_bytes=sys.maxsize, elements=sys.maxsize, depth=DEFAULT.depth
)
"""The file is in memory, and was read within the limits of the configuration before."""
_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_LENGTH_TO_END: Final = 0x00080001


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A DICOM file whose elements have been found, none of them decoded."""

    meta: bytes
    """The File Meta Information, without the preamble."""
    transfer_syntax_uid: str
    encoding: Encoding
    data: bytes
    """The data set; inflated, where the file holds it deflated."""
    parts: Sequence[ElementSpan]

    def part(self, tag: int) -> ElementSpan | None:
        """Return an element, None where there is none.

        Raises UnreadableInstance: there are two: readers do not agree on which one counts.
        """
        those = [part for part in self.parts if part.tag == tag]
        if len(those) > 1:
            raise UnreadableInstance(f"{tag_name(tag)} stands {len(those)} times in the data set")
        return those[0] if those else None

    def value(self, keyword: str) -> bytes:
        """Return a value as it stands, without its padding; empty where there is none."""
        part = self.part(tag_of(keyword))
        return self.data[part.value : part.value_end].rstrip(b"\0 ") if part else b""

    def uid(self, keyword: str) -> str:
        """Return one of the UIDs that every instance has."""
        return self.value(keyword).decode("ascii", "replace").strip(" ")

    def appended(self, keyword: str, item: Callable[[Encoding], bytes]) -> dict[int, bytes]:
        """Return a sequence with one more item; those that are there stay as they stand.

        Raises UnreadableInstance: what the source has there is no sequence.
        """
        tag = tag_of(keyword)
        part, data = self.part(tag), self.data
        if part is None or part.value == part.value_end:
            return {tag: self.encoding.sequence(tag, [item(self.encoding)])}
        inner = part.encoding
        if part.vr not in ("", "SQ", "UN") or inner.tag_at(data, part.value) != ITEM:
            raise UnreadableInstance(f"{tag_name(tag)} is no sequence of items")
        value = data[part.value : part.value_end] + item(inner)
        if part.undefined:
            return {tag: data[part.start : part.value] + value + data[part.value_end : part.end]}
        return {tag: self.encoding.header(tag, part.vr, len(value)) + value}

    def rebuilt(self, changes: Mapping[int, bytes | None], sop_instance_uid: str) -> ReportFile:
        """Return the file as this program writes it, with :func:`spliced` ``changes``."""
        sop_class_uid = self.uid("SOPClassUID")
        head = file_head(
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax_uid=self.transfer_syntax_uid,
        )
        data = spliced(self.data, self.parts, changes, self.encoding)
        if is_deflated(self.transfer_syntax_uid):
            data = _deflated(data)
        return ReportFile(sop_class_uid, sop_instance_uid, head + data)


def opened(content: bytes) -> SourceFile:
    """Take a file apart.

    Raises UnreadableInstance: it is no PS3.10 file, names no transfer syntax, or cannot be
    inflated; its data set cannot be followed to its end, or is not in this encoding.
    """
    if not is_part10(content):
        raise UnreadableInstance("expected a DICOM file (PS3.10), found no DICM at byte 128")
    file = file_meta(memoryview(content), DEFAULT)
    assert file is not None, "it has DICM"
    syntax = file.uid(_TRANSFER_SYNTAX)
    if not is_uid(syntax):
        state = "is not a UID" if syntax else "is missing"
        raise UnreadableInstance(f"TransferSyntaxUID {state} in the File Meta Information")
    data, encoding = content[file.end :], encoding_of(syntax)
    if is_deflated(syntax):
        data = _inflated(data)
    meta = content[PREFIX_END : file.end]
    return SourceFile(meta, syntax, encoding, data, elements_of(data, encoding))


def source_of(content: bytes) -> SourceFile:
    """Read a DICOM file as far as it takes to change it.

    Raises UnreadableInstance: as :func:`opened`, and where it lacks one of the UIDs that place an
    instance. The message names no value.
    """
    source = opened(content)
    for keyword in _UIDS:
        if not is_uid(source.uid(keyword)):
            state = "is not a UID" if source.value(keyword) else "is missing"
            raise UnreadableInstance(f"{keyword} {state}: no copy can be made")
    return source


def elements_of(data: bytes, encoding: Encoding) -> list[ElementSpan]:
    """Return the elements of a data set, its pixel data and what is behind them included.

    Raises UnreadableInstance: it cannot be followed to its end, or is not in this encoding.
    """
    parts = walk(data, encoding, limits=_WHOLE).parts
    if not encoding.implicit and (mixed := [part.tag for part in parts if not part.vr]):
        raise UnreadableInstance(
            f"{tag_name(mixed[0])} has no VR: the data set is not in the transfer syntax that the"
            " file names"
        )
    return parts


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


def spliced(
    data: bytes,
    parts: Sequence[ElementSpan],
    changes: Mapping[int, bytes | None],
    encoding: Encoding,
) -> bytes:
    """Return the data set with ``changes``: whole elements by tag, None to take one out.

    A group length (PS3.5 7.2, retired) of a group that changes is set right; so is Length to End.
    """
    there = {part.tag for part in parts}
    new = sorted(tag for tag in changes.keys() - there if changes[tag] is not None)
    pieces: list[tuple[int, bytes]] = []
    for part in parts:
        while new and new[0] < part.tag:
            pieces.append((new[0], changes[new.pop(0)] or b""))
        there_now = data[part.start : part.end]
        pieces.append((part.tag, changes.get(part.tag, there_now) or b""))
    pieces += [(tag, changes[tag] or b"") for tag in new]
    tail = data[parts[-1].end :] if parts else data
    return b"".join([*_with_lengths(pieces, changes, encoding), tail])


def _with_lengths(
    pieces: Sequence[tuple[int, bytes]], changes: Mapping[int, bytes | None], encoding: Encoding
) -> list[bytes]:
    """Set the elements right that count the bytes behind them."""
    groups = {tag >> 16 for tag in changes}
    elements = [element for _, element in pieces]
    for number, (tag, element) in enumerate(pieces):
        group_length = tag & 0xFFFF == 0 and tag >> 16 in groups
        if len(element) == 12 and (group_length or tag == _LENGTH_TO_END):
            counted = sum(
                len(later)
                for other, later in pieces[number + 1 :]
                if tag == _LENGTH_TO_END or other >> 16 == tag >> 16
            )
            elements[number] = element[:8] + struct.pack(f"{encoding.order}L", counted)
    return elements
