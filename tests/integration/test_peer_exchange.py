"""Every answer reaches who asked, however late pynetdicom's reactor wakes."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pydicom import Dataset
from pynetdicom import AE, build_context, evt
from pynetdicom.dimse_primitives import C_FIND
from pynetdicom.sop_class import ComputedRadiographyImageStorage, Verification

from dicom_ai_node.config.peers import PacsTable
from dicom_ai_node.dicom.classes import FIND, GET, MOVE
from dicom_ai_node.peer.exchange import Exchange
from dicom_ai_node.peer.requestor import Association
from tests.acceptance.harness import noise
from tests.builders.pacs import Archive, running
from tests.builders.waiting import wait_for

IMAGE = ComputedRadiographyImageStorage


class LateCheckpoint(threading.Event):
    """Lets the reactor go on when a message lies there, with which its halt was not noticed."""

    def __init__(self, handle: Any) -> None:
        super().__init__()
        self.set()
        self._handle = handle
        self._take = handle.dimse.get_msg
        self._woken, self._passed = threading.Event(), threading.Event()
        handle.dimse.get_msg = self._get_msg
        handle._reactor_checkpoint = self
        assert self._woken.wait(30)

    def wait(self, timeout: float | None = None) -> bool:
        self._passed.set()
        super().wait(timeout)
        self._passed.clear()
        self._woken.set()
        while not self._handle._kill and self._handle.dimse.peek_msg() == (None, None):
            time.sleep(0.001)
        return True

    def _get_msg(self, block: bool = False) -> Any:
        """Have who waits for a message come after the reactor."""
        if block:
            assert self._passed.wait(30)
        return self._take(block=block)


@pytest.fixture
def archive() -> Iterator[Archive]:
    with running(Archive([noise("one", 1), noise("two", 1)])) as started:
        yield started


def peer(port: int) -> PacsTable:
    return PacsTable(kind="pacs", host="127.0.0.1", port=port, ae_title="PACS", timeout=30.0)


@pytest.fixture
def stores() -> list[threading.Thread]:
    """The thread in which each C-STORE was handled."""
    return []


@pytest.fixture
def exchange(archive: Archive, stores: list[threading.Thread]) -> Iterator[Exchange]:
    def store(_event: Any) -> int:
        stores.append(threading.current_thread())
        return 0x0000

    one = Exchange.open(
        peer(archive.port),
        [build_context(uid) for uid in (FIND, GET, MOVE, IMAGE)],
        calling_ae_title="NODE",
        scp_classes=[IMAGE],
        handlers=[(evt.EVT_C_STORE, store)],
    )
    yield one
    one.release()


def studies() -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", ""
    return identifier


def test_no_match_is_lost_to_a_reactor_that_wakes_late(exchange: Exchange) -> None:
    LateCheckpoint(exchange._handle)
    for _ in range(2):
        assert len(list(exchange.find(studies()))) == 2


def test_thousands_of_queries_in_a_row_are_answered(exchange: Exchange) -> None:
    """The association's own thread is halted for each, and let go right before the next one."""
    for _ in range(2000):
        assert len(list(exchange.find(studies()))) == 2
    assert exchange.alive


def test_stores_of_a_get_are_served_by_who_asked(
    exchange: Exchange, stores: list[threading.Thread]
) -> None:
    LateCheckpoint(exchange._handle)
    assert exchange.get(studies()).status == 0x0000
    assert stores == [threading.current_thread()] * 2


def test_the_end_of_a_move_is_heard(exchange: Exchange) -> None:
    LateCheckpoint(exchange._handle)
    assert exchange.move(studies(), "UNKNOWN", last_arrival=lambda: 0.0).status == 0xA801


def test_an_echo_is_heard() -> None:
    ae = AE()
    ae.add_supported_context(Verification)
    server = ae.start_server(("127.0.0.1", 0), block=False)
    address = peer(server.server_address[1])
    association = Association.open(address, [build_context(Verification)], calling_ae_title="NODE")
    LateCheckpoint(association._handle)
    try:
        assert [association.echo(), association.echo()] == [(0x0000, "")] * 2
    finally:
        association.release()
        server.shutdown()


def test_what_nobody_asked_for_is_no_answer_to_the_next_question(exchange: Exchange) -> None:
    for _ in range(2):
        assert len(list(exchange.find(studies()))) == 2
        dimse = exchange._handle.dimse
        dimse.msg_queue.put((1, C_FIND()))
        wait_for(dimse.msg_queue.empty)
