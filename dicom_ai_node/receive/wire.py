"""The socket of one connection: bytes in and out, each within the time that the peer has for it."""

import math
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from dicom_ai_node.receive.connection import Connection
from dicom_ai_node.receive.incoming import Pipe

_SLICE = 1.0
"""Seconds that a read waits in the kernel before the peer's time is looked at."""
_LONGEST_SLEEP = 3600.0
_SMALL = 16 * 1024
"""Bytes of a read that the kernel may not acknowledge at once by itself."""
_GLANCE = 0.05
"""Seconds after which the time of a peer that never lets us wait is looked at again."""
READ_AHEAD = 64 * 1024
"""Bytes that one read takes where PDUs are small: several of 16 KB, which many peers send."""
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
        self.read_ahead = READ_AHEAD
        """Bytes that one read takes at most where a few are wanted: a header, a command."""
        self._ahead = memoryview(bytearray(READ_AHEAD))
        self._start = self._end = 0
        """Of what is there, read and not wanted yet."""
        self._look_at = 0.0
        self._is_tcp = accepted.family != socket.AF_UNIX
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
        if self._start < self._end:
            return True
        return bool(self._poll.poll(math.ceil(max(0.0, seconds) * 1000)))

    def await_peer(self) -> None:
        """Return when something has come; within a message at once: its bytes are waited for."""
        if not self._peer.pace.is_open:
            while not self.is_readable(min(self._peer.seconds_left(), _LONGEST_SLEEP)):
                self._look_up()
            self._peer.heard_at = time.monotonic()
        self._glance(time.monotonic())  # also of who never lets us wait

    def exactly(self, size: int) -> bytes:
        """Return so many bytes."""
        if self._start == self._end and size < self.read_ahead:
            self._start, self._end = 0, self._receive(self._ahead[: self.read_ahead], 0)
        start, end = self._start, self._start + size
        if end <= self._end:
            self._start = end
            return self._ahead[start:end].tobytes()
        data = bytearray(size)
        space = memoryview(data)
        while space:
            space = space[self.receive_into(space) :]
        return bytes(data)

    def receive_into(self, space: memoryview) -> int:
        """Return how many bytes came: all that fit, those of a second, or what was read ahead.

        Raises LetGo, Stopped; OSError: the connection has ended.
        """
        if self._start == self._end:
            return self._receive(space, socket.MSG_WAITALL)
        size = min(self._end - self._start, len(space))
        space[:size] = self._ahead[self._start : self._start + size]
        self._start += size
        return size

    @property
    def is_read_ahead(self) -> bool:
        """Whether something was read that has not been asked for yet."""
        return self._start < self._end

    def splice(self, pipe: Pipe, size: int) -> int:
        """Move at most so many bytes into a pipe, unread; return how many, 0 if it may be full.

        Not for what was read ahead. Raises as :meth:`receive_into`.
        """
        source = self._socket.fileno()
        if not pipe.waits:
            received = self._progress(lambda: os.splice(source, pipe.into, size), size)
        else:
            try:
                received = os.splice(source, pipe.into, size, flags=os.SPLICE_F_NONBLOCK)
            except BlockingIOError:  # a pipe holds so many pieces, however small
                return 0
            self._peer.heard(time.monotonic())
        pipe.waits += received
        return received

    def _receive(self, space: memoryview, flags: int) -> int:
        return self._progress(lambda: self._socket.recv_into(space, 0, flags), len(space))

    def _progress(self, read: Callable[[], int], wanted: int) -> int:
        """Read until something comes; return how much."""
        while True:
            try:
                received = read()
            except BlockingIOError:  # the kernel's timeout
                self._look_up()
                continue
            if not received:
                self._look_up()
                raise ConnectionError("closed by the peer")
            now = time.monotonic()
            self._peer.heard(now)
            if received < wanted:
                self._glance(now)
                if received < _SMALL:
                    self._acknowledge()
            return received

    def _acknowledge(self) -> None:
        """Acknowledge what has come at once: a peer with a small buffer waits for that to go on."""
        if self._is_tcp:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

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

    def _glance(self, now: float) -> None:
        if self._stops or now >= self._look_at:
            self._look_at = now + _GLANCE
            self._look_up()

    def _look_up(self) -> None:
        """See whether to wait for the rest."""
        if self._stops:
            raise Stopped
        if overdue := self._peer.overdue():
            raise LetGo(overdue)
