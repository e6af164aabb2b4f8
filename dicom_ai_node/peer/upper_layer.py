"""pynetdicom's connection, upper layer and messages, for peers that bend PS3.7 and PS3.8.

Its two threads an association look every millisecond whether there is something to do, so that a
query and its answers, which go from one to the other, take many. Here they are woken.
"""

import os
import queue
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

import structlog
from pynetdicom import _config
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import A_P_ABORT, P_DATA

from dicom_ai_node.peer import pdus
from dicom_ai_node.peer.commands import (
    COMMAND,
    LAST,
    NO_UID,
    CommandSet,
    Field,
    Tag,
    cleaned,
    encode,
)
from dicom_ai_node.peer.pdus import UnreadablePdu

LARGEST_DATA = 64 * 1024 * 1024
"""Largest P-DATA-TF that is read whole, many times what this node ever says it takes."""

_LONGEST_WAIT = 0.1
"""Seconds after which timers are looked at, and whether the thread shall end."""

_log = structlog.get_logger()

# A UID of a peer's is a name that is compared and handed on, whatever its form (PS3.5 9.1): one
# of 68 characters is no reason to lose the association, as pynetdicom does.
_config.VALIDATORS["UI"] = lambda value: (True, "")
# It would describe each message and PDU to its log, with UIDs, and at a cost.
_config.LOG_HANDLER_LEVEL = "none"
_config.LOG_REQUEST_IDENTIFIERS = False
_config.LOG_RESPONSE_IDENTIFIERS = False


class _Signalling(queue.Queue[Any]):
    """A queue that says that something was put into it."""

    def __init__(self, signal: Callable[[], object]) -> None:
        super().__init__()
        self._signal = signal

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._signal()


class _Checkpoint(threading.Event):
    """Where pynetdicom's reactor is halted for an exchange; between two it waits here for news."""

    def __init__(self, news: threading.Event) -> None:
        super().__init__()
        self._news = news

    def wait(self, timeout: float | None = None) -> bool:
        """Return when it is set and something has come, or might have."""
        while super().wait(timeout):
            self._news.wait(_LONGEST_WAIT)
            self._news.clear()
            if self.is_set():  # still: no exchange has begun meanwhile
                return True
        return False


class UpperLayer(DULServiceProvider):  # type: ignore[misc]
    """Cleans what comes in before it is decoded, and wakes whoever waits when it breaks."""

    def __init__(self, association: Association) -> None:
        super().__init__(association)
        self._run_loop_delay = 0.0  # it waits where it looks for what has come
        self._bell, self._rope = os.pipe()
        os.set_blocking(self._bell, False)
        os.set_blocking(self._rope, False)
        self._ringing = threading.Lock()
        self.to_provider_queue = _Signalling(self._ring)
        self.news = threading.Event()
        """Something has come for the association's own thread."""
        self.to_user_queue = _Signalling(self.news.set)
        self._gate = threading.Condition()
        self._wanted = self._halted = False
        """Whether another thread wants the socket for itself, and this one leaves it alone."""
        self.rejection = ""
        """The peer's A-ASSOCIATE-RJ in words."""
        self.fault = ""
        """In words: why the association cannot be, or go on, where that is not for the peer's
        A-ABORT or A-ASSOCIATE-RJ."""

    @classmethod
    def install(cls, association: Association) -> Self:
        """Put it in the place of pynetdicom's, whose threads have not started yet."""
        plain = association.dul
        layer = cls(association)
        layer.socket, layer.event_queue = plain.socket, plain.event_queue
        messages = LenientMessages(association)
        messages.msg_queue = _Signalling(layer.news.set)
        association.dul, association.dimse = layer, messages
        checkpoint = association._reactor_checkpoint = _Checkpoint(layer.news)
        checkpoint.set()
        # The setters hand the values on to the timers.
        association.acse_timeout = association.acse_timeout
        association.network_timeout = association.network_timeout
        return layer

    def run_reactor(self) -> None:
        """Serve the association until it has ended, also when pynetdicom cannot follow the peer."""
        try:
            super().run_reactor()
        except Exception as error:  # noqa: BLE001 - whatever the peer's bytes lead pynetdicom to raise
            self.fault = self.fault or in_words(error)
            _log.error("association_broke", address=self._address, exc_info=error)
        finally:
            if self.state_machine.current_state != "Sta1":
                self._break_off()
            self._wake()
            with self._ringing:  # or a byte might land in the file that gets the number next
                os.close(self._bell)
                os.close(self._rope)
                self._rope = -1

    def kill_dul(self) -> None:
        """End the thread, as the base class does, and at once."""
        super().kill_dul()
        self._ring()

    def stop_dul(self) -> bool:
        """End the thread where nothing is under way, as the base class does, and at once."""
        stopped = bool(super().stop_dul())
        self._ring()
        return stopped

    def halt(self) -> bool:
        """Have the thread leave the socket alone until :meth:`go_on`; False where it has ended."""
        with self._gate:
            self._wanted = True
            self._ring()
            while not self._halted:
                if not self.is_alive():
                    return False
                self._gate.wait(_LONGEST_WAIT)
        return True

    def go_on(self) -> None:
        """Let the thread read again."""
        self._idle_timer.restart()
        with self._gate:
            self._wanted = False
            self._gate.notify_all()

    def take(self, pdu: bytes) -> None:
        """Take a PDU that another thread has read, as if it had been read here."""
        try:
            read, event = self._decode_pdu(bytearray(pdu))
        except Exception as error:  # noqa: BLE001 - as in run_reactor
            self.take_unreadable(error)
        else:
            self.event_queue.put(event)
            self._recv_pdu.put(read)

    def take_unreadable(self, error: Exception) -> None:
        """Be told that what came is no PDU, or cannot be followed."""
        self.fault = self.fault or in_words(error)
        self.take_event("Evt19")  # unrecognised or invalid PDU

    def take_event(self, event: str) -> None:
        """Be told of an event of the state machine (PS3.8 9.2.3)."""
        self.event_queue.put(event)

    def _ring(self) -> None:
        with self._ringing, suppress(BlockingIOError):  # full: it rings already
            if self._rope >= 0:
                os.write(self._rope, b"\0")

    def _is_transport_event(self) -> bool:
        if self.event_queue.empty() and self.state_machine.current_state != "Sta13":
            self._wait()
        with self._gate:
            if self._wanted:
                self._halted = True
                self._gate.notify_all()
                while self._wanted and not self._kill_thread:
                    self._gate.wait(_LONGEST_WAIT)
                self._halted = False
                return False
        return bool(super()._is_transport_event())

    def _wait(self) -> None:
        """Wait until the peer sends something, or something is to be sent to it."""
        waited = select.poll()
        waited.register(self._bell, select.POLLIN)
        connection = self.socket.socket if self.socket is not None else None
        if connection is not None and connection.fileno() >= 0:
            waited.register(connection, select.POLLIN)
        if any(which == self._bell for which, _ in waited.poll(1000 * _LONGEST_WAIT)):
            os.read(self._bell, 4096)

    @property
    def _address(self) -> str:
        association = self.assoc
        other = association.acceptor if association.is_requestor else association.requestor
        return str(other.address_info.address) if other.address_info else ""

    def _break_off(self) -> None:
        """End the association at once."""
        association, connection = self.assoc, self.socket
        said, association.is_aborted = association.is_aborted, True
        association.is_established = False
        self._kill_thread = True
        if connection is not None:
            if connection.socket is not None and not said:
                with suppress(OSError):  # closed by the peer
                    connection.socket.sendall(pdus.ABORT)
            connection.close()
        self.state_machine.current_state = "Sta1"

    def _wake(self) -> None:
        """Nothing will come any more: whoever waits for it would wait until a timeout."""
        association = self.assoc
        if association.is_acceptor and association.requestor.primitive is None:
            self.to_user_queue.put(None)
            return
        if association.is_released:
            return
        end = A_P_ABORT()
        end.provider_reason = 0
        self.to_user_queue.put(end)
        association.dimse.msg_queue.put((None, None))

    def _read_pdu_data(self) -> None:
        """Read one PDU. **Events Emitted**: as in the base class."""
        try:
            header = self._received(pdus.HEADER.size)
            kind, length = pdus.HEADER.unpack(header)
            largest = LARGEST_DATA if kind == pdus.P_DATA_TF else pdus.LARGEST_CONTROL
            pdus.check_header(header, largest=largest)
            pdu = header + self._received(length)
        except OSError:
            self.take_event("Evt17")  # transport connection closed
        except Exception as error:  # noqa: BLE001 - as in run_reactor
            self.take_unreadable(error)
        else:
            self.take(pdu)

    def _received(self, size: int) -> bytes:
        if self.socket is None:
            raise ConnectionError("closed")
        data = bytes(self.socket.recv(size))
        if len(data) < size:
            raise ConnectionError("closed by the peer")
        return data

    def _decode_pdu(self, bytestream: bytearray) -> Any:
        return super()._decode_pdu(bytearray(self._clean(bytes(bytestream))))

    def _clean(self, pdu: bytes) -> bytes:
        match pdu[0]:
            case pdus.A_ASSOCIATE_RQ:
                return pdus.read_request(pdu).pdu
            case pdus.A_ASSOCIATE_AC:
                return pdus.clean_accept(pdu, self._proposed())
            case pdus.A_ASSOCIATE_RJ:
                clean, self.rejection = pdus.read_reject(pdu)
                return clean
            case pdus.A_ABORT:
                return pdus.clean_abort(pdu)
        return pdu

    def _proposed(self) -> dict[int, frozenset[str]]:
        return {
            context.context_id: frozenset(map(str, context.transfer_syntax))
            for context in self.assoc.requestor.requested_contexts
        }


def in_words(error: Exception) -> str:
    """Return why a PDU could not be read, without quoting it."""
    return (
        str(error) if isinstance(error, UnreadablePdu) else f"undecodable ({type(error).__name__})"
    )


class LenientMessages(DIMSEServiceProvider):  # type: ignore[misc]
    """Cleans each command set before pynetdicom reads it."""

    def __init__(self, association: Any) -> None:
        super().__init__(association)
        self._command = bytearray()

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take the fragments of one P-DATA; errors end the association."""
        for context_id, value in primitive.presentation_data_value_list:
            if not value:
                raise UnreadablePdu("a presentation data value without a control header")
            if not value[0] & COMMAND:
                self._hand_on(context_id, value)
                continue
            self._command += value[1:]
            if len(self._command) > pdus.LARGEST_CONTROL:
                raise UnreadablePdu("too long a command set")
            if value[0] & LAST:
                command, self._command = bytes(self._command), bytearray()
                clean = self._cleaned(CommandSet(command), context_id)
                self._hand_on(context_id, bytes([COMMAND | LAST]) + clean)

    def _cleaned(self, command: CommandSet, context_id: int) -> bytes:
        elements = cleaned(command)
        if command.field == Field.C_STORE:
            # Without one of them pynetdicom would leave the peer without an answer.
            context = self.assoc._accepted_cx.get(context_id)
            class_uid = str(context.abstract_syntax) if context else NO_UID
            elements.setdefault(Tag.AFFECTED_SOP_CLASS_UID, class_uid.encode())
            elements.setdefault(Tag.AFFECTED_SOP_INSTANCE_UID, NO_UID.encode())
        return encode(elements)

    def _hand_on(self, context_id: int, value: bytes) -> None:
        if self.message is None and not value[0] & COMMAND:
            raise UnreadablePdu("a data set without a command")
        part = P_DATA()
        part.presentation_data_value_list.append((context_id, value))
        super().receive_primitive(part)
