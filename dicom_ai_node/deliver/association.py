"""One association with a destination, as its requestor (PS3.8 7, PS3.7 9.1.1 and 9.1.5).

pynetdicom answers most failures with a closed association and a line in its log. Here each becomes
a :class:`~dicom_ai_node.errors.PeerUnavailable` that says in words what happened.
"""

import socket
import struct
import time
from collections.abc import Iterable, Set
from pathlib import Path
from typing import Any, NamedTuple

from pydicom import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, build_context

from dicom_ai_node.config import Destination
from dicom_ai_node.errors import PeerUnavailable, UnreadableInstance
from dicom_ai_node.report.identity import SC_CLASS, SR_CLASSES

VERIFICATION = "1.2.840.10008.1.1"
"""Verification (C-ECHO)."""
CLASSES_OF_KIND = {"sr": SR_CLASSES, "sc": (SC_CLASS,), "saliency": (SC_CLASS,)}

_SYNTAXES = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))

# A data set that is sent from a path goes out as it lies there; others are not concerned.
_config.STORE_SEND_CHUNKED_DATASET = True


class Offer(NamedTuple):
    """A presentation context to be proposed (PS3.8 9.3.2.2)."""

    sop_class_uid: str
    syntaxes: tuple[str, ...] = _SYNTAXES
    """Transfer syntaxes of which the peer accepts one."""


class Association:
    """An open association; close it with :meth:`release`.

    Without any accepted presentation context there is nothing to keep open (PS3.8 has no such
    association): then :attr:`accepted` is empty and :attr:`alive` is False.
    """

    def __init__(self, handle: Any, requestor: "_Requestor", where: str, timeout: float) -> None:
        self._handle = handle
        self._requestor = requestor
        self._where = where
        self._timeout = timeout
        self._message_id = 0
        self.proposed = frozenset(
            Offer(str(context.abstract_syntax), tuple(map(str, context.transfer_syntax)))
            for context in handle.requestor.requested_contexts
        )
        self.accepted = frozenset(
            str(context.abstract_syntax) for context in handle.accepted_contexts
        )
        self._agreed = frozenset(
            (str(context.abstract_syntax), str(context.transfer_syntax[0]))
            for context in handle.accepted_contexts
        )

    @property
    def alive(self) -> bool:
        """Whether a message can be sent."""
        return bool(self._handle.is_established)

    def answers_for(self, offers: Set[Offer]) -> bool:
        """Whether the peer need not be asked anew what it does with ``offers``.

        Also when it accepted none of them: no new association would end better.
        """
        return offers <= self.proposed and (self.alive or not self.accepted)

    def takes(self, sop_class_uid: str, syntax: str) -> bool:
        """Whether the peer accepted this class in this very transfer syntax."""
        return (sop_class_uid, syntax) in self._agreed

    def store(self, dataset: Dataset) -> tuple[int, str]:
        """Send one object by C-STORE; return the status and the peer's Error Comment.

        The data set is encoded anew when its transfer syntax was not the one accepted.

        Raises
        ------
        PeerUnavailable
            No valid answer came. Whether the object was stored is not known.
        UnreadableInstance
            The data set cannot be encoded; nothing was sent.
        """
        try:
            answer = self._ask(self._handle.send_c_store, dataset)
        except (AttributeError, ValueError) as error:
            raise UnreadableInstance("the object cannot be encoded") from error
        return int(answer.Status), _comment(answer)

    def store_file(self, path: Path) -> tuple[int, str]:
        """Send the data set of a DICOM file byte for byte, as :meth:`store` does with an object.

        Its class and transfer syntax must be one that the peer :meth:`takes`.

        Raises
        ------
        PeerUnavailable
            No valid answer came. Whether the object was stored is not known.
        UnreadableInstance
            The file cannot be read; nothing was sent.
        """
        try:
            answer = self._ask(self._handle.send_c_store, path)
        except (AttributeError, ValueError, OSError) as error:
            raise UnreadableInstance("the file cannot be sent as it is") from error
        return int(answer.Status), _comment(answer)

    def echo(self) -> int:
        """Send a C-ECHO (PS3.7 9.1.5) and return the status."""
        return int(self._ask(self._handle.send_c_echo).Status)

    def release(self) -> None:
        """End the association in good order, if it still stands, and close the connection."""
        if self.alive:
            self._handle.release()
        self._requestor.close()

    def _ask(self, send: Any, *arguments: Dataset | Path) -> Dataset:
        self._message_id = self._message_id % 0xFFFF + 1
        start = time.monotonic()
        try:
            answer: Dataset = send(*arguments, msg_id=self._message_id)
        except RuntimeError as error:  # ended by the peer since the last message
            raise PeerUnavailable(f"{self._where} ended the association") from error
        if "Status" in answer:
            return answer
        if time.monotonic() - start >= self._timeout:
            raise PeerUnavailable(f"{self._where} gave no answer within {self._timeout:g} s")
        raise PeerUnavailable(f"{self._where} ended the association instead of answering")


def connect(
    destination: Destination, offers: Iterable[Offer], *, calling_ae_title: str
) -> Association:
    """Open an association that proposes ``offers``, each in a presentation context of its own.

    Raises
    ------
    PeerUnavailable
        Unknown host, no connection, rejected, aborted or no answer: the message says which.
    """
    timeout = destination.timeout
    where = f"{destination.ae_title} at {destination.host}:{destination.port}"
    requestor = _Requestor(calling_ae_title, timeout)
    start = time.monotonic()
    try:
        handle = requestor.associate(
            destination.host,
            destination.port,
            contexts=[build_context(uid, list(syntaxes)) for uid, syntaxes in offers],
            ae_title=destination.ae_title,
            max_pdu=destination.max_pdu,
        )
    except (socket.gaierror, UnicodeError) as error:
        raise PeerUnavailable(f"unknown host {destination.host!r}") from error
    except OSError as error:
        raise PeerUnavailable(f"no connection to {where}: {error.strerror or error}") from error
    if handle.is_established or _accepted(handle):
        return Association(handle, requestor, where, timeout)
    elapsed = time.monotonic() - start
    requestor.close()
    failure = requestor.failure
    if failure is not None:
        raise PeerUnavailable(_why_not_connected(failure, where, timeout)) from failure
    if handle.is_rejected:
        raise PeerUnavailable(_why_rejected(handle, destination, calling_ae_title))
    if elapsed >= timeout:
        raise PeerUnavailable(
            f"{where} accepts connections but did not answer the association request "
            f"within {timeout:g} s"
        )
    raise PeerUnavailable(f"{where} aborted the association request or closed the connection")


def name_of(sop_class_uid: str) -> str:
    """Return a SOP class in words."""
    return UID(sop_class_uid).name


def quiet_pynetdicom() -> None:
    """Keep pynetdicom from describing each message and PDU to its debug log, at a cost."""
    _config.LOG_HANDLER_LEVEL = "none"


def _accepted(handle: Any) -> bool:
    """Return whether the peer said A-ASSOCIATE-AC, be it without any presentation context."""
    answer = handle.acceptor.primitive
    return answer is not None and answer.result == 0


def _why_not_connected(failure: OSError, where: str, timeout: float) -> str:
    if isinstance(failure, TimeoutError):
        return f"no connection to {where} within {timeout:g} s"
    if isinstance(failure, ConnectionRefusedError):
        return f"{where}: connection refused, nothing listens there"
    return f"no connection to {where}: {failure.strerror or failure}"


def _why_rejected(handle: Any, destination: Destination, calling_ae_title: str) -> str:
    """Return the answer A-ASSOCIATE-RJ in words (PS3.8 9.3.4), and what to look at."""
    answer = handle.acceptor.primitive
    text = (
        f"{destination.host}:{destination.port} rejected the association"
        f" ({answer.result_str.lower()}, source: {answer.source_str}): {answer.reason_str}"
    )
    match answer.result_source, answer.diagnostic:
        case 1, 3:
            return f"{text}; it must be told of this node, AE title {calling_ae_title!r}"
        case 1, 7:
            return f"{text}; it was called {destination.ae_title!r}"
    return text


class _Requestor(AE):  # type: ignore[misc]
    """pynetdicom's AE with two things that it lacks for a client that must never hang.

    It knows why a connection failed, and no single read or write outlasts the timeout: pynetdicom
    would wait for ever in ``send`` for a peer that has stopped reading.
    """

    def __init__(self, ae_title: str, timeout: float) -> None:
        super().__init__(ae_title)
        self.connection_timeout = self.acse_timeout = timeout
        self.dimse_timeout = self.network_timeout = timeout
        self._timeout = timeout
        self._socket: _Socket | None = None

    @property
    def failure(self) -> OSError | None:
        """Why there was no connection, None when there was."""
        return self._socket.failure if self._socket else None

    def close(self) -> None:
        """Close the connection; pynetdicom leaves one that the peer broke off to the collector."""
        if self._socket is not None:
            self._socket.close()

    def _create_socket(self, *args: Any) -> Any:
        transport = super()._create_socket(*args)
        self._socket = _Socket(fileno=transport.socket.detach())
        limit = struct.pack("ll", int(self._timeout), int(self._timeout % 1 * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        transport.socket = self._socket
        return transport


class _Socket(socket.socket):
    """A socket that remembers why it could not connect."""

    failure: OSError | None = None

    def connect(self, address: Any) -> None:
        try:
            super().connect(address)
        except OSError as error:
            self.failure = error
            raise


def _comment(answer: Dataset) -> str:
    """Return the peer's Error Comment; NUL, which C programs leave in it, is no text to SQL."""
    return str(answer.get("ErrorComment", "")).replace("\0", " ")
