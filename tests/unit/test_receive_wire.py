"""The socket of a connection: who waits for whom, and for how long."""

import socket
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from dicom_ai_node.config.processes import ReceiveSettings
from dicom_ai_node.receive.connection import Connection
from dicom_ai_node.receive.wire import LetGo, Stopped, Wire


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_who_never_lets_us_wait_is_let_go_all_the_same(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends
    settings = ReceiveSettings(unproductive_seconds=0.1)
    wire = Wire(ours, Connection("::1", settings, calling_ae="MODALITY"))
    theirs.sendall(b"echo upon echo")
    wire.await_peer()
    time.sleep(0.15)
    with pytest.raises(LetGo, match="unproductive_seconds"):
        wire.await_peer()


def test_what_was_sent_in_time_is_no_silence(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    wire = Wire(ours, Connection("::1", ReceiveSettings(network_timeout=0.1), calling_ae="CR"))
    theirs.sendall(b"x")
    time.sleep(0.15)  # this program was busy
    wire.await_peer()
    assert wire.exactly(1) == b"x"


@pytest.mark.parametrize("within", [False, True], ids=["between PDUs", "within one"])
def test_a_stop_wakes_who_waits_and_something_can_still_be_said(
    ends: tuple[socket.socket, socket.socket], within: bool
) -> None:
    ours, theirs = ends
    wire = Wire(ours, Connection("::1", ReceiveSettings(), calling_ae="CR"))
    threading.Timer(0.2, wire.stop).start()
    began = time.monotonic()
    wait = partial(wire.exactly, 6) if within else wire.await_peer
    with pytest.raises(Stopped):
        wait()
    assert time.monotonic() - began < 10
    wire.send(b"abort")
    wire.close()
    assert theirs.recv(100) == b"abort"
    wire.hang_up()  # harmless, whoever has the descriptor's number by now
