"""Elements put into, replaced in and taken out of a data set, every other byte as it was."""

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from dicom_ai_node.dicom.encoding import ITEM, Encoding, Part, tag_name
from dicom_ai_node.errors import UnreadableInstance

_LENGTH_TO_END: Final = 0x00080001


def found(parts: Sequence[Part], tag: int) -> Part | None:
    """Return the element of a tag, None where there is none.

    Raises
    ------
    UnreadableInstance
        There are two: readers do not agree on which one counts.
    """
    those = [part for part in parts if part.tag == tag]
    if len(those) > 1:
        raise UnreadableInstance(f"{tag_name(tag)} stands {len(those)} times in the data set")
    return those[0] if those else None


def spliced(
    data: bytes,
    parts: Sequence[Part],
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
            pieces.append(_piece(new.pop(0), changes))
        if part.tag not in changes:
            pieces.append((part.tag, data[part.start : part.end]))
        else:
            pieces.append(_piece(part.tag, changes))
    pieces += [_piece(tag, changes) for tag in new]
    tail = data[parts[-1].end :] if parts else data
    return b"".join([*_with_lengths(pieces, changes, encoding), tail])


def appended(
    data: bytes,
    part: Part | None,
    tag: int,
    item: Callable[[Encoding], bytes],
    encoding: Encoding,
) -> bytes:
    """Return a sequence with one more item; those that are there stay as they stand.

    Raises
    ------
    UnreadableInstance
        What the source has there is no sequence.
    """
    if part is None or part.value == part.value_end:
        return encoding.sequence(tag, [item(encoding)])
    inner = part.encoding
    if part.vr not in ("", "SQ", "UN") or inner.tag_at(data, part.value) != ITEM:
        raise UnreadableInstance(f"{tag_name(tag)} is no sequence of items")
    value = data[part.value : part.value_end] + item(inner)
    if part.undefined:
        return data[part.start : part.value] + value + data[part.value_end : part.end]
    return encoding.header(tag, part.vr, len(value)) + value


def _piece(tag: int, changes: Mapping[int, bytes | None]) -> tuple[int, bytes]:
    return tag, changes[tag] or b""


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
