"""Peers that cut, stall, lie about lengths or say nothing."""

import random
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from blake3 import blake3
from pydicom import Dataset
from structlog.testing import capture_logs

from tests.builders import wire
from tests.builders.receiving import (
    DX,
    Node,
    RawPeer,
    associated,
    encoded,
    radiograph,
    receiving,
    send,
    store_command,
)
from tests.builders.waiting import wait_for

COMMAND, DATA, LAST = 1, 0, 2
ABORT = 0x07
VERIFICATION = "1.2.840.10008.1.1"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with receiving(tmp_path_factory.mktemp("stream")) as node:
        yield node


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that no time-out ends the connections of."""
    timeouts = {"acse_timeout": 600.0, "dimse_timeout": 600.0}
    with receiving(tmp_path_factory.mktemp("patient"), receive=timeouts) as node:
        yield node


@pytest.fixture
def peer(node: Node) -> Iterator[RawPeer]:
    with RawPeer(node.port) as peer:
        peer.associate()
        yield peer


def stored_digests(node: Node) -> set[str]:
    return {row[0] for row in node.rows("SELECT digest FROM instance")}


def pieces(data: bytes, sizes: Iterator[int]) -> list[bytes]:
    cut, position = [], 0
    while position < len(data):
        size = next(sizes)
        cut.append(data[position : position + size])
        position += size
    return cut


@pytest.mark.parametrize("seed", range(6))
def test_however_a_message_is_cut_the_bytes_are_those_sent(
    node: Node, peer: RawPeer, seed: int
) -> None:
    """Fragments of any size, empty ones too, several in a PDU, command and data in one PDU."""
    dice = random.Random(seed)
    ds = radiograph(seed=seed)
    data = encoded(ds)
    command = store_command(sop=ds.SOPInstanceUID)
    values = [
        (COMMAND, part) for part in pieces(command, iter(lambda: dice.choice([1, 20, 500]), None))
    ]
    values[-1] = (COMMAND | LAST, values[-1][1])
    values += [
        (DATA, part) for part in pieces(data, iter(lambda: dice.choice([0, 1, 90, 1500]), None))
    ]
    if seed % 2:
        values.append((LAST, b""))
    else:
        values[-1] = (LAST, values[-1][1])
    while values:
        count = dice.choice([1, 2, 7])
        peer.p_data(*values[:count])
        values = values[count:]
    assert peer.status() == 0
    assert blake3(data).hexdigest() in stored_digests(node)


def test_a_large_data_set_in_one_fragment(node: Node, peer: RawPeer) -> None:
    ds = radiograph()
    ds.PixelData = random.Random(1).randbytes(3_000_000)
    peer.p_data((COMMAND | LAST, store_command(sop=ds.SOPInstanceUID)), (LAST, encoded(ds)))
    assert peer.status() == 0
    assert blake3(encoded(ds)).hexdigest() in stored_digests(node)


@pytest.mark.parametrize("seed", range(4))
def test_large_and_small_fragments_in_turn_keep_their_order(
    node: Node, peer: RawPeer, seed: int
) -> None:
    """Large ones never enter the program, small ones do."""
    dice = random.Random(seed)
    ds = radiograph(seed=seed)
    ds.PixelData = dice.randbytes(2_000_000)
    data = encoded(ds)
    peer.p_data((COMMAND | LAST, store_command(sop=ds.SOPInstanceUID)))
    sizes = iter(lambda: dice.choice([0, 1, 16_000, 40_000, 131_066, 300_000]), None)
    for part in pieces(data, sizes):
        peer.p_data((DATA, part))
    peer.p_data((LAST, b""))
    assert peer.status() == 0
    assert blake3(data).hexdigest() in stored_digests(node)


def test_a_large_fragment_in_segments_of_a_few_bytes(node: Node, peer: RawPeer) -> None:
    ds = radiograph()
    ds.PixelData = random.Random(2).randbytes(100_000)
    peer.p_data((COMMAND | LAST, store_command(sop=ds.SOPInstanceUID)))
    peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for segment in pieces(wire.p_data((LAST, encoded(ds))), iter(lambda: 90, None)):
        peer.socket.sendall(segment)
    assert peer.status() == 0
    assert blake3(encoded(ds)).hexdigest() in stored_digests(node)


def test_requests_that_do_not_wait_for_answers_are_all_answered(node: Node, peer: RawPeer) -> None:
    sent = [radiograph(seed=seed) for seed in range(5)]
    for number, ds in enumerate(sent):
        command = store_command(sop=ds.SOPInstanceUID, message_id=number + 1)
        peer.p_data((COMMAND | LAST, command), (LAST, encoded(ds)))
    assert [peer.status() for _ in sent] == [0] * 5
    assert {blake3(encoded(ds)).hexdigest() for ds in sent} <= stored_digests(node)


@pytest.mark.parametrize(
    "message",
    [
        [(LAST, b"data without a command")],
        [(COMMAND | LAST, b"no command set")],
        [(COMMAND | LAST, store_command(sop="1.2.3")), (COMMAND, b"a command within the data set")],
        [(COMMAND, bytes(2 * 1024 * 1024))],
    ],
)
def test_a_broken_message_is_aborted_and_leaves_nothing(
    node: Node, peer: RawPeer, message: list[tuple[int, bytes]]
) -> None:
    peer.p_data(*message)
    assert peer.pdu()[0] in {ABORT, 0}
    wait_for(lambda: node.files("incoming") == [])
    assert send(node.port, radiograph()) == [0]


@pytest.mark.parametrize(
    "pdu",
    [
        struct.pack(">BxIIBB", 4, 12, 100, 1, 0) + bytes(6),  # a value longer than its PDU
        struct.pack(">BxIIBB", 4, 6, 1, 1, 0),  # no room for the control header
        b"GET / HTTP/1.1\r\nHost: pacs\r\n\r\n",
        struct.pack(">BxI", 1, 0xFFFFFFFF),  # an association request of four gigabytes
    ],
)
@pytest.mark.parametrize("established", [True, False])
def test_broken_pdus_end_the_connection_at_once(
    patient: Node, pdu: bytes, established: bool
) -> None:
    with RawPeer(patient.port) as peer:  # it waits for 15 seconds, the node for ten minutes
        if established:
            peer.associate()
        peer.socket.sendall(pdu)
        while peer.pdu()[0] not in {ABORT, 0}:
            pass
    assert send(patient.port, radiograph()) == [0]


def test_a_context_that_was_not_accepted_is_aborted(node: Node, peer: RawPeer) -> None:
    ds = radiograph()
    peer.p_data(
        (COMMAND | LAST, store_command(sop=ds.SOPInstanceUID)), (LAST, encoded(ds)), context_id=99
    )
    assert peer.pdu()[0] in {ABORT, 0}
    assert node.files("incoming") == []


def test_an_image_that_breaks_off_is_not_kept(node: Node, peer: RawPeer) -> None:
    before = stored_digests(node)
    ds = radiograph()
    peer.p_data((COMMAND | LAST, store_command(sop=ds.SOPInstanceUID)), (DATA, encoded(ds)[:1000]))
    wait_for(lambda: len(node.files("incoming")) == 1)
    peer.socket.close()
    wait_for(lambda: node.files("incoming") == [])
    assert stored_digests(node) == before


def test_a_peer_that_stalls_within_a_pdu_is_let_go(node: Node, peer: RawPeer) -> None:
    """dimse_timeout is two seconds here; pynetdicom alone would wait for ever."""
    ds = radiograph()
    peer.p_data((COMMAND | LAST, store_command(sop=ds.SOPInstanceUID)))
    peer.socket.sendall(struct.pack(">BxIIBB", 4, 5000, 4996, 1, 0) + b"half")
    wait_for(lambda: len(node.files("incoming")) == 1)
    assert peer.pdu()[0] in {ABORT, 0}
    wait_for(lambda: node.files("incoming") == [])


def test_pauses_between_pdus_are_no_fault(node: Node, peer: RawPeer) -> None:
    ds = radiograph()
    data = encoded(ds)
    peer.p_data((COMMAND | LAST, store_command(sop=ds.SOPInstanceUID)))
    for part in (data[:700], data[700:1400]):
        time.sleep(0.3)
        peer.p_data((DATA, part))
    time.sleep(0.3)
    peer.p_data((LAST, data[1400:]))
    assert peer.status() == 0


@pytest.mark.parametrize("count", [12, 40])
def test_silent_sockets_keep_nobody_out(tmp_path: Path, count: int) -> None:
    with receiving(
        tmp_path, receive={"max_associations": 10, "max_associations_per_address": 10}
    ) as node:
        silent = [RawPeer(node.port) for _ in range(count)]
        started = time.monotonic()
        with associated(node.port, VERIFICATION) as association:
            assert association.send_c_echo().Status == 0
        assert send(node.port, radiograph()) == [0]
        assert time.monotonic() - started < 10
        wait_for(lambda: silent[-1].pdu()[0] in {ABORT, 0}, seconds=20)  # acse_timeout
        for peer in silent:
            peer.socket.close()


def test_a_class_may_not_travel_in_the_context_of_another(node: Node, peer: RawPeer) -> None:
    other = "1.2.840.10008.5.1.4.1.1.1"
    ds = radiograph(sop_class=other)
    command = store_command(sop=ds.SOPInstanceUID, sop_class=other)
    assert other != DX
    peer.p_data((COMMAND | LAST, command), (LAST, encoded(ds)))
    assert peer.status() == 0xC000


def test_an_empty_data_set_is_not_understood(peer: RawPeer) -> None:
    peer.p_data((COMMAND | LAST, store_command(sop="1.2.3")), (LAST, b""))
    assert peer.status() == 0xC000


def store(peer: RawPeer, ds: Dataset, *, message_id: int = 1) -> None:
    command = store_command(sop=ds.SOPInstanceUID, message_id=message_id)
    peer.p_data((COMMAND | LAST, command), (LAST, encoded(ds)))


def test_an_object_that_is_too_large_is_refused_and_the_association_goes_on(tmp_path: Path) -> None:
    with receiving(tmp_path, receive={"max_object_mb": 1}) as node, RawPeer(node.port) as peer:
        peer.associate()
        large = radiograph()
        large.PixelData = bytes(1_500_000)
        store(peer, large)
        assert peer.status() == 0xC000
        assert node.files("incoming") + node.files("quarantine") == []
        store(peer, radiograph(), message_id=2)
        assert peer.status() == 0


def test_an_object_without_end_is_aborted(tmp_path: Path) -> None:
    with receiving(tmp_path, receive={"max_object_mb": 1}) as node, RawPeer(node.port) as peer:
        peer.associate()
        peer.p_data((COMMAND | LAST, store_command(sop="1.2.3")))
        with suppress(OSError):  # it stops reading
            for _ in range(1000):
                peer.p_data((DATA, bytes(100_000)))
        assert peer.pdu()[0] in {ABORT, 0}
        wait_for(lambda: node.files("incoming") == [])
        assert send(node.port, radiograph()) == [0]


def test_a_disk_that_fills_while_an_object_arrives_keeps_its_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader of the association refuses, others get in at once."""
    with receiving(tmp_path, storage={"min_free_mb": 1}) as node, RawPeer(node.port) as peer:
        peer.associate()
        _disk_of(node, monkeypatch, megabytes=4)
        large = radiograph()
        large.PixelData = bytes(8_000_000)
        store(peer, large)
        assert peer.status() == 0xA700
        assert node.files("incoming") == []
        assert send(node.port, radiograph()) == [0]
        store(peer, radiograph(seed=3), message_id=2)
        assert peer.status() == 0


def _disk_of(node: Node, monkeypatch: pytest.MonkeyPatch, *, megabytes: int) -> None:
    """Make the spool lie on a file system of so many megabytes."""

    def statvfs(_path: object) -> SimpleNamespace:
        used = sum(path.stat().st_size for path in node.files("incoming"))
        return SimpleNamespace(f_bavail=max(0, megabytes * 2**20 - used), f_frsize=1)

    monkeypatch.setattr("dicom_ai_node.receive.incoming.os.statvfs", statvfs)


def dribbling(peer: RawPeer, data: bytes, *, pause: float) -> int:
    """Send byte by byte until the other side ends it; return how many it took."""
    peer.socket.settimeout(pause)
    for position in range(len(data)):
        try:
            peer.socket.sendall(data[position : position + 1])
            if not peer.socket.recv(4096):
                return position
        except TimeoutError:
            continue
        except OSError:
            return position
    raise AssertionError("it took all of it")


@pytest.mark.parametrize(
    "message",
    [
        struct.pack(">BxIIBB", 4, 5000, 4996, 1, 0) + bytes(5000),  # one fragment of a data set
        b"".join(struct.pack(">BxIIBBB", 4, 7, 3, 1, 0, 0) for _ in range(1000)),  # PDUs of a byte
    ],
)
def test_a_byte_now_and_then_ends_the_association_with_a_line_that_says_why(
    node: Node, peer: RawPeer, message: bytes
) -> None:
    """dimse_timeout is two seconds here."""
    with capture_logs() as logged:
        peer.p_data((COMMAND | LAST, store_command(sop="1.2.3")))
        dribbling(peer, message, pause=0.2)
        wait_for(lambda: node.files("incoming") == [])
        wait_for(lambda: "association_ended" in [line["event"] for line in logged])
    assert "receive.least_rate" in logged[-1]["reason"]


def test_a_message_that_only_begins_ends_the_association(node: Node, peer: RawPeer) -> None:
    peer.p_data((COMMAND, b"\0"))
    assert peer.pdu()[0] in {ABORT, 0}


def test_empty_fragments_bring_nothing(node: Node, peer: RawPeer) -> None:
    peer.p_data((COMMAND | LAST, store_command(sop="1.2.3")))
    with suppress(OSError):
        for _ in range(1000):
            peer.p_data((DATA, b""))
            time.sleep(0.01)
    assert peer.pdu()[0] in {ABORT, 0}


def test_a_request_byte_by_byte_ends_the_connection(node: Node) -> None:
    """acse_timeout is two seconds here."""
    with RawPeer(node.port) as peer:
        taken = dribbling(peer, struct.pack(">BxI", 1, 3000) + bytes(3000), pause=0.2)
        assert taken < 500


def test_an_association_without_instances_ends_echoes_or_not(tmp_path: Path) -> None:
    with (
        receiving(tmp_path, receive={"unproductive_seconds": 2.0}) as node,
        associated(node.port, VERIFICATION) as echoing,
        associated(node.port, DX) as idle,
        associated(node.port, DX) as sending,
    ):
        sent = 0
        with suppress(RuntimeError):
            for _ in range(100):
                echoing.send_c_echo()
                assert sending.send_c_store(radiograph()).Status == 0
                sent += 1
                time.sleep(0.1)
        assert sent < 100
        wait_for(lambda: echoing.is_aborted and idle.is_aborted)
        assert sending.send_c_store(radiograph()).Status == 0


def test_where_there_is_no_room_the_one_that_stalls_makes_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_ai_node.receive.acceptor._MAY_STALL", 0.5)
    limits = {"max_associations": 3, "dimse_timeout": 600.0, "network_timeout": 600.0}
    with receiving(tmp_path, receive=limits) as node:
        stalling = []
        for _ in range(3):  # one after the other: silent connections beyond the limit are closed
            stalling.append(peer := RawPeer(node.port))
            peer.associate()
            peer.p_data((COMMAND | LAST, store_command(sop="1.2.3")), (DATA, b"half"))
        time.sleep(1.0)
        assert send(node.port, radiograph()) == [0]
        with associated(node.port, VERIFICATION) as association:
            assert association.send_c_echo().Status == 0
        for peer in stalling:
            peer.socket.close()


def test_who_is_at_work_makes_no_room(tmp_path: Path) -> None:
    with (
        receiving(tmp_path, receive={"max_associations": 2}) as node,
        associated(node.port) as first,
        associated(node.port) as second,
    ):
        assert first.send_c_store(radiograph()).Status == 0
        assert second.send_c_store(radiograph()).Status == 0
        assert wire.ask(node.port, wire.request()).rejection == (2, 3, 2)
        assert first.send_c_store(radiograph()).Status == 0
