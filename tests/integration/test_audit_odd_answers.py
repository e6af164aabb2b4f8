"""C-GET and C-MOVE from archives that bend PS3.7: no image is lost for a value nobody needs."""

import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import build_context, evt

from dicom_ai_node.audit.sources.temporary_scp import IncomingFiles, TemporaryScp
from dicom_ai_node.config.peers import PacsTable
from dicom_ai_node.dicom.classes import FIND, GET
from dicom_ai_node.errors import PeerUnavailable
from dicom_ai_node.peer.exchange import Exchange
from tests.builders import wire
from tests.builders.ports import free_port
from tests.builders.receiving import encoded, radiograph
from tests.builders.wire import Acceptor, accept, accepting, answered, command, item, parse, us

DX = wire.DX
LONG = b"1.2.826.0.1.3680043.10.363." + b"5" * 37 + b".101"
ODD: dict[str, dict[int, bytes]] = {
    "instance of 68": {0x00001000: LONG},
    "priority 9": {0x00000700: us(9)},
    "no priority": {0x00000700: b""},
    "no message ID": {0x00000110: b""},
    "no class": {0x00000002: b""},
    "odd move originator": {0x00001030: b"\xff\x00" * 20},
}
pytestmark = pytest.mark.filterwarnings("ignore:.*for VR UI")


def store_request(odd: dict[int, bytes]) -> bytes:
    usual = {
        0x00000002: DX,
        0x00000100: us(1),
        0x00000110: us(9),
        0x00000700: us(0),
        0x00000800: us(1),
        0x00001000: b"1.2.3.4",
    }
    return command({tag: value for tag, value in (usual | odd).items() if value})


def study() -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    return identifier


def table(port: int) -> PacsTable:
    return PacsTable(kind="pacs", host="127.0.0.1", port=port, ae_title="PACS", timeout=60.0)


def archive(*requests: bytes) -> Callable[[socket.socket, Acceptor], None]:
    """Answer a C-GET with one C-STORE for each request, then with success."""

    def serve(connection: socket.socket, acceptor: Acceptor) -> None:
        asked = wire.read_pdu(connection)
        role = item(0x54, struct.pack(">H", len(DX)) + DX + b"\0\1")
        connection.sendall(accept(asked.body, user=wire.MAXIMUM + role))
        (storage,) = [one for one, uid, _ in wire.proposed(asked.body) if uid == DX]
        get, ended = wire.read_pdu(connection), False
        while not ended:
            ended = any(control == 2 for _, control, _ in wire.fragments(get.body))
            get = get if ended else wire.read_pdu(connection)
        for request in requests:
            data = encoded(radiograph(sop="1.2.3.4"))
            connection.sendall(wire.p_data((3, request), (2, data), context_id=storage))
            ((_, _, content),) = wire.fragments(wire.read_pdu(connection).body)
            acceptor.seen.append((4, content))
        final = {0x00000100: us(0x8010), 0x00000120: us(1), 0x00000800: us(0x0101)}
        connection.sendall(wire.p_data((3, command(final | {0x00000900: us(0)}))))
        if wire.read_pdu(connection).kind == 5:
            connection.sendall(wire.pdu(wire.RELEASE_RP, bytes(4)))

    return serve


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_odd_store_of_a_get_is_taken_and_the_next_one_too(
    tmp_path: Path, odd: dict[int, bytes]
) -> None:
    incoming = IncomingFiles()
    with accepting(free_port(), archive(store_request(odd), store_request({}))) as peer:
        exchange = Exchange.open(
            table(peer.port),
            [build_context(GET), build_context(DX.decode(), ExplicitVRLittleEndian)],
            calling_ae_title="NODE",
            scp_classes=[DX.decode()],
            handlers=[(evt.EVT_C_STORE, incoming)],
        )
        try:
            with incoming.into(tmp_path, ()):
                assert exchange.get(study()).status == 0
        finally:
            exchange.release()
    assert [parse(content)[0x00000900] for _, content in peer.seen] == [us(0), us(0)]
    assert set(incoming.files) == {odd.get(0x00001000, b"1.2.3.4").decode(), "1.2.3.4"}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_odd_store_of_a_move_is_taken_and_the_next_one_too(
    tmp_path: Path, odd: dict[int, bytes]
) -> None:
    incoming, port = IncomingFiles(), free_port()
    scp = TemporaryScp(
        table(1).model_copy(update={"move_port": port, "move_bind": "127.0.0.1"}),
        incoming,
        ae_title="NODE",
    )
    request = wire.request(
        called=b"NODE".ljust(16, b"\0"),
        contexts=wire.context(1, DX, b"1.2.840.10008.1.2.1") + wire.context(2),
        user=item(0x55, b"ACME_PACS_GW_5.10"),
    )
    data = encoded(radiograph(sop="1.2.3.4"))
    try:
        with incoming.into(tmp_path, ()), wire.asking(port, request) as (connection, answer):
            assert answer.results == {1: 0}
            for elements in (odd, {}):
                connection.sendall(wire.p_data((3, store_request(elements)), (2, data)))
                ((_, _, content),) = wire.fragments(wire.read_pdu(connection).body)
                assert parse(content)[0x00000900] == us(0)
            nothing = store_request({0x00001000: b""})
            connection.sendall(wire.p_data((3, nothing), (2, data)))
            ((_, _, content),) = wire.fragments(wire.read_pdu(connection).body)
            assert parse(content)[0x00000900] == us(0xC000)
            assert parse(content)[0x00000902] == b"Affected SOP Instance UID is missing"
    finally:
        scp.close()
    assert set(incoming.files) == {odd.get(0x00001000, b"1.2.3.4").decode(), "1.2.3.4"}


@pytest.mark.parametrize(
    "answer",
    [
        wire.p_data((3, command({0x00000100: us(0x8020), 0x00000120: us(1)}))),
        wire.p_data((3, b"\0" * 9)),
        wire.p_data((2, b"abcd")),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
)
def test_an_answer_to_a_query_that_cannot_be_followed_is_said_in_words(answer: bytes) -> None:
    served = wire.answering(
        lambda body: accept(body, contexts=answered(1, 0, wire.EXPLICIT)), lambda _: answer
    )
    with accepting(free_port(), served) as peer:
        exchange = Exchange.open(
            table(peer.port),
            [build_context(FIND, ExplicitVRLittleEndian)],
            calling_ae_title="NODE",
        )
        try:
            with pytest.raises(PeerUnavailable, match=r"no response|cannot be read"):
                list(exchange.find(study()))
        finally:
            exchange.release()
