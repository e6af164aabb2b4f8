"""The socket of a connection: who waits for whom, and for how long."""

import fcntl
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from dicom_ai_node.config.processes import ReceiveSettings
from dicom_ai_node.receive.connection import Connection
from dicom_ai_node.receive.incoming import Pipe
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


def test_a_full_pipe_is_no_reason_to_wait(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    wire = Wire(ours, Connection("::1", ReceiveSettings(), calling_ae="CR"))
    pipe = Pipe()
    fcntl.fcntl(pipe.into, fcntl.F_SETPIPE_SZ, 4096)  # of one piece, however small
    for _ in range(3):
        theirs.sendall(b"piece")
    moved = [wire.splice(pipe, 100) for _ in range(2)]
    assert moved[1] == 0
    assert pipe.waits == moved[0] > 0
    pipe.drop()
    while sum(moved) < 15:
        moved.append(wire.splice(pipe, 100))
        pipe.drop()
    pipe.close()


def test_what_was_read_ahead_is_what_comes_next(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    wire = Wire(ours, Connection("::1", ReceiveSettings(), calling_ae="CR"))
    theirs.sendall(b"0123456789")
    space = bytearray(100)
    assert wire.exactly(2) == b"01"
    assert wire.is_read_ahead
    assert wire.is_readable(0)
    assert wire.exactly(3) == b"234"
    assert wire.receive_into(memoryview(space)[:4]) == 4
    assert space[:4] == b"5678"
    theirs.sendall(bytes(200_000))
    assert wire.exactly(100_001) == b"9" + bytes(100_000)


def test_no_more_is_read_ahead_than_asked_for(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    wire = Wire(ours, Connection("::1", ReceiveSettings(), calling_ae="CR"))
    theirs.sendall(b"header" + b"header" + b"for the file")
    wire.read_ahead = 12
    assert wire.exactly(6) + wire.exactly(6) == b"headerheader"
    assert not wire.is_read_ahead
    assert ours.recv(100) == b"for the file"
