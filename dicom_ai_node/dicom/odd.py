"""An element of Explicit VR whose VR is none: '??', blanks, NUL, lower case, a later edition's.

DCMTK takes two capital letters for a VR of a later edition, with a length of 32 bit (PS3.5 7.1.2),
and everything else for one with a length of 16 bit. Not every writer agrees, and some put elements
of Implicit VR between explicit ones; so of the ways to read the element, DCMTK's first, that one is
taken from which the next element can be read.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from dicom_ai_node.dicom.encoding import LONG_VRS, SHORT_VRS, UNDEFINED, Encoding

_KNOWN: Final = frozenset(vr.encode() for vr in LONG_VRS | SHORT_VRS)
_AHEAD: Final = 3
"""How many further elements without a VR are looked through to find one that has one."""


class Element(NamedTuple):
    """Where an element starts, and where what holds it ends."""

    data: bytes | memoryview
    offset: int
    end: int
    encoding: Encoding

    @property
    def code(self) -> bytes:
        """What stands where the VR should."""
        return bytes(self.data[self.offset + 4 : self.offset + 6])


def element_of_no_vr(element: Element) -> tuple[str, int, int, Encoding] | None:
    """Return VR, offset of the value, length and encoding; None where nothing fits."""
    for value, length, encoding in _readings(element):
        if _reads_on(element, value, length, encoding, _AHEAD):
            vr = "" if encoding.implicit else _vr(element.code)
            return vr, value, length, encoding
    return None


def first_element_fits(data: bytes | memoryview, offset: int, encoding: Encoding) -> bool:
    """Whether the element at ``offset`` and the one behind it can be read in this encoding."""
    end = len(data)
    if end - offset < 8:
        return False
    element = Element(data, offset, end, encoding)
    group = encoding.tag_at(data, offset) >> 16
    # Data sets begin with low groups: the other byte order would be 0800 for 0008.
    if group > (group >> 8 | (group & 0xFF) << 8) or (element.code in _KNOWN) is encoding.implicit:
        return False
    if encoding.implicit:
        value, size = offset + 8, _number(encoding, "L", data, offset + 4)
    elif element.code.decode() in SHORT_VRS:
        value, size = offset + 8, _number(encoding, "H", data, offset + 6)
    elif end - offset >= 12:
        value, size = offset + 12, _number(encoding, "L", data, offset + 8)
    else:
        return False
    behind = value + size
    if size == UNDEFINED or behind + 8 > end:
        return size == UNDEFINED or behind == end
    following = Element(data, behind, end, encoding)
    ascends = encoding.tag_at(data, behind) > encoding.tag_at(data, offset)
    return ascends and (following.code in _KNOWN) is not encoding.implicit


def _vr(code: bytes) -> str:
    return code.decode("ascii") if _is_later(code) else "UN"


def _is_later(code: bytes) -> bool:
    return len(code) == 2 and code.isalpha() and code.isupper() and code.isascii()


def _readings(element: Element) -> Iterator[tuple[int, int, Encoding]]:
    """Offset and length of the value in each way to read the element, the likeliest first."""
    data, offset, end, encoding = element
    short = _number(encoding, "H", data, offset + 6)
    readings = [(offset + 8, short, encoding)]
    if end - offset >= 12:
        long = _number(encoding, "L", data, offset + 8)
        readings.append((offset + 12, long, encoding))
    if _is_later(element.code):
        readings.reverse()
    implicit = _number(encoding, "L", data, offset + 4)
    yield from readings
    yield offset + 8, implicit, Encoding(implicit=True, little=encoding.little)


def _reads_on(element: Element, value: int, length: int, encoding: Encoding, ahead: int) -> bool:
    """Whether the data set goes on behind a value: with a higher tag, or not at all."""
    data, offset, end, explicit = element
    if length == UNDEFINED:
        return encoding.implicit and bytes(data[value : value + 4]) in (
            b"\xfe\xff\x00\xe0",
            b"\xfe\xff\xdd\xe0",
        )
    behind = value + length
    if behind == end:
        return True
    if behind + 8 > end:
        return False
    tag = explicit.tag_at(data, behind)
    if tag >> 16 == 0xFFFE:
        return _number(explicit, "L", data, behind + 4) == 0
    if tag <= explicit.tag_at(data, offset):
        return False
    following = Element(data, behind, end, explicit)
    if following.code in _KNOWN:
        return True
    if encoding.implicit:
        long = _number(explicit, "L", data, behind + 4)
        return long == UNDEFINED or behind + 8 + long <= end
    if ahead == 0:
        return tag >> 16 == explicit.tag_at(data, offset) >> 16
    return any(
        _reads_on(following, at, size, how, ahead - 1)
        for at, size, how in _readings(following)
        if not how.implicit
    )


def _number(encoding: Encoding, size: str, data: bytes | memoryview, offset: int) -> int:
    return int(struct.unpack_from(f"{encoding.order}{size}", data, offset)[0])
