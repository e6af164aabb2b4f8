"""The pixel data element: native bytes, or the codestream in its fragments (PS3.5 A.4)."""

import re
import struct
from collections.abc import Iterator

from pydicom import config
from pydicom.uid import UID

from dicom_ai_node.dicom.limits import DEFAULT, Limits
from dicom_ai_node.pixels.refusals import RefusalCode, refuse
from dicom_ai_node.pixels.source import Source

_UNDEFINED = 0xFFFFFFFF
_ITEM = (0xFFFE, 0xE000)
_RLE_HEADER = 64
_DELIMITER = (0xFFFE, 0xE0DD)
_UID = re.compile(r"[0-9.]{1,64}")
_MAGIC = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  ")
"""Starts of JPEG and JPEG-LS, of JPEG 2000, of the JP2 file format."""


def pixel_element(source: Source) -> tuple[str, memoryview | None, int]:
    """Return VR ('' if implicit), native value (None if encapsulated) and the value's offset.

    Raises
    ------
    PixelsRefused
        ``no_pixels``: no PixelData (7FE0,0010), or an empty one; ``unsupported_depth``: floating
        point pixel data.
    """
    order = "<" if source.little_endian else ">"
    head = bytes(source.data[source.start : source.start + 12])
    if len(head) < 8:
        raise refuse(RefusalCode.NO_PIXELS)
    group, element = struct.unpack_from(f"{order}HH", head)
    if (group, element) != (0x7FE0, 0x0010):
        if group == 0x7FE0:
            raise refuse(RefusalCode.UNSUPPORTED_DEPTH, "floating point pixel data")
        raise refuse(RefusalCode.NO_PIXELS)
    vr = "" if source.implicit else head[4:6].decode("ascii", "replace")
    offset = 12 if vr in ("OB", "OW", "UN") else 8
    if len(head) < offset:
        raise refuse(RefusalCode.TRUNCATED)
    (length,) = struct.unpack_from(f"{order}L", head, offset - 4)
    value = source.start + offset
    if length == _UNDEFINED:
        return vr, None, value
    if length == 0:
        raise refuse(RefusalCode.NO_PIXELS)
    return vr, source.data[value : value + length], value


def codestream(source: Source, offset: int, limits: Limits = DEFAULT) -> bytes:
    """Join the fragments from ``offset`` on into the codestream of the only frame.

    With one frame, all fragments are its own, so the offset tables (which are often absent or
    wrong) are not needed.

    Raises
    ------
    PixelsRefused
        ``truncated``, ``undecodable``, ``too_large`` or ``no_pixels``.
    """
    fragments = list(_fragments(source, offset))
    # The first item is the basic offset table, unless a careless writer left it out.
    if fragments and not (is_codestream(fragments[0]) or is_rle(fragments[0])):
        del fragments[0]
    refuse_long(sum(len(fragment) for fragment in fragments), limits)
    joined = b"".join(fragments)
    if not joined:
        raise refuse(RefusalCode.NO_PIXELS, "no fragments")
    return joined


def refuse_long(length: int, limits: Limits) -> None:
    """Raise ``too_large`` for a codestream twice as long as the pixels of any image may be."""
    if length > 2 * limits.decoded_bytes:
        detail = f"a codestream of {length} bytes; limits.decoded_bytes = {limits.decoded_bytes}"
        raise refuse(RefusalCode.TOO_LARGE, detail)


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


def refuse_private(syntax: str) -> None:
    """Raise for native pixels of a transfer syntax that the standard does not have.

    Such a syntax may order the bytes of its pixels as it likes: GE's 1.2.840.113619.5.2 has a
    little endian data set and big endian pixels. Codestreams say themselves what they are.

    Raises
    ------
    PixelsRefused
        ``unsupported_syntax``.
    """
    # IGNORE because a damaged UID is no reason for a warning here.
    if not UID(syntax, config.IGNORE).is_transfer_syntax:
        named = syntax if _UID.fullmatch(syntax) else "malformed"
        detail = f"native pixels of the private or unknown transfer syntax {named}"
        raise refuse(RefusalCode.UNSUPPORTED_SYNTAX, detail)


def _fragments(source: Source, offset: int) -> Iterator[memoryview]:
    data, order = source.data, "<" if source.little_endian else ">"
    while offset + 8 <= len(data):
        group, element, length = struct.unpack_from(f"{order}HHL", data, offset)
        offset += 8
        if (group, element) == _DELIMITER:
            return
        if (group, element) != _ITEM:
            raise refuse(RefusalCode.UNDECODABLE, "an item is expected between fragments")
        if length > len(data) - offset:
            raise refuse(RefusalCode.TRUNCATED, "a fragment runs past the end of the file")
        yield data[offset : offset + length]
        offset += length
