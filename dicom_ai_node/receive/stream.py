"""Reads P-DATA from the socket, writes data sets straight to their files and answers C-STORE.

pynetdicom copies each byte eight times on its way to a handler, in which it arrives by way of two
queues that are polled every millisecond. Here the fragments of a data set (PS3.8 9.3.5, PS3.7
annex E) go from the socket through one buffer to the digest and the file, and the thread that has
read the last one files the instance and sends the response. Everything else, that is association
control and C-ECHO, is left to pynetdicom.
"""

import select
import socket
import struct
from typing import NamedTuple, Protocol

from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ, C_STORE_RSP, DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.presentation import PresentationContext

from dicom_ai_node.peer.pdus import UnreadablePdu
from dicom_ai_node.peer.upper_layer import LARGEST_CONTROL, UpperLayer, check_header, in_words

_A_ASSOCIATE_RQ, _P_DATA_TF = 0x01, 0x04
_ESTABLISHED = "Sta6"  # PS3.8 table 9-10
_COMMAND, _LAST = 1, 2  # bits of the message control header, PS3.8 E.2

_PDU_HEADER = struct.Struct(">BxI")
_PDV_HEADER = struct.Struct(">IBB")

_LARGEST_COMMAND = LARGEST_CONTROL
"""Largest command set: it is held in memory."""
_BUFFER = 256 * 1024
"""Bytes per write: large enough that system calls do not count, small enough for the cache."""
_LINGER = 0.02
"""Seconds to wait for the next PDU before the reactor has its turn."""


class Reception(Protocol):
    """The data set of one C-STORE request, on its way in. Must not raise."""

    def write(self, data: memoryview) -> None:
        """Take the next bytes."""

    def answer(self) -> int:
        """All bytes are there: do what is to be done, and return the status of the response."""


class StoreProvider(Protocol):
    """What is behind the C-STORE requests of one association."""

    def begin(self, request: C_STORE, context: PresentationContext) -> Reception:
        """A request has come; its data set follows."""


class _Transfer(NamedTuple):
    request: C_STORE
    context: PresentationContext
    reception: Reception


class StreamingProvider(UpperLayer):
    """The upper layer of one association.

    pynetdicom never hears of C-STORE: neither its handlers nor its service classes are involved.
    """

    def __init__(self, assoc: Association, store: StoreProvider) -> None:
        super().__init__(assoc)
        self.daemon = True  # a peer that stalls must not keep the process from ending
        self._store = store
        self._transfer: _Transfer | None = None
        self._command_size = 0
        self.has_received = False
        """Whether a byte came: not from a probe that only connects."""
        self._reactor_has_work = False
        """Whether pynetdicom has a message to serve."""
        self._out_of_step = False
        """Whether a PDU was left unread: what follows is dropped until the connection closes."""
        self._buffer = memoryview(bytearray(_BUFFER))
        self._filled = 0

    def _read_pdu_data(self) -> None:
        """Read one PDU, and go on while they follow each other.

        pynetdicom's reactor sleeps between events, which caps the rate at one PDU per millisecond.
        It gets its turn when the peer pauses and when there is something for it to do.

        **Events Emitted**: as in the base class.
        """
        try:
            if self._out_of_step:
                self._receive_into(self._buffer)
                return
            while self._read_pdu() and self._may_go_on():
                self._idle_timer.restart()
        except BlockingIOError:
            self._give_up("Evt17", "stalled in the middle of a PDU")
        except OSError as error:
            self._give_up("Evt17", error.strerror or str(error))  # transport connection closed
        except Exception as error:  # noqa: BLE001 - whatever the peer's bytes lead pynetdicom to raise
            self._out_of_step = True
            self._give_up("Evt19", in_words(error))  # unrecognised or invalid PDU

    def _give_up(self, event: str, fault: str) -> None:
        self.fault = self.fault or fault
        self.event_queue.put(event)
        if self.request is None:
            # The association's thread would wait for a request until acse_timeout.
            self.to_user_queue.put(None)

    def _may_go_on(self) -> bool:
        if self._reactor_has_work or self._kill_thread or not self.to_provider_queue.empty():
            return False
        return bool(select.select([self._socket()], [], [], _LINGER)[0])

    def _read_pdu(self) -> bool:
        """Return whether it was P-DATA of an established association."""
        header = self._exactly(_PDU_HEADER.size)
        pdu_type, length = _PDU_HEADER.unpack(header)
        if pdu_type == _P_DATA_TF and self.state_machine.current_state == _ESTABLISHED:
            self._read_p_data(length)
            return True
        check_header(header, largest=LARGEST_CONTROL)
        if not self.titles and pdu_type != _A_ASSOCIATE_RQ:
            raise UnreadablePdu(f"PDU of type {pdu_type:02X}H before any association request")
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
                raise UnreadablePdu("lengths of PDU and presentation data value disagree")
            if control & _COMMAND:
                self._command_fragment(context_id, control, size)
            else:
                self._data_fragment(control, size)

    def _command_fragment(self, context_id: int, control: int, size: int) -> None:
        self._command_size += size
        if self._transfer is not None or self._command_size > _LARGEST_COMMAND:
            raise UnreadablePdu("command fragment within a data set, or too long a command")
        primitive = P_DATA()
        fragment = bytes([control]) + self._exactly(size)
        primitive.presentation_data_value_list.append((context_id, fragment))
        self.assoc.dimse.receive_primitive(primitive)
        self._reactor_has_work = False
        if control & _LAST:
            self._command_size = 0
            message, self.assoc.dimse.message = self.assoc.dimse.message, None
            self._reactor_has_work = message is None  # it was complete without a data set
            if message is not None:
                self._transfer = self._begin(message, context_id)

    def _begin(self, message: DIMSEMessage, context_id: int) -> _Transfer:
        context = self.assoc._accepted_cx.get(context_id)
        if not isinstance(message, C_STORE_RQ) or context is None:
            raise UnreadablePdu("no presentation context for this request")
        request = message.message_to_primitive()
        if not request.is_valid_request:
            raise UnreadablePdu("C-STORE request without its mandatory parameters")
        return _Transfer(request, context, self._store.begin(request, context))

    def _data_fragment(self, control: int, size: int) -> None:
        transfer = self._transfer
        if transfer is None:
            raise UnreadablePdu("data set without a command")
        while size:
            received = self._receive_into(self._buffer[self._filled : self._filled + size])
            self._filled += received
            size -= received
            if self._filled == len(self._buffer):
                self._flush(transfer)
        if control & _LAST:
            self._flush(transfer)
            self._transfer = None
            self._respond(transfer, transfer.reception.answer())

    def _flush(self, transfer: _Transfer) -> None:
        transfer.reception.write(self._buffer[: self._filled])
        self._filled = 0

    def _respond(self, transfer: _Transfer, status: int) -> None:
        """Send the C-STORE-RSP (PS3.7 9.3.1.2); action DT-1."""
        response = C_STORE()
        response.MessageIDBeingRespondedTo = transfer.request.MessageID
        response.AffectedSOPClassUID = transfer.request.AffectedSOPClassUID
        response.AffectedSOPInstanceUID = transfer.request.AffectedSOPInstanceUID
        response.Status = status
        message = C_STORE_RSP()
        message.primitive_to_message(response)
        longest = self.assoc.dimse.maximum_pdu_size
        for primitive in message.encode_msg(transfer.context.context_id, longest):
            self._send(P_DATA_TF(primitive))

    def _exactly(self, size: int) -> bytes:
        data = bytearray(size)
        space = memoryview(data)
        while space:
            space = space[self._receive_into(space) :]
        return bytes(data)

    def _receive_into(self, space: memoryview) -> int:
        flags = 0 if self._out_of_step else socket.MSG_WAITALL
        received = self._socket().recv_into(space, 0, flags)
        self.has_received = self.has_received or received > 0
        if not received:
            raise ConnectionError("closed by the peer")
        return received

    def _socket(self) -> socket.socket:
        connection: socket.socket | None = self.socket.socket if self.socket else None
        if connection is None:
            raise ConnectionError("closed")
        return connection
