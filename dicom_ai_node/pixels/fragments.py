"""Encapsulated pixel data (PS3.5 A.4): which fragments make the codestream of a frame.

Of one frame all fragments are its own, so the offset tables (which are often absent or wrong) are
not needed. Of several, the frame is found by the Extended Offset Table or the Basic Offset Table,
so that nothing else is read; where neither can be used, by counting the fragments or the starts of
codestreams.
"""

import struct
from collections.abc import Iterator, Sequence
from itertools import pairwise

from dicom_ai_node.dicom.encoding import ITEM, SEQUENCE_END
from dicom_ai_node.dicom.limits import DEFAULT, Limits
from dicom_ai_node.pixels.file import ImageFile
from dicom_ai_node.pixels.lenient import whole_value
from dicom_ai_node.pixels.refusals import RefusalCode, refuse, refuse_long

_EXTENDED_OFFSETS = 0x7FE00001
_RLE_HEADER = 64
_MAGIC = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  ")
"""Starts of JPEG and JPEG-LS, of JPEG 2000, of the JP2 file format."""


def codestream(
    image: ImageFile, offset: int, limits: Limits = DEFAULT, *, frame: int = 0, frames: int = 1
) -> bytes:
    """Join the fragments of frame number ``frame``, from 0 on, of so many.

    ``offset`` is where the first item of the pixel data begins.

    Raises PixelsRefused: ``truncated``, ``undecodable``, ``too_large`` or ``no_pixels``.
    """
    fragments = _all(image, offset) if frames == 1 else _of_frame(image, offset, frame, frames)
    refuse_long(sum(len(fragment) for fragment in fragments), limits)
    joined = b"".join(fragments)
    if not joined:
        raise refuse(RefusalCode.NO_PIXELS, "no fragments")
    return joined


def is_codestream(value: memoryview | bytes) -> bool:
    """Whether ``value`` starts like an image in JPEG, JPEG-LS or JPEG 2000."""
    return bytes(value[:12]).startswith(_MAGIC)


def is_rle(value: memoryview | bytes) -> bool:
    """Whether ``value`` starts like a frame in RLE: 1 to 15 segments, behind a header of 64 bytes.

    A basic offset table of one frame is shorter (PS3.5 annexes A.4 and G.5).
    """
    if len(value) < _RLE_HEADER:
        return False
    segments, first = struct.unpack_from("<2L", value)
    return bool(1 <= segments <= 15 and first == _RLE_HEADER)


def _all(image: ImageFile, offset: int) -> list[memoryview]:
    """Return all fragments, without the basic offset table."""
    fragments = list(_fragments(image, offset))
    # The first item is that table, unless a careless writer left it out.
    if fragments and not (is_codestream(fragments[0]) or is_rle(fragments[0])):
        del fragments[0]
    return fragments


def _of_frame(image: ImageFile, offset: int, frame: int, frames: int) -> Sequence[memoryview]:
    stated = _stated(image, offset, frame, frames)
    if stated:
        return list(_fragments(image, *stated))
    fragments = _all(image, offset)
    if len(fragments) == frames:
        return fragments[frame : frame + 1]
    begun = [i for i, value in enumerate(fragments) if is_codestream(value) or is_rle(value)]
    if len(begun) != frames:
        detail = f"{len(fragments)} fragments that cannot be told apart make {frames} frames"
        raise refuse(RefusalCode.UNDECODABLE, detail)
    return fragments[begun[frame] : [*begun, len(fragments)][frame + 1]]


def _stated(
    image: ImageFile, offset: int, frame: int, frames: int
) -> tuple[int, int | None] | None:
    """Return where the frame begins and the next one, by an offset table; None without a good one.

    It is good when it has an ascending offset for each frame, and items are where it says.
    """
    data, encoding = image.data, image.encoding
    if offset + 8 > len(data) or encoding.tag_at(data, offset) != ITEM:
        return None
    (length,) = struct.unpack_from(f"{encoding.order}L", data, offset + 4)
    first = offset + 8 + length
    extended = whole_value(image.header, _EXTENDED_OFFSETS)
    for kind, table in (
        (f"{encoding.order}{frames}Q", extended if isinstance(extended, bytes) else b""),
        (f"{encoding.order}{frames}L", bytes(data[offset + 8 : first])),
    ):
        if len(table) != struct.calcsize(kind):
            continue
        offsets = struct.unpack(kind, table)
        ascending = offsets[0] == 0 and all(one < other for one, other in pairwise(offsets))
        asked = [first + place for place in offsets[frame : frame + 2]]
        # Only these are looked at: the others may be on a part of the disk that nobody needs.
        if ascending and all(_is_item(image, start) for start in asked):
            return asked[0], asked[1] if len(asked) > 1 else None
    return None


def _is_item(image: ImageFile, start: int) -> bool:
    return start + 8 <= len(image.data) and image.encoding.tag_at(image.data, start) == ITEM


def _fragments(image: ImageFile, offset: int, end: int | None = None) -> Iterator[memoryview]:
    """Yield the items from ``offset`` on, up to ``end`` or the delimiter of their sequence."""
    data, encoding = image.data, image.encoding
    while offset + 8 <= len(data) and (end is None or offset < end):
        tag = encoding.tag_at(data, offset)
        (length,) = struct.unpack_from(f"{encoding.order}L", data, offset + 4)
        offset += 8
        if tag == SEQUENCE_END:
            return
        if tag != ITEM:
            raise refuse(RefusalCode.UNDECODABLE, "an item is expected between fragments")
        if length > len(data) - offset:
            raise refuse(RefusalCode.TRUNCATED, "a fragment runs past the end of the file")
        yield data[offset : offset + length]
        offset += length
