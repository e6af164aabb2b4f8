"""Where the elements of a data set begin and end, without looking at a value.

The one parser of this program: it goes from length to length, so that what a header takes is known,
and bounded, before anything of it is converted. Every length must lie inside what holds it: a data
set that was cut off is told from a whole one. What pydicom would decode, complete or lose (unknown
VRs, values of odd length, empty items) stays the bytes that it is.
"""

import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from dicom_ai_node.dicom.encoding import (
    ITEM,
    ITEM_END,
    LONG_VRS,
    PIXELS,
    SEQUENCE_END,
    SEQUENCES,
    SHORT_VRS,
    UNDEFINED,
    ElementSpan,
    Encoding,
    Item,
    described,
)
from dicom_ai_node.dicom.limits import Limits
from dicom_ai_node.dicom.odd import Element, element_of_no_vr
from dicom_ai_node.errors import UnreadableInstance

_VRS: Final = {
    **{vr.encode(): (vr, True) for vr in LONG_VRS},
    **{vr.encode(): (vr, False) for vr in SHORT_VRS},
}
_FRAGMENTS: Final = frozenset({"OB", "OW"})
_HEADS: Final = {order: struct.Struct(f"{order}HH2sH") for order in "<>"}
_MARKS: Final = {order: struct.Struct(f"{order}HHL") for order in "<>"}
_LONG: Final = {order: struct.Struct(f"{order}L") for order in "<>"}
_ZEROS: Final = 1 << 16


class Walked(NamedTuple):
    """The elements of a data set, and where they end."""

    parts: list[ElementSpan]
    end: int
    """Offset of the element that was not to be read, or behind the last one."""


class _Unfollowed(UnreadableInstance):
    """A length, a tag or a delimiter is wrong; not that there is too much."""


def walk(
    data: bytes | memoryview,
    encoding: Encoding,
    *,
    start: int = 0,
    stop: Callable[[int], bool] = lambda tag: False,
    limits: Limits,
) -> Walked:
    """Return the elements of a data set, in the order in which they stand.

    It ends before the first element whose tag ``stop`` is true of. Bytes behind the last element
    that are all zero belong to none and are left out.

    Raises UnreadableInstance: the bytes are no data set of this encoding, the data set is cut off,
    or it goes beyond ``limits``. The message names the attribute where that is, and no value.
    """
    parts, end, _ = _Walk(data, limits, start).elements(
        start, len(data), encoding, depth=0, open_end=False, stop=stop
    )
    return Walked(parts, end)


def items_of(
    data: bytes, encoding: Encoding, *, tag: int, vr: str, limits: Limits
) -> tuple[tuple[Item, ...], Encoding]:
    """Return the items in the value of a sequence, and how they are encoded; errors of walk()."""
    whole = _Walk(data, limits, 0)
    inner = whole.inner(vr, 0, encoding)
    items, _ = whole.items(tag, 0, len(data), inner, depth=1, open_end=False, opaque=False)
    return items, inner


class _Walk:
    """One walk over one data set, with what is left of its limits."""

    def __init__(self, data: bytes | memoryview, limits: Limits, start: int) -> None:
        self._data = data
        self._limits = limits
        self._left = limits.elements
        self._last = start + limits.header_bytes
        """Where the header must have ended."""

    def elements(
        self,
        offset: int,
        end: int,
        encoding: Encoding,
        *,
        depth: int,
        open_end: bool,
        stop: Callable[[int], bool] | None = None,
    ) -> tuple[list[ElementSpan], int, int]:
        """Return the elements, where they end, and where what follows them starts.

        With ``open_end`` an item delimiter ends them (PS3.5 7.5.1).
        """
        largest = self._limits.element_bytes
        parts: list[ElementSpan] = []
        tag = 0
        while offset < end or open_end:
            previous, tag = tag, self._tag(offset, end, encoding, tag)
            if stop is not None and stop(tag):
                break
            if tag == ITEM_END and open_end:
                return parts, offset, offset + 8
            if tag >> 16 == 0xFFFE:
                what = "an item of no sequence" if tag == ITEM else "a delimiter that ends nothing"
                raise _wrong(tag, f"{what}, behind {described(previous)}")
            if tag == 0 and self._only_zeros(offset, min(end, self._last + 1)):
                if end > self._last:
                    raise self._too_long(previous)
                break
            vr, value, length, written = self._head(offset, end, encoding, tag)
            self._count(tag)
            if length == UNDEFINED:
                part = self._sequence(tag, vr, offset, value, end, written, depth, open_end=True)
            else:
                if length > end - value:
                    raise self._cut(tag, end)
                if vr == "SQ" or (tag in SEQUENCES and self._may_be_items(vr, value, length)):
                    part = self._sequence(
                        tag, vr, offset, value, value + length, written, depth, open_end=False
                    )
                elif length > largest and tag not in PIXELS:
                    raise _too_much(
                        tag, f"a value of {length} bytes, more", "element_bytes", largest
                    )
                else:
                    part = ElementSpan(tag, vr, offset, value, value + length, False, written)
            offset = part.end
            if depth == 0 and offset > self._last and tag not in PIXELS:
                raise self._too_long(tag)
            parts.append(part)
        return parts, offset, offset

    def _head(
        self, offset: int, end: int, encoding: Encoding, tag: int
    ) -> tuple[str, int, int, Encoding]:
        """Return VR, offset of the value, length, and how this element is really encoded."""
        if end - offset < 8:
            raise self._cut(tag, end)
        if encoding.implicit:
            length = _MARKS[encoding.order].unpack_from(self._data, offset)[2]
            return "", offset + 8, length, encoding
        _, _, code, short = _HEADS[encoding.order].unpack_from(self._data, offset)
        known = _VRS.get(code)
        if known is None:
            found = element_of_no_vr(Element(self._data, offset, end, encoding))
            if found is None:
                raise self._no_vr(tag, end, offset + 8 + short)
            return found
        vr, long = known
        if not long:
            return vr, offset + 8, short, encoding
        if end - offset < 12:
            raise self._cut(tag, end)
        (length,) = _LONG[encoding.order].unpack_from(self._data, offset + 8)
        return vr, offset + 12, length, encoding

    def _sequence(
        self,
        tag: int,
        vr: str,
        start: int,
        value: int,
        end: int,
        encoding: Encoding,
        depth: int,
        *,
        open_end: bool,
    ) -> ElementSpan:
        """Return a sequence, or an element of fragments: from ``value`` to ``end`` at most."""
        inner = self.inner(vr, value, encoding)
        opaque = open_end and vr in _FRAGMENTS
        items: tuple[Item, ...] | None
        try:
            items, after = self.items(
                tag, value, end, inner, depth=depth + 1, open_end=open_end, opaque=opaque
            )
        except _Unfollowed:
            if open_end or vr != "UN":  # which may hold anything
                raise
            items, after = None, end
        return ElementSpan(tag, vr, start, value, after, open_end, inner, None if opaque else items)

    def items(
        self,
        tag: int,
        offset: int,
        end: int,
        encoding: Encoding,
        *,
        depth: int,
        open_end: bool,
        opaque: bool,
    ) -> tuple[tuple[Item, ...], int]:
        """Return the items of a sequence and the offset behind it; none of fragments."""
        if depth > self._limits.depth:
            raise _too_much(tag, "sequences nested deeper", "depth", self._limits.depth)
        mark = _MARKS[encoding.order]
        items: list[Item] = []
        while offset < end or open_end:
            if end - offset < 8:
                raise self._cut(tag, end)
            group, element, length = mark.unpack_from(self._data, offset)
            found = group << 16 | element
            if found == SEQUENCE_END and (open_end or offset + 8 == end):
                return tuple(items), offset + 8
            if found != ITEM:
                raise _wrong(tag, "an item is expected")
            if tag not in PIXELS:
                self._count(tag)
            start = offset + 8
            if length == UNDEFINED and not opaque:
                parts, stop, offset = self.elements(
                    start, end, encoding, depth=depth, open_end=True
                )
                items.append(Item(start, stop, parts))
                continue
            if length > end - start:
                raise self._cut(tag, end)
            offset = start + length
            if not opaque:
                parts, _, _ = self.elements(start, offset, encoding, depth=depth, open_end=False)
                items.append(Item(start, offset, parts))
        return tuple(items), offset

    def _may_be_items(self, vr: str, value: int, length: int) -> bool:
        """Whether what no VR calls a sequence begins like one, or is empty."""
        mark = bytes(self._data[value : value + 4])
        return vr in ("", "UN") and (
            length == 0 or mark in (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
        )

    def inner(self, vr: str, value: int, encoding: Encoding) -> Encoding:
        """Return how the items of a sequence are encoded.

        What travels under an unknown VR is Implicit VR Little Endian (PS3.5 6.2.2 note 2). Not
        every writer knows, so the first item tells.
        """
        if vr != "UN":
            return encoding
        first = bytes(self._data[value + 12 : value + 14])
        little = bytes(self._data[value : value + 2]) != b"\xff\xfe"
        return Encoding(implicit=first not in _VRS, little=little)

    def _tag(self, offset: int, end: int, encoding: Encoding, previous: int) -> int:
        if end - offset < 4:
            if offset < end and self._only_zeros(offset, end):
                return 0
            if end == len(self._data):
                raise ends_at(previous, behind=True)
            raise _wrong(previous, "what stands behind it is no element")
        return encoding.tag_at(self._data, offset)

    def _count(self, tag: int) -> None:
        self._left -= 1
        if self._left < 0:
            limit = self._limits.elements
            raise _too_much(tag, "more data elements and items", "elements", limit)

    def _too_long(self, tag: int) -> UnreadableInstance:
        limit = self._limits.header_bytes
        return _too_much(tag, "more bytes before its pixel data", "header_bytes", limit)

    def _only_zeros(self, offset: int, end: int) -> bool:
        return not any(
            bytes(self._data[at : min(at + _ZEROS, end)]).strip(b"\0")
            for at in range(offset, end, _ZEROS)
        )

    def _cut(self, tag: int, end: int) -> UnreadableInstance:
        """Return the error for what goes beyond ``end``: of the data set, or of what holds it."""
        if end == len(self._data):
            return ends_at(tag)
        return _wrong(tag, "it runs past the end of what holds it")

    def _no_vr(self, tag: int, end: int, likely: int) -> UnreadableInstance:
        if likely > end == len(self._data):
            return ends_at(tag)
        return _wrong(tag, "it has no VR: the data set is not in the transfer syntax that is named")


def ends_at(tag: int, *, behind: bool = False) -> UnreadableInstance:
    """Return the error for a header that was cut off within an element, or ``behind`` it."""
    where = f"{'behind' if behind else 'at'} {described(tag)}" if tag else "at its start"
    return _Unfollowed(f"cannot be read: ends within its header, {where}")


def _wrong(tag: int, why: str) -> UnreadableInstance:
    return _Unfollowed(f"cannot be read: its header cannot be followed, at {described(tag)}: {why}")


def _too_much(tag: int, what: str, key: str, limit: int) -> UnreadableInstance:
    return UnreadableInstance(
        f"cannot be read: its header has {what} than limits.{key} = {limit}, at {described(tag)}"
    )
