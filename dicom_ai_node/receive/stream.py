"""Reads P-DATA from the socket, writes data sets straight to their files and answers requests.

pynetdicom copies each byte eight times on its way to a handler, in which it arrives by way of two
queues that are polled every millisecond. Here the fragments of a data set (PS3.8 9.3.5, PS3.7
annex E) go from the socket through one buffer to the digest and the file, and the thread that has
read the last one files the instance and sends the response. Association control is left to
pynetdicom, which never hears of a message.
"""

import socket
import struct
import time
from typing import NamedTuple, Protocol

from pynetdicom.pdu_primitives import A_ABORT, A_P_ABORT

from dicom_ai_node.dicom.status import SUCCESS, UNRECOGNISED_OPERATION
from dicom_ai_node.dicom.uids import clean_uid
from dicom_ai_node.peer.commands import COMMAND, LAST, CommandSet, Field, Tag, p_data, response
from dicom_ai_node.peer.pdus import A_ASSOCIATE_RQ, P_DATA_TF, UnreadablePdu
from dicom_ai_node.peer.upper_layer import LARGEST_CONTROL, UpperLayer, check_header, in_words
from dicom_ai_node.receive.connection import Pace
from dicom_ai_node.receive.incoming import Incoming
from dicom_ai_node.receive.reactor import EventDrivenAssociation, EventDrivenProvider
from dicom_ai_node.receive.requests import StoreAnswer, StoreRequest

_AWAITING_REQUEST, _ESTABLISHED, _AWAITING_CLOSE = "Sta2", "Sta6", "Sta13"  # PS3.8 table 9-10
_NOT_OFFERED = StoreAnswer(UNRECOGNISED_OPERATION, "only C-ECHO and C-STORE are offered")

_PDU_HEADER = struct.Struct(">BxI")
_PDV_HEADER = struct.Struct(">IBB")

_BUFFER = 256 * 1024
"""Bytes per write: large enough that system calls do not count, small enough for the cache."""
_PATIENCE = 2.0
"""Seconds to wait for the data set of a C-STORE-RQ that says that none follows."""
SLICE = 1.0
"""Seconds that a read within a PDU waits before the pace is looked at; the kernel's timeout."""


class StoreProvider(Protocol):
    """What is behind the C-STORE requests of one association. Must not raise."""

    def begin(self, request: StoreRequest) -> Incoming:
        """A request has come; its data set follows, and is written to what is returned."""

    def answer(self, request: StoreRequest, incoming: Incoming) -> StoreAnswer:
        """All bytes are there: do what is to be done, and return what the response says."""


class _LetGo(Exception):
    """The peer asks for too much time or room with what it has begun; says what."""


class _Aborting(Exception):
    """This side wants to abort while a PDU arrives."""


class _Transfer(NamedTuple):
    command: CommandSet
    context_id: int
    store: tuple[StoreRequest, Incoming] | None
    """None for another request than C-STORE: it is answered, and its data set is dropped."""

    @property
    def may_be_over(self) -> bool:
        """Whether something else than its data set can follow the command set."""
        return self.store is None or not self.command.has_data_set


class StreamingProvider(UpperLayer, EventDrivenProvider):
    """The upper layer of one association."""

    def __init__(self, assoc: EventDrivenAssociation, store: StoreProvider, pace: Pace) -> None:
        super().__init__(assoc)
        self._store = store
        self._pace = pace
        self._transfer: _Transfer | None = None
        self._command = bytearray()
        self.has_received = False
        """Whether a byte came: not from a probe that only connects."""
        self._out_of_step = False
        """Whether a PDU was left unread: what follows is dropped until the connection closes."""
        self._buffer = memoryview(b"")  # made with the first data set: many bring none
        self._filled = 0

    def release_memory(self) -> None:
        """Let go of the buffer: pynetdicom's objects refer to each other and live on for long."""
        self._buffer = memoryview(b"")

    def _read_pdu_data(self) -> None:
        """Read one PDU. **Events Emitted**: as in the base class."""
        try:
            if self._out_of_step:
                self._drop()
            else:
                self._read_pdu()
        except _LetGo as error:
            self._cut(str(error))
        except _Aborting:
            self._out_of_step = True
        except OSError as error:
            self._give_up("Evt17", error.strerror or str(error))  # transport connection closed
        except Exception as error:  # noqa: BLE001 - whatever the peer's bytes lead pynetdicom to raise
            self._out_of_step = True
            self._give_up("Evt19", in_words(error))  # unrecognised or invalid PDU

    def _cut(self, reason: str) -> None:
        """End the association: abort it, or close the connection where none was asked for yet."""
        self._out_of_step = True
        self._pace.end()
        # ARTIM expired closes the connection, an invalid PDU aborts the association.
        closes = self.state_machine.current_state in (_AWAITING_REQUEST, _AWAITING_CLOSE)
        self._give_up("Evt18" if closes else "Evt19", reason)

    def _seconds_left(self) -> float | None:
        return self._pace.seconds_left(time.monotonic())

    def _check(self) -> None:
        fault = self._pace.fault(time.monotonic())
        if fault and not self._out_of_step:
            self._cut(fault)

    def _give_up(self, event: str, fault: str) -> None:
        self.fault = self.fault or fault
        self.event_queue.put(event)
        if self.request is None:
            # The association's thread would wait for a request until acse_timeout.
            self.to_user_queue.put(None)

    def _read_pdu(self) -> None:
        if self.state_machine.current_state == _ESTABLISHED:
            self._pace.begin(time.monotonic())
        header = self._exactly(_PDU_HEADER.size)
        pdu_type, length = _PDU_HEADER.unpack(header)
        if pdu_type == P_DATA_TF and self.state_machine.current_state == _ESTABLISHED:
            self._read_p_data(length)
            return
        check_header(header, largest=LARGEST_CONTROL)
        if not self.titles and pdu_type != A_ASSOCIATE_RQ:
            raise UnreadablePdu(f"PDU of type {pdu_type:02X}H before any association request")
        pdu, event = self._decode_pdu(bytearray(header + self._exactly(length)))
        self.event_queue.put(event)
        self._recv_pdu.put(pdu)
        self._pace.end()

    def _read_p_data(self, length: int) -> None:
        """Read the presentation data values of one PDU (PS3.8 9.3.5.1); action DT-2."""
        while length > 0:
            item_length, context_id, control = _PDV_HEADER.unpack(self._exactly(_PDV_HEADER.size))
            size = item_length - 2
            length -= 4 + item_length
            if size < 0 or length < 0:
                raise UnreadablePdu("lengths of PDU and presentation data value disagree")
            if control & COMMAND:
                self._command_fragment(context_id, control, size)
            else:
                self._data_fragment(control, size)
        transfer = self._transfer
        if transfer and not transfer.command.has_data_set and not self._is_readable(_PATIENCE):
            self._finish(transfer)

    def _command_fragment(self, context_id: int, control: int, size: int) -> None:
        if self._transfer is not None and self._transfer.may_be_over:
            self._finish(self._transfer)
        self._pace.begin(time.monotonic())
        if self._transfer is not None or len(self._command) + size > LARGEST_CONTROL:
            raise UnreadablePdu("command fragment within a data set, or too long a command")
        self._command += self._exactly(size)
        self._pace.add(size)
        if control & LAST:
            command, self._command = CommandSet(bytes(self._command)), bytearray()
            self._begin(command, context_id)

    def _begin(self, command: CommandSet, context_id: int) -> None:
        """Answer a request, or expect its data set first."""
        context = self.assoc._accepted_cx.get(context_id)
        if context is None:
            raise UnreadablePdu("a message in a presentation context that was not accepted")
        if command.field == Field.C_STORE:
            # A data set follows, whatever Command Data Set Type says (PS3.7 9.3.1.1).
            request = StoreRequest.of(command, context)
            self._transfer = _Transfer(command, context_id, (request, self._store.begin(request)))
            return
        if command.has_data_set:
            self._transfer = _Transfer(command, context_id, None)
        else:
            self._pace.end()
        if command.field == Field.C_ECHO:
            uid = str(context.abstract_syntax)
            self._send_message(response(command, SUCCESS, sop_class_uid=uid), context_id)
        elif command.field != Field.C_CANCEL and not command.is_response:
            self._respond(command, context_id, _NOT_OFFERED)

    def _finish(self, transfer: _Transfer) -> None:
        """Answer a C-STORE request of which everything is there."""
        self._transfer = None
        self._pace.end()
        if transfer.store is not None:
            answer = self._store.answer(*transfer.store)
            self._respond(transfer.command, transfer.context_id, answer)

    def _respond(self, command: CommandSet, context_id: int, answer: StoreAnswer) -> None:
        message = response(
            command,
            answer.status,
            comment=answer.comment,
            offending=answer.offending,
            sop_class_uid=clean_uid(command.text(Tag.AFFECTED_SOP_CLASS_UID)),
            sop_instance_uid=clean_uid(command.text(Tag.AFFECTED_SOP_INSTANCE_UID)),
        )
        self._send_message(message, context_id)

    def _send_message(self, command: bytes, context_id: int) -> None:
        """Send a response; action DT-1."""
        for pdu in p_data(command, context_id, self.assoc.requestor.maximum_length):
            self._socket().sendall(pdu)

    def _data_fragment(self, control: int, size: int) -> None:
        transfer = self._transfer
        if transfer is None:
            raise UnreadablePdu("data set without a command")
        if not self._buffer:
            self._buffer = memoryview(bytearray(_BUFFER))
        while size:
            received = self._receive_into(self._buffer[self._filled : self._filled + size])
            self._pace.add(received)
            self._filled += received
            size -= received
            if self._filled == len(self._buffer):
                self._flush(transfer)
        if control & LAST:
            self._flush(transfer)
            self._finish(transfer)

    def _flush(self, transfer: _Transfer) -> None:
        filled, self._filled = self._filled, 0
        if transfer.store is None:
            return
        _, incoming = transfer.store
        began = time.monotonic()
        incoming.write(self._buffer[:filled])
        self._pace.excuse(time.monotonic() - began)
        if incoming.is_absurd:
            raise _LetGo("a data set of more than twice receive.max_object_mb")

    def _exactly(self, size: int) -> bytes:
        data = bytearray(size)
        space = memoryview(data)
        while space:
            space = space[self._receive_into(space) :]
        return bytes(data)

    def _receive_into(self, space: memoryview) -> int:
        """Return how many bytes came: all that fit, or those of :data:`SLICE` seconds."""
        while True:
            try:
                received = self._socket().recv_into(space, 0, socket.MSG_WAITALL)
            except BlockingIOError:  # the kernel's timeout
                self._look_up()
                continue
            if not received:
                raise ConnectionError("closed by the peer")
            self.has_received = True
            self._idle_timer.restart()
            if received < len(space):
                self._look_up()
            return received

    def _look_up(self) -> None:
        """Within a PDU: see whether to wait for the rest of it."""
        fault = self._pace.fault(time.monotonic())
        if self.artim_timer.expired:
            fault = f"not complete within receive.acse_timeout = {self.assoc.acse_timeout:g} s"
        if fault:
            raise _LetGo(fault)
        waiting = list(self.to_provider_queue.queue)
        if self._kill_thread or any(isinstance(item, A_ABORT | A_P_ABORT) for item in waiting):
            raise _Aborting

    def _drop(self) -> None:
        """Take what the peer still sends, and forget it."""
        if not self._socket().recv(_BUFFER):
            raise ConnectionError("closed by the peer")

    def _socket(self) -> socket.socket:
        connection: socket.socket | None = self.socket.socket if self.socket else None
        if connection is None:
            raise ConnectionError("closed")
        return connection
