"""Command sets as real systems send them: what is odd costs one image at most, and is said."""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.builders import wire
from tests.builders.receiving import EXPLICIT, Node, encoded, radiograph, receiving
from tests.builders.wire import command, context, item, parse, us

DX, VERIFICATION = wire.DX, wire.VERIFICATION
COMMAND, DATA, LAST = 1, 0, 2
OFFENDING, COMMENT = 0x00000901, 0x00000902


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with receiving(tmp_path_factory.mktemp("commands"), receive={"dimse_timeout": 60.0}) as node:
        yield node


@dataclass
class Sender:
    """An association with contexts 1 (DX) and 3 (Verification)."""

    connection: socket.socket

    def send(self, *values: tuple[int, bytes], context_id: int = 1) -> None:
        self.connection.sendall(wire.p_data(*values, context_id=context_id))

    def response(self) -> dict[int, bytes]:
        """The next response, which must be well formed; None of a PDU that is none."""
        answer = wire.read_pdu(self.connection)
        assert answer.kind == 4, f"PDU of type {answer.kind}"
        fragments = list(wire.fragments(answer.body))
        assert [control for _, control, _ in fragments] == [COMMAND | LAST]
        content = fragments[0][2]
        elements = parse(content)
        assert list(elements) == sorted(elements)
        assert all(len(value) % 2 == 0 for value in elements.values())
        assert struct.unpack("<I", elements[0])[0] == len(content) - 12
        assert elements[0x00000800] == us(0x0101)
        for tag in (0x00000002, 0x00001000):
            assert len(elements.get(tag, b"")) <= 64
        return elements

    def status(self) -> int:
        value: int = struct.unpack("<H", self.response()[0x00000900])[0]
        return value

    def store(self, elements: dict[int, bytes] | None = None, *, data: bytes = b"") -> int:
        """Send an image; ``elements`` change its command set, an empty value takes one out."""
        self.send((COMMAND | LAST, store_command(elements)), (LAST, data or DATA_SET))
        return self.status()


DATA_SET = encoded(radiograph(sop="1.2.3.4"))


def store_command(elements: dict[int, bytes] | None = None, **more: int) -> bytes:
    usual = {
        0x00000002: DX,
        0x00000100: us(1),
        0x00000110: us(77),
        0x00000700: us(0),
        0x00000800: us(1),
        0x00001000: b"1.2.3.4",
    }
    whole = {tag: value for tag, value in (usual | (elements or {})).items() if value}
    return command(whole, **more)


@pytest.fixture
def sender(node: Node) -> Iterator[Sender]:
    with sending(node) as sender:
        yield sender


def sending(node: Node, user: bytes = wire.MAXIMUM) -> "Opened":
    return Opened(node, user)


class Opened:
    def __init__(self, node: Node, user: bytes) -> None:
        self._node, self._user = node, user

    def __enter__(self) -> Sender:
        contexts = context(1, DX, EXPLICIT.encode()) + context(3, VERIFICATION)
        self._asking = wire.asking(
            self._node.port, wire.request(contexts=contexts, user=self._user)
        )
        connection, answer = self._asking.__enter__()
        assert answer.results == {1: 0, 3: 0}
        return Sender(connection)

    def __exit__(self, *_: object) -> None:
        self._asking.__exit__(None, None, None)


HARMLESS: dict[str, bytes] = {
    "priority 9": store_command({0x00000700: us(9)}),
    "no priority": store_command({0x00000700: b""}),
    "priority of 4 bytes": store_command({0x00000700: us(0, 0)}),
    "move originator of 40": store_command({0x00001030: b"A" * 40}),
    "move originator of bytes": store_command({0x00001030: b"\xff\x00\x1b["}),
    "move originator ID of 4 bytes": store_command({0x00001031: us(1, 2)}),
    "UIDs padded": store_command({0x00000002: DX + b" ", 0x00001000: b"1.2.3.4\0\0"}),
    "data set type 0": store_command({0x00000800: us(0)}),
    "data set type 102H": store_command({0x00000800: us(0x0102)}),
    "no data set type": store_command({0x00000800: b""}),
    "no data set, it says": store_command({0x00000800: us(0x0101)}),
    "wrong group length": store_command(group_length=4),
    "group length of 4 GB": store_command(group_length=0xFFFFFFFF),
    "no group length": store_command()[12:],
    "unknown element": store_command({0x00005010: b"what is this"}),
    "elements of a response": store_command({0x00000900: us(0xC000), COMMENT: b"none"}),
}


@pytest.mark.parametrize("data", HARMLESS.values(), ids=HARMLESS)
def test_odd_and_harmless_values_of_a_command_cost_nothing(sender: Sender, data: bytes) -> None:
    sender.send((COMMAND | LAST, data), (LAST, DATA_SET))
    response = sender.response()
    assert response[0x00000900] == us(0)
    assert response[0x00000120] == us(77)
    assert sender.store() == 0


def test_without_a_message_id_the_answer_is_to_message_0(sender: Sender) -> None:
    sender.send((COMMAND | LAST, store_command({0x00000110: b""})), (LAST, DATA_SET))
    response = sender.response()
    assert (response[0x00000900], response[0x00000120]) == (us(0), us(0))


LONG = b"1.2.826.0.1.3680043.10.363." + b"5" * 37 + b".101"
REFUSED: dict[str, tuple[dict[int, bytes], int, str]] = {
    "instance of 68": ({0x00001000: LONG}, 0x00001000, "SOP Instance UID is longer than 64"),
    "instance of 60000": ({0x00001000: b"1." * 30000}, 0x00001000, "is longer than 64 characters"),
    "instance of letters": ({0x00001000: b"ACME-17"}, 0x00001000, "SOP Instance UID is not a UID"),
    "instance in Latin-1": ({0x00001000: b"1.2.\xe9"}, 0x00001000, "SOP Instance UID is not a UID"),
    "instance of dots": ({0x00001000: b"..."}, 0x00001000, "SOP Instance UID is not a UID"),
    "no instance": ({0x00001000: b""}, 0x00001000, "Affected SOP Instance UID is missing"),
    "another instance": (
        {0x00001000: b"1.2.3.5"},
        0x00080018,
        "SOPInstanceUID is not the",
    ),
    "no class": ({0x00000002: b""}, 0x00000002, "Affected SOP Class UID is missing"),
    "class of 70": ({0x00000002: b"1." * 35}, 0x00000002, "SOP Class UID is longer than 64"),
    "class of no UID": ({0x00000002: b"CR"}, 0x00000002, "Affected SOP Class UID is not a UID"),
    "class of another context": ({0x00000002: VERIFICATION}, 0x00000002, "not that of the presen"),
}


@pytest.mark.parametrize(("elements", "offending", "words"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_command_is_refused_with_the_reason_and_the_next_image_is_filed(
    node: Node, sender: Sender, elements: dict[int, bytes], offending: int, words: str
) -> None:
    data = encoded(radiograph(sop="1.2.3.4", seed=hash(words) % 200))
    sender.send((COMMAND | LAST, store_command(elements)), (LAST, data))
    response = sender.response()
    assert response[0x00000900] == us(0xC000)
    assert response[OFFENDING] == us(offending >> 16, offending & 0xFFFF)
    comment = response[COMMENT].decode("ascii")
    assert words in comment
    assert len(comment) <= 64
    kept = [path for path in node.files("quarantine") if path.suffix == ".dcm"]
    assert any(path.read_bytes().endswith(data) for path in kept)
    assert sender.store() == 0


def test_a_wrong_data_set_is_refused_with_the_reason_and_without_its_values(
    sender: Sender,
) -> None:
    sender.send((COMMAND | LAST, store_command()), (LAST, b""))
    empty = sender.response()
    assert empty[0x00000900] == us(0xC000)
    assert empty[COMMENT].decode("ascii").startswith("SOPClassUID is missing")
    assert empty[OFFENDING] == us(0x0008, 0x0016)
    sender.send((COMMAND | LAST, store_command()), (LAST, b"Secret^Patient"))
    noise = sender.response()
    assert noise[0x00000900] == us(0xC000)
    assert noise[COMMENT].strip()
    assert b"Secret" not in noise[COMMENT]
    assert sender.store() == 0


def test_a_store_without_a_data_set_is_refused_and_the_next_is_filed(sender: Sender) -> None:
    without = store_command({0x00000800: us(0x0101)})
    sender.send((COMMAND | LAST, without))
    assert sender.status() == 0xC000
    sender.send((COMMAND | LAST, without))
    sender.send((COMMAND | LAST, store_command()), (LAST, DATA_SET))
    assert [sender.status(), sender.status()] == [0xC000, 0]


@pytest.mark.parametrize(
    "elements",
    [
        {},
        {0x00000002: b""},
        {0x00000002: b"\xff" * 70},
        {0x00000800: us(1)},
        {0x00000700: us(9)},
        {0x00000110: us(1, 2)},
    ],
)
def test_an_odd_echo_is_answered(sender: Sender, elements: dict[int, bytes]) -> None:
    asked = {0x00000002: VERIFICATION, 0x00000100: us(0x30), 0x00000110: us(1)}
    asked |= {0x00000800: us(0x0101)} | elements
    asked = {tag: value for tag, value in asked.items() if value}
    sender.send((COMMAND | LAST, command(asked)), context_id=3)
    response = sender.response()
    assert response[0x00000100] == us(0x8030)
    assert response[0x00000120] == us(1)
    assert response[0x00000900] == us(0)
    assert response[0x00000002].rstrip(b"\0") == VERIFICATION
    assert sender.store() == 0


@pytest.mark.parametrize("field", [0x0020, 0x0021, 0x0010, 0x0130, 0x0100, 0x0042, 0x7FFF])
@pytest.mark.parametrize("with_data", [True, False])
def test_another_request_is_answered_as_unrecognised(
    sender: Sender, field: int, with_data: bool
) -> None:
    asked = {0x00000002: DX, 0x00000100: us(field), 0x00000110: us(5), 0x00000700: us(0)}
    asked[0x00000800] = us(1 if with_data else 0x0101)
    sender.send((COMMAND | LAST, command(asked)))
    if with_data:
        sender.send((DATA, b"abcd"), (LAST, b"efgh"))
    response = sender.response()
    assert response[0x00000100] == us(field | 0x8000)
    assert response[0x00000120] == us(5)
    assert response[0x00000900] == us(0x0211)
    assert response[COMMENT].strip() == b"only C-ECHO and C-STORE are offered"
    assert sender.store() == 0


@pytest.mark.parametrize("field", [0x0FFF, 0x8001, 0x8030])
def test_what_wants_no_answer_gets_none(sender: Sender, field: int) -> None:
    asked = {0x00000100: us(field), 0x00000120: us(5), 0x00000800: us(0x0101), 0x00000900: us(0)}
    sender.send((COMMAND | LAST, command(asked)))
    assert sender.store() == 0


@pytest.mark.parametrize("longest", [None, b"", *(bytes((0, 0, 0, n)) for n in range(8))])
def test_without_a_usable_maximum_length_every_image_is_answered(
    node: Node, longest: bytes | None
) -> None:
    user = wire.IMPLEMENTATION + (b"" if longest is None else item(0x51, longest))
    with sending(node, user) as sender:
        assert [sender.store(), sender.store({0x00001000: LONG}), sender.store()] == [0, 0xC000, 0]


@pytest.mark.parametrize("longest", [8, 9, 16, 100])
def test_no_pdu_is_longer_than_the_peer_takes(node: Node, longest: int) -> None:
    with sending(node, item(0x51, struct.pack(">I", longest))) as sender:
        sender.send((COMMAND | LAST, store_command()), (LAST, DATA_SET))
        whole, control = b"", 0
        while not control & LAST:
            answer = wire.read_pdu(sender.connection)
            assert len(answer.body) <= longest
            ((_, control, content),) = wire.fragments(answer.body)
            assert len(content) % 2 == 0
            assert control & COMMAND
            whole += content
        assert parse(whole)[0x00000900] == us(0)
