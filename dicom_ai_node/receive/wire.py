"""The socket of one connection: bytes in and out, each within the time that the peer has for it."""

import math
import select
import socket
import struct
import threading
import time
from contextlib import suppress

from dicom_ai_node.receive.connection import Connection

_SLICE = 1.0
"""Seconds that a read waits in the kernel before the peer's time is looked at."""
_LONGEST_SLEEP = 3600.0
_DROP = 256 * 1024
_PAUSE = 0.5
"""Seconds of silence after which a connection that is over is closed from here, too."""


class LetGo(Exception):
    """The peer takes too much time or room for what it has begun; says what."""


class Stopped(Exception):
    """This side ends the association."""


class Wire:
    """Read and written by one thread; others may only end it."""

    def __init__(self, accepted: socket.socket, peer: Connection) -> None:
        self._socket = accepted
        self._peer = peer
        self._stops = False
        self._lock = threading.Lock()
        self._poll = select.poll()  # unlike select, for any number of descriptors
        self._poll.register(accepted, select.POLLIN)
        # The kernel's timeouts and not Python's, which would cost a poll before every read.
        sending = peer.settings.dimse_timeout
        for option, seconds in ((socket.SO_RCVTIMEO, _SLICE), (socket.SO_SNDTIMEO, sending)):
            value = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
            accepted.setsockopt(socket.SOL_SOCKET, option, value)

    def stop(self) -> None:
        """Have its thread raise Stopped, wherever it waits for the peer."""
        self._stops = True
        self._shut(socket.SHUT_RD)

    def hang_up(self) -> None:
        """Have its thread find the connection closed."""
        self._shut(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection; nobody can end that of another one by the same number."""
        self._shut(socket.SHUT_RDWR)
        with self._lock:
            self._socket.close()

    def _shut(self, how: int) -> None:
        with self._lock, suppress(OSError):  # the peer was faster
            self._socket.shutdown(how)

    def is_readable(self, seconds: float) -> bool:
        """Whether something comes within that time, be it the end of the connection."""
        return bool(self._poll.poll(math.ceil(max(0.0, seconds) * 1000)))

    def await_peer(self) -> None:
        """Return when something has come."""
        while not self.is_readable(min(self._peer.seconds_left(), _LONGEST_SLEEP)):
            self._look_up()
        self._peer.heard_at = time.monotonic()
        self._look_up()  # also of who never lets us wait

    def exactly(self, size: int) -> bytes:
        """Return so many bytes."""
        data = bytearray(size)
        space = memoryview(data)
        while space:
            space = space[self.receive_into(space) :]
        return bytes(data)

    def receive_into(self, space: memoryview) -> int:
        """Return how many bytes came: all that fit, or those of a second.

        Raises LetGo, Stopped; OSError: the connection has ended.
        """
        while True:
            try:
                received = self._socket.recv_into(space, 0, socket.MSG_WAITALL)
            except BlockingIOError:  # the kernel's timeout
                self._look_up()
                continue
            if received:
                self._peer.heard()
            if received < len(space):
                self._look_up()
            if not received:
                raise ConnectionError("closed by the peer")
            return received

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self._socket.sendall(data)

    def drop(self, seconds: float) -> None:
        """Forget what the peer still sends, until it closes or pauses, or the time is over.

        To close over something unread would take back what we sent.
        """
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.is_readable(_PAUSE) and self._socket.recv(_DROP):
            continue

    def _look_up(self) -> None:
        """See whether to wait for the rest."""
        if self._stops:
            raise Stopped
        if overdue := self._peer.overdue():
            raise LetGo(overdue)
