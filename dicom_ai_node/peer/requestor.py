"""The connection below an association that this node opens."""

import socket
import struct
from contextlib import suppress
from typing import Any

from pynetdicom import AE
from pynetdicom.association import Association

from dicom_ai_node.peer.upper_layer import UpperLayer

_QUICKACK = getattr(socket, "TCP_QUICKACK", None)
"""None where there is no such option."""


class Requestor(AE):  # type: ignore[misc]
    """pynetdicom's AE with three things that it lacks for a client that must never hang.

    It knows why a connection failed, and no single read or write outlasts the timeout: pynetdicom
    would wait for ever in ``send`` for a peer that has stopped reading. It reads what the peer
    answers by way of :class:`~dicom_ai_node.peer.upper_layer.UpperLayer`.
    """

    def __init__(self, ae_title: str, timeout: float) -> None:
        super().__init__(ae_title)
        self.connection_timeout = self.acse_timeout = timeout
        self.dimse_timeout = self.network_timeout = timeout
        self._timeout = timeout
        self._socket: _Socket | None = None
        self._layer: UpperLayer | None = None

    @property
    def fault(self) -> str:
        """Why the peer could not be followed, '' when it could."""
        return self._layer.fault if self._layer else ""

    @property
    def rejection(self) -> str:
        """The peer's A-ASSOCIATE-RJ in words, '' when there was none."""
        return self._layer.rejection if self._layer else ""

    @property
    def failure(self) -> OSError | None:
        """Why there was no connection, None when there was."""
        return self._socket.failure if self._socket else None

    def close(self) -> None:
        """Close the connection; pynetdicom leaves one that the peer broke off to the collector."""
        if self._socket is not None:
            self._socket.close()

    def _create_socket(self, association: Association, *args: Any) -> Any:
        self._layer = UpperLayer.install(association)
        transport = super()._create_socket(association, *args)
        self._socket = _Socket(fileno=transport.socket.detach())
        limit = struct.pack("ll", int(self._timeout), int(self._timeout % 1 * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        # Command and data set leave in two writes, of which Nagle's algorithm would hold the second
        # back until the peer acknowledges the first.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.socket = self._socket
        return transport


class _Socket(socket.socket):
    """A socket that remembers why it could not connect, and acknowledges at once.

    Linux delays acknowledgements by 40 ms, for which many peers wait between the parts of an
    answer: a query of 10 ms would take 50.
    """

    failure: OSError | None = None

    def connect(self, address: Any) -> None:
        try:
            super().connect(address)
        except OSError as error:
            self.failure = error
            raise

    def recv(self, *args: Any) -> bytes:
        data = super().recv(*args)
        if _QUICKACK is not None:  # lasts until the kernel changes its mind
            with suppress(OSError):  # closed meanwhile
                self.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        return data
