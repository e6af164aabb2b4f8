"""PDUs built byte by byte, for peers that bend PS3.8, and an acceptor that answers with them."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ

VERIFICATION = b"1.2.840.10008.1.1"
DX = b"1.2.840.10008.5.1.4.1.1.1.1"
IMPLICIT, EXPLICIT = b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1"
APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
AC, RJ, RELEASE_RP, ABORT, CLOSED = 2, 3, 6, 7, 0


def item(kind: int, body: bytes) -> bytes:
    """An item or sub-item (PS3.8 9.3.2)."""
    return struct.pack(">BBH", kind, 0, len(body)) + body


MAXIMUM = item(0x51, bytes((0, 0, 0x40, 0)))
IMPLEMENTATION = item(0x52, b"1.2.3")


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBI", kind, 0, len(body)) + body


def context(number: int, abstract: bytes = VERIFICATION, *transfer: bytes) -> bytes:
    """A presentation context of a request; in implicit VR where no syntax is given."""
    syntaxes = b"".join(item(0x40, uid) for uid in transfer or (IMPLICIT,))
    return item(0x20, bytes([number, 0, 0, 0]) + item(0x30, abstract) + syntaxes)


def answered(number: int, result: int = 0, transfer: bytes | None = IMPLICIT) -> bytes:
    """A presentation context of an answer."""
    syntax = item(0x40, transfer) if transfer is not None else b""
    return item(0x21, bytes([number, 0, result, 0]) + syntax)


def request(
    *,
    called: bytes = b"DICOMAINODE".ljust(16),
    calling: bytes = b"MODALITY".ljust(16),
    version: int = 1,
    application: bytes | None = item(0x10, APPLICATION_CONTEXT),
    contexts: bytes = context(1),
    user: bytes | None = MAXIMUM + IMPLEMENTATION,
    more: bytes = b"",
) -> bytes:
    """An A-ASSOCIATE-RQ."""
    body = struct.pack(">HH", version, 0) + called + calling + bytes(32)
    body += (application or b"") + contexts
    return pdu(1, body + (item(0x50, user) if user is not None else b"") + more)


@dataclass
class Answer:
    """What came back, and how long the connection then stayed open is the socket's time-out."""

    kind: int
    body: bytes

    @property
    def results(self) -> dict[int, int]:
        """Presentation context ID -> result, of an A-ASSOCIATE-AC that is well formed."""
        assert self.kind == AC
        decoded = A_ASSOCIATE_AC()
        decoded.decode(pdu(AC, self.body))
        decoded.to_primitive()
        found = [(one.context_id, one.result) for one in decoded.presentation_context]
        assert len(dict(found)) == len(found), "one item for each presentation context"
        return dict(found)

    @property
    def rejection(self) -> tuple[int, int, int]:
        """Result, source and reason of an A-ASSOCIATE-RJ."""
        assert self.kind == RJ
        return self.body[1], self.body[2], self.body[3]


def exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            return b""
        data += more
    return data


def read_pdu(connection: socket.socket) -> Answer:
    """The next PDU; of kind CLOSED when the peer has closed."""
    try:
        header = exactly(connection, 6)
    except ConnectionResetError:
        header = b""
    if not header:
        return Answer(CLOSED, b"")
    kind, length = struct.unpack(">BxI", header)
    return Answer(kind, exactly(connection, length))


@contextmanager
def asking(
    port: int, data: bytes, *, timeout: float = 60
) -> Iterator[tuple[socket.socket, Answer]]:
    """A connection on which ``data`` was sent, and the answer to it."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        connection.sendall(data)
        yield connection, read_pdu(connection)


def ask(port: int, data: bytes) -> Answer:
    with asking(port, data) as (_, answer):
        return answer


def proposed(body: bytes) -> list[tuple[int, bytes, list[bytes]]]:
    """ID, abstract and transfer syntaxes of each context of an A-ASSOCIATE-RQ of ours."""
    decoded = A_ASSOCIATE_RQ()
    decoded.decode(pdu(1, body))
    return [
        (
            one.context_id or 0,
            str(one.abstract_syntax).encode(),
            [str(uid).encode() for uid in one.transfer_syntax],
        )
        for one in decoded.presentation_context
    ]


def accept(body: bytes, *, user: bytes = MAXIMUM + IMPLEMENTATION, contexts: bytes = b"") -> bytes:
    """An A-ASSOCIATE-AC to the request with ``body``: everything accepted, or ``contexts``."""
    taken = contexts or b"".join(answered(number, 0, ts[0]) for number, _, ts in proposed(body))
    fixed = body[:68] + item(0x10, APPLICATION_CONTEXT)
    return pdu(AC, fixed + taken + item(0x50, user))


@dataclass
class Acceptor:
    """A listening peer; ``seen`` holds the kind and body of each PDU that came."""

    port: int
    seen: list[tuple[int, bytes]] = field(default_factory=list)

    def kinds(self) -> list[int]:
        return [kind for kind, _ in self.seen]


@contextmanager
def accepting(port: int, *serve: Callable[[socket.socket, Acceptor], None]) -> Iterator[Acceptor]:
    """Serve connections, the first with the first function and the last for all that follow."""
    acceptor = Acceptor(port)
    listener = socket.create_server(("127.0.0.1", port))
    stopping = threading.Event()

    def run() -> None:
        for number in range(10_000):
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.settimeout(30)
                if not stopping.is_set():
                    serve[min(number, len(serve) - 1)](connection, acceptor)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield acceptor
    finally:
        stopping.set()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(timeout=30)


def answering(
    answer: Callable[[bytes], bytes],
    respond: Callable[[bytes], bytes] | None = None,
) -> Callable[[socket.socket, Acceptor], None]:
    """Serve one connection: ``answer`` to the request, ``respond`` to each whole command."""

    def serve(connection: socket.socket, acceptor: Acceptor) -> None:
        while True:
            got = read_pdu(connection)
            if got.kind == CLOSED:
                return
            acceptor.seen.append((got.kind, got.body))
            if got.kind == 1:
                connection.sendall(answer(got.body))
            elif got.kind == 4 and respond is not None:
                connection.sendall(respond(got.body))
            elif got.kind == 5:
                connection.sendall(pdu(RELEASE_RP, bytes(4)))
            elif got.kind == ABORT:
                return

    return serve


def element(tag: int, value: bytes) -> bytes:
    """A data element in implicit VR little endian."""
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value


def us(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}H", *values)


def command(elements: dict[int, bytes], *, group_length: int | None = None) -> bytes:
    """A command set (PS3.7 6.3.1)."""
    body = b"".join(element(tag, value) for tag, value in sorted(elements.items()))
    length = len(body) if group_length is None else group_length
    return element(0x00000000, struct.pack("<I", length)) + body


def parse(data: bytes) -> dict[int, bytes]:
    """Tag -> value of a command set."""
    found, position = {}, 0
    while position < len(data):
        group, number, length = struct.unpack_from("<HHI", data, position)
        found[group << 16 | number] = data[position + 8 : position + 8 + length]
        position += 8 + length
    return found


def p_data(*values: tuple[int, bytes], context_id: int = 1) -> bytes:
    """One P-DATA-TF of (message control header, fragment) pairs."""
    items = b"".join(
        struct.pack(">IBB", len(fragment) + 2, context_id, control) + fragment
        for control, fragment in values
    )
    return pdu(4, items)


def fragments(body: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Context ID, control header and content of each fragment of a P-DATA-TF."""
    position = 0
    while position < len(body):
        length, context_id, control = struct.unpack_from(">IBB", body, position)
        yield context_id, control, body[position + 6 : position + 4 + length]
        position += 4 + length


def response(
    body: bytes, *, field: int | None = None, status: bytes = us(0), **more: bytes
) -> bytes:
    """A response without a data set to the request that ends with P-DATA ``body``.

    ``more`` maps tags in hexadecimal (t00000902) to values; what is empty is left out.
    """
    context_id, _, content = next(fragments(body))
    asked = parse(content)
    elements = {
        0x00000002: asked[0x00000002],
        0x00000100: us(field or struct.unpack("<H", asked[0x00000100])[0] | 0x8000),
        0x00000120: asked[0x00000110],
        0x00000800: us(0x0101),
        0x00000900: status,
    } | {int(name[1:], 16): value for name, value in more.items()}
    kept = {tag: value for tag, value in elements.items() if value}
    return p_data((3, command(kept)), context_id=context_id)
