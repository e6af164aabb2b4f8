"""Requests and responses over the socket of an association, without pynetdicom's threads.

A C-FIND is a question and short answers, hundreds a second. Through pynetdicom each of them goes
from thread to thread several times, which costs more than the peer takes to answer. So its threads
are halted for the exchange, and who asks reads. What is no P-DATA-TF, or cannot be read, is left to
pynetdicom, which ends the association over it.
"""

import select
import time
from collections.abc import Iterator
from typing import Any

from dicom_ai_node.errors import PeerUnavailable
from dicom_ai_node.peer import pdus
from dicom_ai_node.peer.commands import COMMAND, LAST, CommandSet, Tag, p_data
from dicom_ai_node.peer.pdus import UnreadablePdu
from dicom_ai_node.peer.upper_layer import LARGEST_DATA, UpperLayer

Message = tuple[CommandSet, bytes | None]
"""A command set, and its data set where there is one."""

_PDV_HEADER = 6
_POLL = 0.5


class Broken(Exception):
    """The association is at its end; pynetdicom has been told and knows why."""


class Conversation:
    """One exchange: a request, and its responses up to the last one."""

    def __init__(self, layer: UpperLayer, where: str, timeout: float) -> None:
        self._layer = layer
        self._where = where
        self._timeout = timeout
        self._command = bytearray()
        self._open: CommandSet | None = None
        """The command whose data set is still to come."""
        self._data = bytearray()
        self.is_over = False
        """Whether the last response has come."""

    def send(self, command: bytes, data: bytes, context_id: int, longest: int) -> None:
        """Send a request with its data set.

        Raises Broken.
        """
        parts = [*p_data(command, context_id, longest), *p_data(data, context_id, longest, kind=0)]
        try:
            self._socket.sendall(b"".join(parts))
        except OSError as error:
            self._layer.take_event("Evt17")  # transport connection closed
            raise Broken from error

    def messages(self, deadline: float) -> Iterator[Message]:
        """Yield each message that comes, with its data set; until ``deadline``, as monotonic().

        Raises Broken, or PeerUnavailable: nothing came in time.
        """
        while True:
            pdu = self._read(deadline)
            try:
                found = list(self._followed(pdu[pdus.HEADER.size :]))
            except UnreadablePdu as error:
                self._layer.take_unreadable(error)
                raise Broken from error
            yield from found

    @property
    def _socket(self) -> Any:
        connection = self._layer.socket
        if connection is None or connection.socket is None:
            raise Broken
        return connection.socket

    def _read(self, deadline: float) -> bytes:
        """Return the next P-DATA-TF."""
        self._wait(deadline)
        try:
            header = self._exactly(pdus.HEADER.size)
            kind, length = pdus.HEADER.unpack(header)
            largest = LARGEST_DATA if kind == pdus.P_DATA_TF else pdus.LARGEST_CONTROL
            pdus.check_header(header, largest=largest)
            pdu = header + self._exactly(length)
        except OSError as error:
            self._layer.take_event("Evt17")
            raise Broken from error
        except UnreadablePdu as error:
            self._layer.take_unreadable(error)
            raise Broken from error
        if kind != pdus.P_DATA_TF:
            self._layer.take(pdu)
            raise Broken
        return pdu

    def _wait(self, deadline: float) -> None:
        began = time.monotonic()
        waited = select.poll()
        waited.register(self._socket, select.POLLIN)
        while True:
            now = time.monotonic()
            if now >= deadline:
                raise PeerUnavailable(f"{self._where} did not answer in full in the time it had")
            if now - began >= self._timeout:
                raise PeerUnavailable(f"{self._where} gave no answer within {self._timeout:g} s")
            left = min(_POLL, deadline - now, began + self._timeout - now)
            if waited.poll(1000 * left):
                return

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                raise ConnectionError("closed by the peer")
            data += part
        return bytes(data)

    def _followed(self, body: bytes) -> Iterator[Message]:
        """Yield what the presentation data values of a PDU complete (PS3.8 9.3.5.1, annex E)."""
        position = 0
        while position < len(body):
            length = int.from_bytes(body[position : position + 4])
            end = position + 4 + length
            if length < 2 or end > len(body):
                raise UnreadablePdu("a presentation data value without a control header")
            control, value = body[position + 5], body[position + _PDV_HEADER : end]
            position = end
            if control & COMMAND:
                done = self._commanded(value, last=bool(control & LAST))
            else:
                done = self._filled(value, last=bool(control & LAST))
            if done:
                yield done

    def _commanded(self, value: bytes, *, last: bool) -> Message | None:
        self._command += value
        if len(self._command) > pdus.LARGEST_CONTROL:
            raise UnreadablePdu("too long a command set")
        if not last:
            return None
        command, self._command = CommandSet(bytes(self._command)), bytearray()
        if command.number(Tag.DATA_SET_TYPE) is None:
            raise UnreadablePdu("a message that does not say whether a data set follows")
        if not command.has_data_set:
            return command, None
        self._open, self._data = command, bytearray()
        return None

    def _filled(self, value: bytes, *, last: bool) -> Message | None:
        if self._open is None:
            raise UnreadablePdu("a data set without a command")
        self._data += value
        if not last:
            return None
        command, self._open = self._open, None
        return command, bytes(self._data)
