"""Ports for servers that a test starts, and for those that must not be there."""

import os
import socket
from collections.abc import Iterator
from itertools import cycle

_FIRST, _EACH, _BLOCKS = 10_240, 176, 128
"""Below 32768, where Linux takes the ports of outgoing connections and of ``bind`` to 0."""


def _block() -> Iterator[int]:
    """The ports of this process, in turn: tests run in several processes at once."""
    first = _FIRST + os.getpid() % _BLOCKS * _EACH
    return cycle(range(first, first + _EACH))


_ports = _block()


def free_port() -> int:
    """Return a port of loopback that nobody listens on, and nobody else is about to take."""
    for _ in range(_EACH):
        port = next(_ports)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
