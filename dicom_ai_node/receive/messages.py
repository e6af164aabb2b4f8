"""The messages of one association: data sets go straight to their files, requests are answered.

Of the fragments of a data set (PS3.8 9.3.5, PS3.7 annex E) large ones go from the socket through a
pipe into the file, small ones through one buffer; the thread that has read the last one files the
instance and sends the response.
"""

import struct
import time
from collections.abc import Mapping
from typing import NamedTuple

from dicom_ai_node.dicom.part10 import file_head
from dicom_ai_node.dicom.status import SUCCESS, UNRECOGNISED_OPERATION
from dicom_ai_node.dicom.uids import clean_uid
from dicom_ai_node.peer.commands import COMMAND, LAST, CommandSet, Field, Tag, p_data, response
from dicom_ai_node.peer.pdus import HEADER, LARGEST_CONTROL, UnreadablePdu
from dicom_ai_node.receive.connection import Connection
from dicom_ai_node.receive.filing import Filing
from dicom_ai_node.receive.incoming import Incoming, Pipe
from dicom_ai_node.receive.landing import Landing
from dicom_ai_node.receive.requests import StoreAnswer, StoreRequest
from dicom_ai_node.receive.wire import READ_AHEAD, LetGo, Wire

_NOT_OFFERED = StoreAnswer(UNRECOGNISED_OPERATION, "only C-ECHO and C-STORE are offered")
_PDV_HEADER = struct.Struct(">IBB")
_BUFFER = 256 * 1024
"""Bytes per write: large enough that system calls do not count, small enough for the cache."""
_LARGE = 32 * 1024
"""Bytes of a fragment that are worth moving from socket to file within the kernel."""
_HEADERS = HEADER.size + _PDV_HEADER.size
"""Bytes between two of them."""
_PATIENCE = 2.0
"""Seconds to wait for the data set of a C-STORE-RQ that says that none follows."""


class _Transfer(NamedTuple):
    command: CommandSet
    context_id: int
    store: tuple[StoreRequest, Incoming] | None
    """None for another request than C-STORE: it is answered, and its data set is dropped."""

    @property
    def may_be_over(self) -> bool:
        """Whether something else than its data set can follow the command set."""
        return self.store is None or not self.command.has_data_set


class Messages:
    """What comes in P-DATA-TF PDUs, from the first to the last one of an association.

    ``contexts`` has abstract and transfer syntax of each accepted presentation context; no PDU that
    is sent has more than ``longest`` bytes.
    """

    def __init__(
        self,
        wire: Wire,
        peer: Connection,
        *,
        contexts: Mapping[int, tuple[str, str]],
        longest: int,
        landing: Landing,
        filing: Filing,
    ) -> None:
        self._wire = wire
        self._peer = peer
        self._pace = peer.pace
        self._contexts = contexts
        self._longest = longest
        self._landing = landing
        self._filing = filing
        self._transfer: _Transfer | None = None
        self._command = bytearray()
        self._buffer = memoryview(b"")  # made with the first data set: many bring none
        self._filled = 0
        self._pipe: Pipe | None = None

    def close(self) -> None:
        """Give back what only this association used."""
        if self._pipe is not None:
            self._pipe.close()

    def read(self, length: int) -> None:
        """Read the presentation data values of one PDU (PS3.8 9.3.5.1).

        Raises UnreadablePdu: they cannot be followed; LetGo: a data set has no end; what
        the wire raises.
        """
        while length > 0:
            item_length, context_id, control = _PDV_HEADER.unpack(
                self._wire.exactly(_PDV_HEADER.size)
            )
            size = item_length - 2
            length -= 4 + item_length
            if size < 0 or length < 0:
                raise UnreadablePdu("lengths of PDU and presentation data value disagree")
            if control & COMMAND:
                self._command_fragment(context_id, control, size)
            else:
                self._data_fragment(control, size)
        transfer = self._transfer
        if transfer and not transfer.command.has_data_set and not self._wire.is_readable(_PATIENCE):
            self._finish(transfer)

    def _command_fragment(self, context_id: int, control: int, size: int) -> None:
        if self._transfer is not None and self._transfer.may_be_over:
            self._finish(self._transfer)
        self._pace.begin(time.monotonic())
        if self._transfer is not None or len(self._command) + size > LARGEST_CONTROL:
            raise UnreadablePdu("command fragment within a data set, or too long a command")
        self._command += self._wire.exactly(size)
        self._pace.add(size)
        if control & LAST:
            command, self._command = CommandSet(bytes(self._command)), bytearray()
            self._begin(command, context_id)

    def _begin(self, command: CommandSet, context_id: int) -> None:
        """Answer a request, or expect its data set first."""
        if context_id not in self._contexts:
            raise UnreadablePdu("a message in a presentation context that was not accepted")
        abstract, transfer = self._contexts[context_id]
        if command.field == Field.C_STORE:
            # A data set follows, whatever Command Data Set Type says (PS3.7 9.3.1.1).
            request = StoreRequest.of(command, abstract, transfer)
            self._transfer = _Transfer(command, context_id, (request, self._land(request)))
            return
        if command.has_data_set:
            self._transfer = _Transfer(command, context_id, None)
        else:
            self._pace.end()
        if command.field == Field.C_ECHO:
            self._send(response(command, SUCCESS, sop_class_uid=abstract), context_id)
        elif command.field != Field.C_CANCEL and not command.is_response:
            self._respond(command, context_id, _NOT_OFFERED)

    def _land(self, request: StoreRequest) -> Incoming:
        """Return where the data set of a request goes."""
        head = file_head(
            sop_class_uid=request.sop_class_uid,
            sop_instance_uid=request.sop_instance_uid,
            transfer_syntax_uid=request.transfer_syntax_uid,
        )
        incoming = self._landing.begin(head)
        self._peer.arriving.add(incoming)
        return incoming

    def _finish(self, transfer: _Transfer) -> None:
        """Answer a C-STORE request of which everything is there."""
        self._transfer = None
        self._pace.end()
        if transfer.store is not None:
            request, incoming = transfer.store
            answer = self._filing.store(request, incoming, self._peer)
            self._peer.answered(incoming, success=answer.status == SUCCESS)
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
        self._send(message, context_id)

    def _send(self, command: bytes, context_id: int) -> None:
        for pdu in p_data(command, context_id, self._longest):
            self._wire.send(pdu)

    def _data_fragment(self, control: int, size: int) -> None:
        transfer = self._transfer
        if transfer is None:
            raise UnreadablePdu("data set without a command")
        is_last = bool(control & LAST)
        self._wire.read_ahead = _HEADERS if size >= _LARGE and not is_last else READ_AHEAD
        while size:
            if size >= _LARGE and transfer.store is not None and not self._wire.is_read_ahead:
                received = self._splice(transfer, size)
            else:
                received = self._copy(transfer, size)
            self._pace.add(received)
            size -= received
        if is_last:
            self._flush(transfer)
            self._finish(transfer)

    def _splice(self, transfer: _Transfer, size: int) -> int:
        """Move the next bytes of a fragment towards the file, unread; return how many."""
        if self._filled:
            self._flush(transfer)
        self._pipe = self._pipe or Pipe()
        received = self._wire.splice(self._pipe, min(size, _BUFFER))
        if not received or self._pipe.waits >= _BUFFER:
            self._flush(transfer)
        return received

    def _copy(self, transfer: _Transfer, size: int) -> int:
        """Read the next bytes of a fragment; return how many."""
        if not self._buffer:
            self._buffer = memoryview(bytearray(_BUFFER))
        if self._pipe is not None and self._pipe.waits:
            self._flush(transfer)
        received = self._wire.receive_into(self._buffer[self._filled : self._filled + size])
        self._filled += received
        if self._filled == len(self._buffer):
            self._flush(transfer)
        return received

    def _flush(self, transfer: _Transfer) -> None:
        """Write what has come: it waits in the buffer or in the pipe."""
        filled, self._filled = self._filled, 0
        if transfer.store is None:
            return
        _, incoming = transfer.store
        began = time.monotonic()
        if filled:
            incoming.write(self._buffer[:filled])
        if self._pipe is not None and self._pipe.waits:
            incoming.take(self._pipe)
        self._pace.excuse(time.monotonic() - began)
        if incoming.is_absurd:
            raise LetGo("a data set of more than twice receive.max_object_mb")
