"""Reads P-DATA from the socket and writes data sets straight to their files.

pynetdicom copies each byte eight times on its way to a handler. Here the fragments of a data set
(PS3.8 9.3.5, PS3.7 annex E) go from the socket through one buffer to the digest and the file;
pynetdicom sees the command set as it was sent and an empty data set. Everything but P-DATA on an
established association is left to pynetdicom.
"""

import select
import socket
import struct
from collections.abc import Callable
from typing import Protocol

from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import P_DATA

_P_DATA_TF = 0x04
_PDU_TYPES = range(0x01, 0x08)
_AWAITING_REQUEST, _ESTABLISHED = "Sta2", "Sta6"  # PS3.8 table 9-10
_COMMAND, _LAST = 1, 2  # bits of the message control header, PS3.8 E.2

_PDU_HEADER = struct.Struct(">BxI")
_PDV_HEADER = struct.Struct(">IBB")

_MAX_MESSAGE = 1024 * 1024
"""Largest PDU that is not P-DATA, and largest command set: both are held in memory. An association
request of 128 contexts with 40 transfer syntaxes each takes a third of it."""
_BUFFER = 256 * 1024
"""Bytes per write: large enough that system calls do not count, small enough for the cache."""
_LINGER = 0.02
"""Seconds to wait for the next PDU of a data set before the reactor has its turn."""


class Sink(Protocol):
    """Takes the data set of one C-STORE request. Must not raise."""

    def write(self, data: memoryview) -> None:
        """Take the next bytes."""


class _ProtocolError(Exception):
    """The peer breaks the protocol; the association is aborted."""


class StreamingProvider(DULServiceProvider):  # type: ignore[misc]
    """The upper layer of one association.

    ``open_sink`` is called with the request and its presentation context ID when a data set
    begins; what it returns is ``event.dataset_path`` in the handler of the request.
    """

    def __init__(
        self, assoc: Association, open_sink: Callable[[C_STORE_RQ, int], Sink | None]
    ) -> None:
        super().__init__(assoc)
        self.daemon = True  # a peer that stalls must not keep the process from ending
        self._open_sink = open_sink
        self._sink: Sink | None = None
        self._in_data_set = False
        self._command_size = 0
        self._out_of_step = False
        """Whether a PDU was left unread: what follows is dropped until the connection closes."""
        self._buffer = memoryview(bytearray(_BUFFER))
        self._filled = 0

    def _read_pdu_data(self) -> None:
        """Read one PDU, and on to the end of the data set that it is part of.

        pynetdicom's reactor sleeps between events, which caps the rate at one PDU per millisecond:
        so it gets its turn when the data set is complete, when the peer pauses and when something
        has to be sent.

        **Events Emitted**: as in the base class.
        """
        try:
            if self._out_of_step:
                self._receive_into(self._buffer)
                return
            while self._read_pdu() and self._may_go_on():
                self._idle_timer.restart()
        except OSError:  # includes a peer that stalls in the middle of a PDU
            self._give_up("Evt17")  # transport connection closed
        except Exception:  # noqa: BLE001 - whatever the peer's bytes lead pynetdicom to raise
            self._out_of_step = True
            self._give_up("Evt19")  # unrecognised or invalid PDU

    def _give_up(self, event: str) -> None:
        self.event_queue.put(event)
        if self.state_machine.current_state == _AWAITING_REQUEST:
            # The association's thread would wait for a request until acse_timeout.
            self.to_user_queue.put(None)

    def _may_go_on(self) -> bool:
        if not self._in_data_set or not self.to_provider_queue.empty() or self._kill_thread:
            return False
        return bool(select.select([self._socket()], [], [], _LINGER)[0])

    def _read_pdu(self) -> bool:
        """Return whether it was P-DATA of an established association."""
        header = self._exactly(_PDU_HEADER.size)
        pdu_type, length = _PDU_HEADER.unpack(header)
        if pdu_type == _P_DATA_TF and self.state_machine.current_state == _ESTABLISHED:
            self._read_p_data(length)
            return True
        if pdu_type not in _PDU_TYPES or length > _MAX_MESSAGE:
            raise _ProtocolError(f"PDU of type {pdu_type} and {length} bytes")
        pdu, event = self._decode_pdu(bytearray(header + self._exactly(length)))
        self.event_queue.put(event)
        self._recv_pdu.put(pdu)
        return False

    def _read_p_data(self, length: int) -> None:
        """Read the presentation data values of one PDU (PS3.8 9.3.5.1); action DT-2."""
        while length > 0:
            item_length, context_id, control = _PDV_HEADER.unpack(self._exactly(_PDV_HEADER.size))
            size = item_length - 2
            length -= 4 + item_length
            if size < 0 or length < 0:
                raise _ProtocolError("lengths of PDU and presentation data value disagree")
            if control & _COMMAND:
                self._command_fragment(context_id, control, size)
            else:
                self._data_fragment(context_id, control, size)

    def _command_fragment(self, context_id: int, control: int, size: int) -> None:
        self._command_size += size
        if self._in_data_set or self._command_size > _MAX_MESSAGE:
            raise _ProtocolError("command fragment within a data set, or too long a command")
        self._deliver(context_id, bytes([control]) + self._exactly(size))
        if control & _LAST:
            self._command_size = 0
            request = self.assoc.dimse.message
            self._in_data_set = request is not None  # else the message is complete without one
            if isinstance(request, C_STORE_RQ):
                self._sink = self._open_sink(request, context_id)
                request._data_set_path = self._sink

    def _data_fragment(self, context_id: int, control: int, size: int) -> None:
        if not self._in_data_set:
            raise _ProtocolError("data set without a command")
        while size:
            space = self._buffer[self._filled : self._filled + size]
            received = self._receive_into(space)
            self._filled += received
            size -= received
            if self._filled == len(self._buffer):
                self._flush()
        if control & _LAST:
            self._flush()
            self._sink = None
            self._in_data_set = False
            self._deliver(context_id, bytes([_LAST]))

    def _flush(self) -> None:
        if self._sink is not None:
            self._sink.write(self._buffer[: self._filled])
        self._filled = 0

    def _deliver(self, context_id: int, fragment: bytes) -> None:
        primitive = P_DATA()
        primitive.presentation_data_value_list.append((context_id, fragment))
        self.assoc.dimse.receive_primitive(primitive)

    def _exactly(self, size: int) -> bytes:
        data = bytearray(size)
        space = memoryview(data)
        while space:
            space = space[self._receive_into(space) :]
        return bytes(data)

    def _receive_into(self, space: memoryview) -> int:
        flags = 0 if self._out_of_step else socket.MSG_WAITALL
        received = self._socket().recv_into(space, 0, flags)
        if not received:
            raise ConnectionError("closed by the peer")
        return received

    def _socket(self) -> socket.socket:
        connection: socket.socket | None = self.socket.socket if self.socket else None
        if connection is None:
            raise ConnectionError("closed")
        return connection
