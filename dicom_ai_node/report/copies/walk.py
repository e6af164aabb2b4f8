"""Where the elements of a data set begin and end, without looking at a value.

A sequence of undefined length is followed to its delimiter (PS3.5 7.5); all else is skipped by its
length. So what pydicom would decode, complete or lose (unknown VRs, values of odd length, empty
items, offset tables, padding) stays the bytes that it is.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.report.copies.encoding import (
    ITEM,
    ITEM_END,
    LONG_VRS,
    SEQUENCE_END,
    SHORT_VRS,
    UNDEFINED,
    Encoding,
    tag_name,
)

_DEEPEST = 64
"""Nesting of sequences that is followed; data sets have three levels, attacks have thousands."""


@dataclass(frozen=True, slots=True)
class Part:
    """One element as a range of bytes."""

    tag: int
    vr: str
    """'' in Implicit VR."""
    start: int
    value: int
    """Offset of the value."""
    end: int
    """Offset behind the element, its delimiter included."""
    undefined: bool
    """Whether its length is undefined: then a delimiter of 8 bytes ends it."""

    @property
    def value_end(self) -> int:
        """Offset behind the value."""
        return self.end - 8 if self.undefined else self.end


def walk(data: bytes, encoding: Encoding) -> list[Part]:
    """Return the elements of a data set in the order in which they stand.

    Bytes behind the last element that are all zero belong to none and are left out.

    Raises
    ------
    UnreadableInstance
        The bytes are no data set of this encoding, or the last element is cut off.
    """
    try:
        return list(_elements(data, 0, len(data), encoding, depth=0))
    except struct.error as error:
        raise UnreadableInstance("the data set ends within an element") from error


def items(data: bytes, part: Part, encoding: Encoding) -> list[list[Part]]:
    """Return the elements of each item of a sequence, offsets being those of ``data``.

    Raises
    ------
    UnreadableInstance
        The value is not a sequence of items.
    """
    inner = inner_encoding(data, part, encoding)
    found = []
    offset = part.value
    try:
        while offset < part.value_end:
            start, end, after = _item(data, offset, part.value_end, inner, depth=0)
            found.append(list(_elements(data, start, end, inner, depth=1)))
            offset = after
    except struct.error as error:
        raise UnreadableInstance(f"{tag_name(part.tag)} ends within an item") from error
    return found


def inner_encoding(data: bytes, part: Part, encoding: Encoding) -> Encoding:
    """Return how the items of a sequence are encoded.

    What travels under an unknown VR is Implicit VR Little Endian (PS3.5 6.2.2 note 2). Not every
    writer knows, so the first item tells.
    """
    if part.vr != "UN":
        return encoding
    first = data[part.value + 12 : part.value + 14].decode("latin-1")
    little = data[part.value : part.value + 2] != b"\xff\xfe"
    return Encoding(implicit=first not in LONG_VRS | SHORT_VRS, little=little)


def _elements(
    data: bytes, offset: int, end: int, encoding: Encoding, *, depth: int
) -> Iterator[Part]:
    while offset < end:
        if end - offset < 8 or not any(data[offset : offset + 8]):
            if any(data[offset:end]):
                raise UnreadableInstance(f"{end - offset} bytes at {offset} are no data element")
            return
        part = _element(data, offset, end, encoding, depth)
        yield part
        offset = part.end


def _element(data: bytes, offset: int, end: int, encoding: Encoding, depth: int) -> Part:
    tag = encoding.tag_at(data, offset)
    if tag >> 16 == 0xFFFE:
        raise UnreadableInstance(f"a delimiter {tag_name(tag)} at {offset} ends nothing")
    vr, value, length = _header(data, offset, encoding)
    if length == UNDEFINED:
        open_end = Part(tag, vr, offset, value, end, undefined=True)
        return replace(open_end, end=_delimited(data, open_end, end, encoding, depth))
    if length > end - value:
        raise UnreadableInstance(
            f"{tag_name(tag)} at {offset} runs {length - (end - value)} bytes past the end"
        )
    return Part(tag, vr, offset, value, value + length, undefined=False)


def _header(data: bytes, offset: int, encoding: Encoding) -> tuple[str, int, int]:
    """Return VR, offset of the value and length."""
    if encoding.implicit:
        return "", offset + 8, struct.unpack_from(f"{encoding.order}L", data, offset + 4)[0]
    vr = data[offset + 4 : offset + 6].decode("latin-1")
    if not (vr.isascii() and vr.isalpha() and vr.isupper()):
        raise UnreadableInstance(
            f"{tag_name(encoding.tag_at(data, offset))} at {offset} has no VR: the data set is not"
            " in the transfer syntax that the file names"
        )
    # A VR of a later edition has a length of 32 bit (PS3.5 7.1.2); not every writer knows.
    known = vr in LONG_VRS | SHORT_VRS
    if vr in SHORT_VRS or (not known and data[offset + 6 : offset + 8] != b"\0\0"):
        return vr, offset + 8, struct.unpack_from(f"{encoding.order}H", data, offset + 6)[0]
    return vr, offset + 12, struct.unpack_from(f"{encoding.order}L", data, offset + 8)[0]


def _delimited(data: bytes, part: Part, end: int, encoding: Encoding, depth: int) -> int:
    """Return the offset behind the delimiter of a value of undefined length."""
    if depth > _DEEPEST:
        raise UnreadableInstance(f"sequences are nested more than {_DEEPEST} deep")
    inner = inner_encoding(data, part, encoding)
    offset = part.value
    while inner.tag_at(data, offset) != SEQUENCE_END:
        _, _, offset = _item(data, offset, end, inner, depth=depth)
    return offset + 8


def _item(
    data: bytes, offset: int, end: int, encoding: Encoding, *, depth: int
) -> tuple[int, int, int]:
    """Return where the content of an item starts and ends, and where what follows it starts."""
    tag = encoding.tag_at(data, offset)
    (length,) = struct.unpack_from(f"{encoding.order}L", data, offset + 4)
    if tag != ITEM:
        raise UnreadableInstance(f"expected an item at {offset}, found {tag_name(tag)}")
    start = offset + 8
    if length != UNDEFINED:
        if length > end - start:
            raise UnreadableInstance(f"an item at {offset} runs past the end")
        return start, start + length, start + length
    offset = start
    while encoding.tag_at(data, offset) != ITEM_END:
        offset = _element(data, offset, end, encoding, depth + 1).end
    return start, offset, offset + 8
