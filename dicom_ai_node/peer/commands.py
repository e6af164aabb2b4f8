"""Command sets as peers send them, and those that this node answers with (PS3.7 6.3 and annex E).

A command set is read for what this node needs of it. What is odd in the rest, such as a priority
that does not exist, costs nothing.
"""

import struct
from collections.abc import Iterator, Mapping
from enum import IntEnum

from dicom_ai_node.dicom.uids import is_uid
from dicom_ai_node.peer.pdus import UnreadablePdu

_ELEMENT = struct.Struct("<HHI")
_PDV = struct.Struct(">BxIIBB")
_PDV_HEADER = 6
"""Bytes of the Maximum Length that item length, context ID and control header take."""
COMMAND, LAST = 1, 2
"""Bits of the message control header (PS3.8 E.2)."""

NO_DATA_SET = 0x0101
_DATA_SET = 0x0001
_LOW = 2
NO_UID = "0"
"""Stands for a UID that a request lacks; no object has it."""
_RESPONSE = 0x8000
_WITHOUT_DATA_SET = frozenset({0x8001, 0x8030})
"""C-STORE-RSP and C-ECHO-RSP."""
_TEXT = 64
"""Characters of an LO (PS3.5 6.2)."""


class Tag(IntEnum):
    """Elements of a command set (PS3.7 annex E)."""

    GROUP_LENGTH = 0x00000000
    AFFECTED_SOP_CLASS_UID = 0x00000002
    REQUESTED_SOP_CLASS_UID = 0x00000003
    COMMAND_FIELD = 0x00000100
    MESSAGE_ID = 0x00000110
    MESSAGE_ID_RESPONDED_TO = 0x00000120
    PRIORITY = 0x00000700
    DATA_SET_TYPE = 0x00000800
    STATUS = 0x00000900
    OFFENDING_ELEMENT = 0x00000901
    ERROR_COMMENT = 0x00000902
    AFFECTED_SOP_INSTANCE_UID = 0x00001000
    REQUESTED_SOP_INSTANCE_UID = 0x00001001
    REMAINING_SUB_OPERATIONS = 0x00001020
    COMPLETED_SUB_OPERATIONS = 0x00001021
    FAILED_SUB_OPERATIONS = 0x00001022
    WARNING_SUB_OPERATIONS = 0x00001023


class Field(IntEnum):
    """Requests that are told apart (PS3.7 E.1-1)."""

    C_STORE = 0x0001
    C_FIND = 0x0020
    C_ECHO = 0x0030
    C_CANCEL = 0x0FFF


class CommandSet:
    """A command set that has arrived.

    Raises UnreadablePdu: it is no command set.
    """

    def __init__(self, data: bytes) -> None:
        self.elements: dict[int, bytes] = {}
        for tag, value in _elements(data):
            self.elements.setdefault(tag, value)
        field = self.number(Tag.COMMAND_FIELD)
        if field is None:
            raise UnreadablePdu("a message without a Command Field")
        self.field: int = field
        self.has_data_set: bool = self.number(Tag.DATA_SET_TYPE) != NO_DATA_SET
        """Whether it says that a data set follows."""

    @property
    def is_response(self) -> bool:
        """Whether it answers a request."""
        return bool(self.field & _RESPONSE)

    def number(self, tag: Tag) -> int | None:
        """Return a value of VR US, None where there is none; of several the first."""
        value = self.elements.get(tag, b"")
        return int.from_bytes(value[:2], "little") if len(value) >= 2 else None

    def text(self, tag: Tag) -> str:
        """Return a UID as it came but for its padding; what is not ASCII is a question mark."""
        value = self.elements.get(tag, b"").partition(b"\0")[0]
        return value.decode("ascii", "replace").replace("\ufffd", "?").strip()


def encode(elements: Mapping[int, bytes]) -> bytes:
    """Return a command set, its Command Group Length in front."""
    body = b"".join(
        _ELEMENT.pack(tag >> 16, tag & 0xFFFF, len(value)) + value
        for tag, value in sorted(elements.items())
    )
    return _ELEMENT.pack(0, 0, 4) + struct.pack("<I", len(body)) + body


def find_request(sop_class_uid: str, message_id: int) -> bytes:
    """Return the command set of a C-FIND-RQ (PS3.7 9.3.2.1) of low priority."""
    return encode(
        {
            Tag.AFFECTED_SOP_CLASS_UID: _even(sop_class_uid, b"\0"),
            Tag.COMMAND_FIELD: _us(Field.C_FIND),
            Tag.MESSAGE_ID: _us(message_id),
            Tag.PRIORITY: _us(_LOW),
            Tag.DATA_SET_TYPE: _us(_DATA_SET),
        }
    )


def comment_of(command: CommandSet) -> str:
    """Return an Error Comment as text of one line; it may name a patient."""
    return plain_comment(_decoded(command.elements.get(Tag.ERROR_COMMENT, b"")))


def response(
    request: CommandSet,
    status: int,
    *,
    comment: str = "",
    offending: tuple[int, ...] = (),
    sop_class_uid: str = "",
    sop_instance_uid: str = "",
) -> bytes:
    """Return the command set of the response to ``request``; the UIDs are those that are valid."""
    elements: dict[int, bytes] = {
        Tag.COMMAND_FIELD: _us(request.field | _RESPONSE),
        Tag.MESSAGE_ID_RESPONDED_TO: _us(request.number(Tag.MESSAGE_ID) or 0),
        Tag.DATA_SET_TYPE: _us(NO_DATA_SET),
        Tag.STATUS: _us(status),
    }
    if sop_class_uid:
        elements[Tag.AFFECTED_SOP_CLASS_UID] = _even(sop_class_uid, b"\0")
    if sop_instance_uid:
        elements[Tag.AFFECTED_SOP_INSTANCE_UID] = _even(sop_instance_uid, b"\0")
    if offending:
        elements[Tag.OFFENDING_ELEMENT] = b"".join(
            struct.pack("<HH", tag >> 16, tag & 0xFFFF) for tag in offending
        )
    if comment:
        elements[Tag.ERROR_COMMENT] = _even(plain_comment(comment), b" ")
    return encode(elements)


def p_data(
    message: bytes, context_id: int, longest: int, *, kind: int = COMMAND
) -> Iterator[bytes]:
    """Yield the P-DATA-TF PDUs of a command set, none longer than the peer's Maximum Length.

    ``kind`` 0 is a data set.
    """
    size = longest - _PDV_HEADER
    for position in range(0, len(message), size):
        part = message[position : position + size]
        control = kind | (LAST if position + size >= len(message) else 0)
        yield _PDV.pack(4, len(part) + _PDV_HEADER, len(part) + 2, context_id, control) + part


def cleaned(command: CommandSet) -> dict[int, bytes]:
    """Return the elements that pynetdicom can read, without what is odd in them.

    UIDs stay as they are, but for their padding; a priority that does not exist is medium, and a
    comment is text of one line that any terminal shows.
    """
    elements: dict[int, bytes] = {}
    for tag in _NUMBERS:
        number = command.number(tag)
        if number is not None:
            elements[tag] = _us(number)
    uids = {tag: command.text(tag) for tag in _UIDS}
    if command.is_response:
        uids = {tag: uid for tag, uid in uids.items() if is_uid(uid)}  # nothing hangs on them
        elements.pop(Tag.PRIORITY, None)
        elements.setdefault(Tag.MESSAGE_ID_RESPONDED_TO, _us(0))
        if command.field in _WITHOUT_DATA_SET:
            elements[Tag.DATA_SET_TYPE] = _us(NO_DATA_SET)
    else:
        elements.pop(Tag.STATUS, None)  # else pynetdicom would take it for a response
        elements.setdefault(Tag.MESSAGE_ID, _us(0))
        if elements.get(Tag.PRIORITY) not in {_us(0), _us(1), _us(2)}:
            elements[Tag.PRIORITY] = _us(0)
    elements |= {tag: _even(uid, b"\0") for tag, uid in uids.items() if uid}
    tags = command.elements.get(Tag.OFFENDING_ELEMENT, b"")
    if len(tags) >= 4:
        elements[Tag.OFFENDING_ELEMENT] = tags[: len(tags) // 4 * 4]
    comment = comment_of(command)
    if comment:
        elements[Tag.ERROR_COMMENT] = _even(comment, b" ")
    return elements


def plain_comment(text: str) -> str:
    """Return an Error Comment (PS3.7 annex C): at most 64 characters of one line, all printable.

    Nothing else than Latin-1, which is what an Error Comment is taken for.
    """
    return "".join(_plain(each) for each in text)[:_TEXT].strip()


def _plain(character: str) -> str:
    if character.isspace() or character == "\0":
        return " "
    if character == "\\":  # would divide the value in two
        return "/"
    return character if character.isprintable() and ord(character) < 256 else "?"


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(data):
        if len(data) - position < _ELEMENT.size:
            raise UnreadablePdu("a command set that ends within an element")
        group, element, length = _ELEMENT.unpack_from(data, position)
        position += _ELEMENT.size
        if group or position + length > len(data):
            raise UnreadablePdu("a command set that cannot be followed")
        yield element, data[position : position + length]
        position += length


def _us(value: int) -> bytes:
    return value.to_bytes(2, "little")


def _even(text: str, padding: bytes) -> bytes:
    value = text.encode("latin-1", "replace")
    return value + padding * (len(value) % 2)


_UIDS = frozenset(
    {
        Tag.AFFECTED_SOP_CLASS_UID,
        Tag.REQUESTED_SOP_CLASS_UID,
        Tag.AFFECTED_SOP_INSTANCE_UID,
        Tag.REQUESTED_SOP_INSTANCE_UID,
    }
)
_NUMBERS = frozenset(Tag) - _UIDS - {Tag.GROUP_LENGTH, Tag.OFFENDING_ELEMENT, Tag.ERROR_COMMENT}
"""Elements of VR US."""
