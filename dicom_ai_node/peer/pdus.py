"""PDUs of association control as peers send them, made fit to be decoded (PS3.8 9.3).

PS3.8 9.3.1 lets a receiver skip what it does not recognise. pynetdicom instead gives up the whole
association for a single item that bends a rule. Each function here takes a PDU of the peer's and
returns it with everything that pynetdicom can read and this node uses, and nothing else: of the
user information only the Maximum Length and, in an answer, the roles.
"""

import re
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from dicom_ai_node.dicom.part10 import IMPLEMENTATION_VERSION
from dicom_ai_node.dicom.uids import APPLICATION_CONTEXT, PROGRAM_UID

A_ASSOCIATE_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ, P_DATA_TF = 0x01, 0x02, 0x03, 0x04
A_RELEASE_RQ, A_RELEASE_RP, A_ABORT = 0x05, 0x06, 0x07

ABORT = bytes((A_ABORT, 0, 0, 0, 0, 4, 0, 0, 2, 0))
"""An A-ABORT of the service provider, without a reason (PS3.8 9.3.8)."""
ABORT_BY_USER = bytes((A_ABORT, 0, 0, 0, 0, 4, 0, 0, 0, 0))
RELEASED = bytes((A_RELEASE_RP, 0, 0, 0, 0, 4, 0, 0, 0, 0))
"""The A-RELEASE-RP (PS3.8 9.3.7)."""
HEADER = struct.Struct(">BxI")
"""Type and length of a PDU."""
LARGEST_CONTROL = 1024 * 1024
"""Largest PDU that is not P-DATA: it is held in memory. An association request of 128 contexts
with 40 transfer syntaxes each takes a third of it."""

LARGEST_SENT = 131072
"""Most bytes of a P-DATA-TF that this node sends, also where the peer takes more or names no limit
(PS3.8 D.1): it is held in memory, and it is the most that DCMTK takes."""

CALLING_NOT_RECOGNISED = "Calling AE title not recognised"
CALLED_NOT_RECOGNISED = "Called AE title not recognised"

_SMALLEST = 8
"""Least Maximum Length that leaves room for a fragment of even length behind its header."""

_FIXED = 74
"""Bytes before the first item: header, version, titles, reserved."""
_NO_SYNTAX = "2.25.0"
"""Stands for the UID of a syntax that is missing or is no UID. Nobody supports it."""
_APPLICATION, _CONTEXT_RQ, _CONTEXT_AC, _USER = 0x10, 0x20, 0x21, 0x50
_ABSTRACT, _TRANSFER, _MAXIMUM_LENGTH, _ROLES = 0x30, 0x40, 0x51, 0x54
_CLASS_UID, _VERSION = 0x52, 0x55  # of the implementation, PS3.7 D.3.3.2
# Results of a presentation context, PS3.8 table 9-18.
_ACCEPTED, _NO_REASON, _NO_ABSTRACT, _NO_TRANSFER = 0, 2, 3, 4

_UID = re.compile(rb"(?=.{1,64}$)(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")
"""PS3.5 9.1. No class or syntax that anybody supports has another form."""


class UnreadablePdu(Exception):
    """The PDU cannot be followed, so that the association must end; says why."""


class Rejection(Enum):
    """Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""

    NO_PRESENTATION_CONTEXT = (1, 1, 1)
    APPLICATION_CONTEXT_NOT_SUPPORTED = (1, 1, 2)
    CALLING_AE_NOT_RECOGNISED = (1, 1, 3)
    CALLED_AE_NOT_RECOGNISED = (1, 1, 7)
    PROTOCOL_VERSION_NOT_SUPPORTED = (1, 2, 2)
    LOCAL_LIMIT_EXCEEDED = (2, 3, 2)

    @property
    def pdu(self) -> bytes:
        """The A-ASSOCIATE-RJ."""
        return struct.pack(">BxIxBBB", A_ASSOCIATE_RJ, 4, *self.value)


class Context(NamedTuple):
    """A presentation context that is proposed; syntaxes that are none stand as one of nobody's."""

    abstract: str
    transfer: tuple[str, ...]
    """Not empty."""


@dataclass(frozen=True, slots=True)
class AssociateRequest:
    """An A-ASSOCIATE-RQ as it can be decoded."""

    calling: str
    """AE title without padding, '' when it is blank; what cannot be printed is a question mark."""
    called: str
    contexts: Mapping[int, Context]
    """By presentation context ID."""
    longest: int
    """Bytes of a P-DATA-TF that may be sent to the peer."""
    rejection: Rejection | None
    """Why the association cannot be, None when it can."""

    @property
    def pdu(self) -> bytes:
        """The request again, with what pynetdicom can read and this node uses."""
        items = [
            _item(
                _CONTEXT_RQ,
                bytes([number, 0, 0, 0])
                + _item(_ABSTRACT, context.abstract.encode())
                + b"".join(_item(_TRANSFER, uid.encode()) for uid in context.transfer),
            )
            for number, context in self.contexts.items()
        ]
        user = _maximum_length(self.longest)
        return _associate(A_ASSOCIATE_RQ, self.called, self.calling, items, user)

    def accept(
        self, supported: Mapping[str, Sequence[str]], *, longest: int
    ) -> tuple[bytes, dict[int, tuple[str, str]]]:
        """Return the A-ASSOCIATE-AC, and abstract and transfer syntax of each accepted context.

        ``supported`` are the transfer syntaxes of each abstract one, the preferred one first;
        ``longest`` is what the peer may send in one P-DATA-TF.
        """
        items, accepted = list[bytes](), dict[int, tuple[str, str]]()
        for number, (abstract, proposed) in sorted(self.contexts.items()):
            result, chosen = _NO_ABSTRACT, proposed[0]
            if abstract in supported:
                common = [uid for uid in supported[abstract] if uid in proposed]
                result, chosen = (_ACCEPTED, common[0]) if common else (_NO_TRANSFER, chosen)
            if result == _ACCEPTED:
                accepted[number] = abstract, chosen
            items.append(_answer(number, result, chosen))
        user = (
            _maximum_length(longest)
            + _item(_CLASS_UID, PROGRAM_UID.encode())
            + _item(_VERSION, IMPLEMENTATION_VERSION.encode())
        )
        return _associate(A_ASSOCIATE_AC, self.called, self.calling, items, user), accepted


def titles_of(pdu: bytes) -> tuple[str, str]:
    """Return calling and called AE title of an A-ASSOCIATE-RQ, as far as they are there."""
    return _title(pdu[26:42]), _title(pdu[10:26])


def read_request(pdu: bytes) -> AssociateRequest:
    """Return an A-ASSOCIATE-RQ without what is odd in it.

    A presentation context without a valid abstract or transfer syntax stays, with a syntax that
    nobody supports: it is refused alone. One whose ID is even, 0 or taken cannot be answered and is
    left out.

    Raises UnreadablePdu: it is shorter than its fixed fields or than what its items say.
    """
    calling, called = titles_of(pdu)
    application, contexts, user = "", dict[int, Context](), b""
    for kind, body in _checked(pdu, "A-ASSOCIATE-RQ"):
        if kind == _APPLICATION:
            application = application or body.strip(b"\0 ").decode("latin-1")
        elif kind == _CONTEXT_RQ and body and body[0] % 2:
            contexts.setdefault(body[0], _requested(body))
        elif kind == _USER:
            user += body
    rejection = None
    if not int.from_bytes(pdu[6:8]) & 1:  # PS3.8 table 9-11: only bit 0 is looked at
        rejection = Rejection.PROTOCOL_VERSION_NOT_SUPPORTED
    elif application not in {"", APPLICATION_CONTEXT}:
        rejection = Rejection.APPLICATION_CONTEXT_NOT_SUPPORTED
    elif not contexts:
        rejection = Rejection.NO_PRESENTATION_CONTEXT
    return AssociateRequest(calling, called, contexts, _longest(user), rejection)


def clean_accept(pdu: bytes, proposed: Mapping[int, Collection[str]]) -> bytes:
    """Return an A-ASSOCIATE-AC without what is odd in it.

    ``proposed`` are the transfer syntaxes of each presentation context of the request. A context
    that was accepted in another syntax, or in none, counts as rejected; what was not proposed is
    left out.

    Raises UnreadablePdu: it is shorter than its fixed fields or than what its items say.
    """
    contexts, user = dict[int, bytes](), b""
    for kind, body in _checked(pdu, "A-ASSOCIATE-AC"):
        if kind == _CONTEXT_AC and body and body[0] in proposed:
            contexts.setdefault(body[0], _answered(body, proposed[body[0]]))
        elif kind == _USER:
            user += body
    items = list(contexts.values())
    user = _maximum_length(_longest(user)) + _roles(user)
    return _associate(A_ASSOCIATE_AC, "", "", items, user)


def read_reject(pdu: bytes) -> tuple[bytes, str]:
    """Return an A-ASSOCIATE-RJ that can be decoded, and what the peer's says in words."""
    result, source, reason = pdu[7:10].ljust(3, b"\0")
    words = _REASONS.get((source, reason), f"reason {reason}, which has no meaning")
    text = f"{_RESULTS.get(result, f'result {result}')}, source: {_SOURCES.get(source, source)}"
    if (source, reason) not in _REASONS:
        source, reason = 1, 1
    result = result if result in _RESULTS else 1
    return struct.pack(">BxIxBBB", A_ASSOCIATE_RJ, 4, result, source, reason), f"({text}): {words}"


def clean_abort(pdu: bytes) -> bytes:
    """Return an A-ABORT that can be decoded; values without a meaning become 0 (PS3.8 9.3.8)."""
    source, reason = pdu[8:10].ljust(2, b"\0")
    source = source if source == 2 else 0
    reason = reason if source == 2 and reason in {0, 1, 2, 4, 5, 6} else 0
    return struct.pack(">BxIxxBB", A_ABORT, 4, source, reason)


def check_header(header: bytes, *, largest: int = LARGEST_CONTROL) -> None:
    """Raise UnreadablePdu for what does not begin like a PDU, or is larger than any is."""
    kind, length = HEADER.unpack(header)
    if not A_ASSOCIATE_RQ <= kind <= A_ABORT:
        raise UnreadablePdu(what_begins(header))
    if length > largest:
        raise UnreadablePdu(f"a PDU of type {kind:02X}H and {length} bytes")


def what_begins(head: bytes) -> str:
    """Return in words what it is that begins with ``head`` and is not a PDU."""
    if head[:2] == b"\x16\x03":
        return "a TLS ClientHello, on a port without TLS"
    if head[:2] == b"\x15\x03":
        return "a TLS alert: the other side speaks TLS"
    if head[:5] == b"HTTP/":
        return "an HTTP response: a web server"
    if re.match(rb"(GET|HEAD|POST|PUT|DELETE|OPTIONS|CONNECT|PATCH|TRACE|PRI) ?", head):
        return "an HTTP request, on a DICOM port"
    return f"no PDU of DICOM: first bytes {head.hex(' ')}"


def _checked(pdu: bytes, name: str) -> Iterator[tuple[int, bytes]]:
    if len(pdu) < _FIXED:
        raise UnreadablePdu(f"{name} of {len(pdu)} bytes, less than its fixed fields")
    try:
        yield from _items(pdu[_FIXED:])
    except UnreadablePdu as error:
        raise UnreadablePdu(f"{name}: {error}") from None


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and content of each item or sub-item (PS3.8 9.3.2)."""
    position = 0
    while len(data) - position >= 4:
        kind, length = struct.unpack_from(">BxH", data, position)
        position += 4
        if position + length > len(data):
            raise UnreadablePdu(f"item of type {kind:02X}H is longer than what holds it")
        yield kind, data[position : position + length]
        position += length
    if any(data[position:]):
        raise UnreadablePdu("ends within the header of an item")


def _sub_items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the sub-items up to where they cannot be followed: what comes before stays good."""
    try:
        yield from _items(data)
    except UnreadablePdu:
        return


def _requested(body: bytes) -> Context:
    """Return a presentation context of a request (PS3.8 9.3.2.2)."""
    abstract, transfer = "", list[str]()
    try:
        for kind, value in _items(body[4:]):
            if kind == _ABSTRACT:
                abstract = abstract or _uid(value)
            elif kind == _TRANSFER and _uid(value):
                transfer.append(_uid(value))
    except UnreadablePdu:
        abstract = ""
    return Context(abstract or _NO_SYNTAX, tuple(transfer) or (_NO_SYNTAX,))


def _answered(body: bytes, proposed: Collection[str]) -> bytes:
    """Return a presentation context of an answer (PS3.8 9.3.3.2) that can be decoded."""
    result = body[2] if len(body) > 2 and body[2] <= 4 else _NO_REASON
    named = [_uid(value) for kind, value in _sub_items(body[4:]) if kind == _TRANSFER]
    chosen = next((uid for uid in named if uid in proposed), "")
    if result == _ACCEPTED and not chosen:
        result = _NO_REASON
    return _answer(body[0], result, chosen or _NO_SYNTAX)


def _answer(number: int, result: int, transfer: str) -> bytes:
    content = bytes([number, 0, result, 0]) + _item(_TRANSFER, transfer.encode())
    return _item(_CONTEXT_AC, content)


def _longest(user: bytes) -> int:
    """Return how long a P-DATA-TF to the peer may be, by its Maximum Length (PS3.8 D.1.1).

    Where the peer says none, 0 or less than one fragment takes, it is this node's own limit.
    """
    length = 0
    for kind, body in _sub_items(user):
        if kind == _MAXIMUM_LENGTH and len(body) >= 4:
            length = int.from_bytes(body[:4])
            break
    length = min(length, LARGEST_SENT) if length >= _SMALLEST else LARGEST_SENT
    return length & ~1  # fragments are even, PS3.8 annex E


def _maximum_length(longest: int) -> bytes:
    return _item(_MAXIMUM_LENGTH, longest.to_bytes(4))


def _roles(user: bytes) -> bytes:
    """Return the role selection sub-items (PS3.7 D.3.3.4) that are whole."""
    roles: dict[str, bytes] = {}
    for kind, body in _sub_items(user):
        if kind != _ROLES or len(body) < 2:
            continue
        length = int.from_bytes(body[:2])
        uid, flags = _uid(body[2 : 2 + length]), body[2 + length : 4 + length]
        if uid and len(flags) == 2:
            value = len(uid).to_bytes(2) + uid.encode() + bytes([flags[0] & 1, flags[1] & 1])
            roles.setdefault(uid, _item(_ROLES, value))
    return b"".join(roles.values())


def _associate(kind: int, called: str, calling: str, contexts: list[bytes], user: bytes) -> bytes:
    body = (
        struct.pack(">H2x", 1)
        + _plain(called)
        + _plain(calling)
        + bytes(32)
        + _item(_APPLICATION, APPLICATION_CONTEXT.encode())
        + b"".join(contexts)
        + _item(_USER, user)
    )
    return struct.pack(">BxI", kind, len(body)) + body


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def _title(raw: bytes) -> str:
    """Return an AE title without its padding: blanks, NUL and what a C program left behind NUL."""
    text = raw.partition(b"\0")[0].decode("latin-1").strip()
    return "".join(each if each.isprintable() else "?" for each in text)


def _plain(title: str) -> bytes:
    """Return an AE title as pynetdicom takes it: 16 characters, not blank, none that AE forbids."""
    text = "".join(each if each.isascii() and each != "\\" else "?" for each in title)
    return (text or "?").ljust(16).encode()


def _uid(raw: bytes) -> str:
    """Return a UID without its padding, '' when it is none."""
    value = raw.partition(b"\0")[0].strip(b" ")
    return value.decode() if _UID.fullmatch(value) else ""


# PS3.8 table 9-21.
_RESULTS = {1: "rejected permanent", 2: "rejected transient"}
_SOURCES = {
    1: "Service User",
    2: "Service Provider (ACSE)",
    3: "Service Provider (Presentation)",
}
_REASONS = {
    (1, 1): "No reason given",
    (1, 2): "Application context name not supported",
    (1, 3): CALLING_NOT_RECOGNISED,
    (1, 7): CALLED_NOT_RECOGNISED,
    (2, 1): "No reason given",
    (2, 2): "Protocol version not supported",
    (3, 1): "Temporary congestion",
    (3, 2): "Local limit exceeded",
}
