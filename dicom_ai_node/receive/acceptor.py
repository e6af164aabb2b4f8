"""The connections of one receiver process: admission, association, and giving everything back.

Each has one thread, which sleeps in the kernel until its peer does something or has taken too long.
"""

import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from dicom_ai_node.config.processes import ReceiveSettings
from dicom_ai_node.dicom.classes import VERIFICATION, storage_classes
from dicom_ai_node.dicom.syntaxes import ACCEPTED_SYNTAXES, NATIVE_SYNTAXES
from dicom_ai_node.peer import pdus
from dicom_ai_node.peer.pdus import Rejection, UnreadablePdu
from dicom_ai_node.receive.callers import Admission, hint
from dicom_ai_node.receive.connection import AssociationRows, Connection
from dicom_ai_node.receive.filing import Filing
from dicom_ai_node.receive.landing import Landing
from dicom_ai_node.receive.messages import Messages
from dicom_ai_node.receive.wire import LetGo, Stopped, Wire

_MAY_STALL = 5.0
"""Seconds without progress after which an association makes room for a new one, where there is
none: a sender that is at work does not pause so long."""
_STOPS = "this node stops"

_log = structlog.get_logger()


class Acceptors:
    """All connections of one receiver process, and what they share."""

    def __init__(
        self,
        settings: ReceiveSettings,
        *,
        admission: Admission,
        landing: Landing,
        filing: Filing,
        rows: AssociationRows,
    ) -> None:
        self.settings = settings
        self.supported = supported_syntaxes((*settings.extra_storage_classes, *filing.analysed))
        self.landing = landing
        self.filing = filing
        self._admission = admission
        self._rows = rows
        self._open: dict[Connection, Acceptor] = {}

    @property
    def open(self) -> list["Acceptor"]:
        """The connections that are open now."""
        return list(self._open.values())

    def serve(self, accepted: socket.socket, address: str) -> None:
        """Serve a new connection until it has ended, however it ends."""
        peer = Connection(address, self.settings)
        acceptor = Acceptor(accepted, peer, shared=self)
        self._open[peer] = acceptor
        try:
            for silent in self._admission.arrive(peer, address):
                self._displace(silent)
            acceptor.serve()
        finally:
            del self._open[peer]
            self._admission.leave(peer)
            peer.abandon()
            self._rows.end(peer)
        acceptor.log_ending()

    def _displace(self, silent: Any) -> None:
        acceptor = self._open.get(silent)
        if acceptor is not None and not silent.calling_ae:  # it may have asked meanwhile
            acceptor.hang_up("sent nothing, and made room for others")

    def admit(self, peer: Connection, *, calling: str, called: str) -> Rejection | None:
        """Answer an association request; where there is no room, one that stalls makes some."""
        answer = self._admission.admit(peer, peer.address, calling=calling, called=called)
        if answer is Rejection.LOCAL_LIMIT_EXCEEDED and self._make_room(peer.address):
            answer = self._admission.admit(peer, peer.address, calling=calling, called=called)
        return answer

    def _make_room(self, address: str) -> bool:
        """End the association of this process that has stalled the longest; False if none has.

        One of the same address, where that has all it may have.
        """
        same_only = self._admission.has_its_share(address)
        stalled = [
            (seconds, acceptor)
            for acceptor in self.open
            if acceptor.peer.calling_ae
            and (acceptor.peer.address == address or not same_only)
            and (seconds := acceptor.peer.stalled_seconds()) >= _MAY_STALL
        ]
        if not stalled:
            return False
        seconds, acceptor = max(stalled, key=lambda pair: pair[0])
        self._admission.leave(acceptor.peer)
        # At once, without an A-ABORT to a peer that may not read.
        acceptor.hang_up(f"no progress for {seconds:.0f} s, and others wait")
        return True


class Acceptor:
    """The acceptor's side of one association (PS3.8 9.2).

    It runs in a thread of its own; others may call :meth:`abort` and :meth:`hang_up`.
    """

    def __init__(self, accepted: socket.socket, peer: Connection, *, shared: Acceptors) -> None:
        self.peer = peer
        self._wire = Wire(accepted, peer)
        self._shared = shared
        self._titles = "", ""
        """Calling and called AE title as far as they could be read."""
        self._fault = ""
        """Why it ended, where that is not for an orderly release or an A-ABORT."""
        self._is_dismissed = False
        """Whether this side ended it before there was an association."""
        self._is_rejected = False
        self._is_released = False

    def serve(self) -> None:
        """Return when the association has ended and the connection is closed."""
        farewell = b""
        messages = None
        try:
            messages = self._establish()
            while messages is not None and self._serve_pdu(messages):
                pass
        except Stopped:
            farewell = pdus.ABORT_BY_USER
        except LetGo as error:
            self._note(str(error))
            farewell = pdus.ABORT if self.peer.calling_ae else b""
        except UnreadablePdu as error:
            self._note(str(error))
            farewell = pdus.ABORT
        except OSError as error:
            self._note(error.strerror or str(error))
        except Exception as error:  # noqa: BLE001 - the next connection is to be served, too
            self._note(f"failed ({type(error).__name__})")
            _log.error("association_broke", address=self.peer.address, exc_info=error)
            farewell = pdus.ABORT
        if messages is not None:
            messages.close()
        self._leave(farewell)

    def abort(self) -> None:
        """Send an A-ABORT where there is an association, without waiting for its effect."""
        if self.peer.calling_ae:
            self._wire.stop()
        else:
            self.hang_up(_STOPS)

    def hang_up(self, reason: str) -> None:
        """Close the connection without a word."""
        self._note(reason)
        self._is_dismissed = not self.peer.calling_ae
        self._wire.hang_up()

    def log_ending(self) -> None:
        """Say how the association ended, or why there was none: a hospital asks for its trace."""
        peer = self.peer
        if peer.calling_ae:
            _log.info(
                "association_ended",
                calling_ae=peer.calling_ae,
                address=peer.address,
                ending="released" if self._is_released else "aborted",
                reason="" if self._is_released else self._fault,
                instances=peer.instances,
                refused=peer.refused,
                bytes=peer.received_bytes,
                seconds=round(peer.seconds(), 3),
            )
        elif not self._is_rejected:
            # Monitoring opens and closes connections all day.
            is_probe = not peer.has_spoken and (not self._is_dismissed or self._fault == _STOPS)
            calling, called = self._titles
            (_log.debug if is_probe else _log.warning)(
                "association_not_established",
                calling_ae=calling,
                called_ae=called,
                address=peer.address,
                reason=self._fault,
                seconds=round(peer.seconds(), 3),
            )

    def _note(self, fault: str) -> None:
        self._fault = self._fault or fault

    def _establish(self) -> Messages | None:
        """Answer the association request; return what serves the association, None without one."""
        kind, length = self._header()
        if kind != pdus.A_ASSOCIATE_RQ:
            raise UnreadablePdu(f"PDU of type {kind:02X}H before any association request")
        pdu = pdus.HEADER.pack(kind, length) + self._wire.exactly(length)
        self._titles = calling, called = pdus.titles_of(pdu)
        request = pdus.read_request(pdu)
        rejection = request.rejection or self._shared.admit(
            self.peer, calling=calling, called=called
        )
        if rejection is not None:
            self._is_rejected = True
            _log.warning(
                "association_rejected",
                calling_ae=calling,
                called_ae=called,
                address=self.peer.address,
                reason=rejection.name.lower(),
                hint=hint(rejection),
            )
            self._wire.send(rejection.pdu)
            return None
        longest = self._shared.settings.max_pdu
        answer, contexts = request.accept(self._shared.supported, longest=longest)
        self.peer.calling_ae = calling
        self._wire.send(answer)
        return Messages(
            self._wire,
            self.peer,
            contexts=contexts,
            longest=request.longest,
            landing=self._shared.landing,
            filing=self._shared.filing,
        )

    def _serve_pdu(self, messages: Messages) -> bool:
        """Take the next PDU of an association; return False when the association ends with it."""
        kind, length = self._header()
        if kind == pdus.P_DATA_TF:
            messages.read(length)
            return True
        self._wire.exactly(length)
        if kind == pdus.A_RELEASE_RQ:
            self._wire.send(pdus.RELEASED)
            self._is_released = True
            return False
        if kind == pdus.A_ABORT:
            return False
        raise UnreadablePdu(f"PDU of type {kind:02X}H within an association")

    def _header(self) -> tuple[int, int]:
        """Wait for the next PDU; return its type and length."""
        self._wire.await_peer()
        if self.peer.calling_ae:
            self.peer.pace.begin(time.monotonic())
        header = self._wire.exactly(pdus.HEADER.size)
        kind, length = pdus.HEADER.unpack(header)
        if kind != pdus.P_DATA_TF or not self.peer.calling_ae:
            pdus.check_header(header)
        return kind, length

    def _leave(self, farewell: bytes) -> None:
        try:
            if farewell:
                self._wire.send(farewell)
            self._wire.drop(self._shared.settings.acse_timeout)
        except OSError:
            return  # the peer was faster
        finally:
            self._wire.close()


def supported_syntaxes(extra: tuple[str, ...] = ()) -> Mapping[str, Sequence[str]]:
    """Return the transfer syntaxes of each SOP class of the SCP, the preferred one first."""
    return {VERIFICATION: NATIVE_SYNTAXES} | dict.fromkeys(
        sorted(storage_classes(extra)), ACCEPTED_SYNTAXES
    )
