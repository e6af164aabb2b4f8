"""One association with a peer, as its requestor (PS3.8 7, PS3.7 9.1.5).

pynetdicom answers most failures with a closed association and a line in its log. Here each becomes
a :class:`~dicom_ai_node.errors.PeerUnavailable` that says in words what happened.
"""

import socket
import struct
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import AE, build_role
from pynetdicom.presentation import PresentationContext

from dicom_ai_node.config.peers import Destination, PacsTable, WorklistTable
from dicom_ai_node.errors import PeerUnavailable
from dicom_ai_node.peer.pdus import CALLED_NOT_RECOGNISED, CALLING_NOT_RECOGNISED
from dicom_ai_node.peer.upper_layer import UpperLayer

_QUICKACK = getattr(socket, "TCP_QUICKACK", None)
"""None where there is no such option."""

Peer = Destination | PacsTable | WorklistTable
"""Where a peer is and how it is talked to: a table of the configuration."""


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

    def _create_socket(self, association: Any, *args: Any) -> Any:
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


class Association:
    """An open association; close it with :meth:`release`.

    Without any accepted presentation context there is nothing to keep open (PS3.8 has no such
    association): then :attr:`accepted` is empty and :attr:`alive` is False.
    """

    def __init__(self, handle: Any, requestor: Requestor, where: str, timeout: float) -> None:
        self._handle = handle
        self._requestor = requestor
        self._where = where
        self._timeout = timeout
        self._message_id = 0
        self._inbox = _Inbox(handle.dimse)
        self.proposed = frozenset(
            str(context.abstract_syntax) for context in handle.requestor.requested_contexts
        )
        self.accepted = frozenset(
            str(context.abstract_syntax) for context in handle.accepted_contexts
        )

    @classmethod
    def open(
        cls,
        peer: Peer,
        contexts: Sequence[PresentationContext],
        *,
        calling_ae_title: str,
        scp_classes: Iterable[str] = (),
        handlers: Sequence[tuple[Any, Any]] = (),
    ) -> Self:
        """Open an association that proposes ``contexts``.

        ``scp_classes`` are those that the peer shall send us on it (PS3.7 D.3.3.4), as in a C-GET;
        ``handlers`` are pynetdicom's, bound to its events.

        Raises PeerUnavailable: unknown host, no connection, rejected, aborted or no answer: the
        message says which.
        """
        timeout = peer.timeout
        where = f"{peer.ae_title} at {peer.host}:{peer.port}"
        requestor = Requestor(calling_ae_title, timeout)
        start = time.monotonic()
        try:
            handle = requestor.associate(
                peer.host,
                peer.port,
                contexts=list(contexts),
                ae_title=peer.ae_title,
                max_pdu=peer.max_pdu,
                ext_neg=[build_role(uid, scp_role=True) for uid in scp_classes],
                evt_handlers=list(handlers),
            )
        except (socket.gaierror, UnicodeError) as error:
            raise PeerUnavailable(f"unknown host {peer.host!r}") from error
        except OSError as error:
            raise PeerUnavailable(f"no connection to {where}: {error.strerror or error}") from error
        except Exception as error:  # pynetdicom raises anything over what a peer answers
            requestor.close()
            raise PeerUnavailable(
                f"{where}: its answer cannot be followed ({type(error).__name__})"
            ) from error
        if handle.is_established or _accepted(handle):
            return cls(handle, requestor, where, timeout)
        elapsed = time.monotonic() - start
        requestor.close()
        failure = requestor.failure
        if failure is not None:
            raise PeerUnavailable(_why_not_connected(failure, where, timeout)) from failure
        if requestor.rejection:
            raise PeerUnavailable(_why_rejected(requestor.rejection, peer, calling_ae_title))
        if requestor.fault:
            raise PeerUnavailable(f"{where}: its answer cannot be read: {requestor.fault}")
        if elapsed >= timeout:
            raise PeerUnavailable(
                f"{where} accepts connections but did not answer the association request "
                f"within {timeout:g} s"
            )
        raise PeerUnavailable(f"{where} aborted the association request or closed the connection")

    @property
    def alive(self) -> bool:
        """Whether a message can be sent."""
        return bool(self._handle.is_established)

    def echo(self) -> tuple[int, str]:
        """Send a C-ECHO (PS3.7 9.1.5) and return the status and the peer's Error Comment."""
        return status_of(self._ask(self._handle.send_c_echo))

    def release(self) -> None:
        """End the association in good order, if it still stands, and close the connection."""
        try:
            if self.alive:
                self._handle.release()
        finally:
            self._requestor.close()

    def _ask(self, send: Any, *arguments: Dataset | Path) -> Dataset:
        start = time.monotonic()
        self._inbox.claim()
        try:
            answer: Dataset = send(*arguments, msg_id=self._next_message_id())
        except RuntimeError as error:  # ended by the peer since the last message
            raise PeerUnavailable(f"{self._where} ended the association") from error
        except (AttributeError, ValueError, OSError):
            raise  # of what is to be sent: for who asked to judge
        except Exception as error:  # pynetdicom raises anything over what a peer answers
            raise PeerUnavailable(
                f"{self._where}: its answer cannot be followed ({type(error).__name__})"
            ) from error
        finally:
            self._inbox.leave()
        if "Status" in answer:
            return answer
        self._check_readable()
        if time.monotonic() - start >= self._timeout:
            raise PeerUnavailable(f"{self._where} gave no answer within {self._timeout:g} s")
        if self._handle._sent_abort:
            raise PeerUnavailable(f"{self._where} answered with what is no response")
        raise PeerUnavailable(f"{self._where} ended the association instead of answering")

    def _check_readable(self) -> None:
        if self._requestor.fault:
            raise PeerUnavailable(
                f"{self._where}: its answer cannot be read: {self._requestor.fault}"
            )

    def _next_message_id(self) -> int:
        self._message_id = self._message_id % 0xFFFF + 1
        return self._message_id


class _Inbox:
    """The messages of an association: during an exchange pynetdicom's reactor gets none of them.

    Between exchanges it throws away what nobody asked for. pynetdicom halts it for each exchange,
    but takes it for halted also when it was let go just before and has not run yet. So late it
    would throw away an answer.
    """

    def __init__(self, dimse: Any) -> None:
        self._take = dimse.get_msg
        self._claimed = False
        self._lock = threading.Lock()
        dimse.get_msg = self._get_msg

    def claim(self) -> None:
        """Begin an exchange, before its request is sent."""
        with self._lock:
            self._claimed = True

    def leave(self) -> None:
        """End it, after its last message."""
        self._claimed = False

    def _get_msg(self, block: bool = False) -> Any:
        if block:  # the reactor alone does not wait
            return self._take(block=True)
        with self._lock:
            return (None, None) if self._claimed else self._take(block=False)


def status_of(answer: Dataset) -> tuple[int, str]:
    """Return the status of a response and its Error Comment, which may name a patient."""
    return int(answer.Status), str(answer.get("ErrorComment", ""))


def name_of(sop_class_uid: str) -> str:
    """Return a SOP class in words."""
    return UID(sop_class_uid).name


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


def _why_rejected(words: str, peer: Peer, calling_ae_title: str) -> str:
    """Return the answer A-ASSOCIATE-RJ in words (PS3.8 9.3.4), and what to look at."""
    text = f"{peer.host}:{peer.port} rejected the association {words}"
    if words.endswith(CALLING_NOT_RECOGNISED):
        return f"{text}; it must be told of this node, AE title {calling_ae_title!r}"
    if words.endswith(CALLED_NOT_RECOGNISED):
        return f"{text}; it was called {peer.ae_title!r}"
    return text
