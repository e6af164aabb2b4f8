"""One connection and its association: admission, requests, and giving everything back."""

import socket
import struct
import threading
from typing import Any

import structlog
from pynetdicom import evt

from dicom_ai_node.config.processes import ReceiveSettings
from dicom_ai_node.dicom.part10 import file_head
from dicom_ai_node.dicom.status import SUCCESS
from dicom_ai_node.peer.pdus import Refusal
from dicom_ai_node.receive.admission import Admission, Rejection
from dicom_ai_node.receive.connection import AssociationRows, Connection, Pace, PaceLimits
from dicom_ai_node.receive.filing import Filing
from dicom_ai_node.receive.incoming import Incoming
from dicom_ai_node.receive.landing import Landing
from dicom_ai_node.receive.reactor import EventDrivenAssociation
from dicom_ai_node.receive.requests import StoreAnswer, StoreRequest
from dicom_ai_node.receive.stream import SLICE, StreamingProvider

_READER_ENDS_WITHIN = 10.0
_MAY_STALL = 5.0
"""Seconds without progress after which an association makes room for a new one, where there is
none: a sender that is at work does not pause so long."""
_STOPPED = "this node stops"

_log = structlog.get_logger()


class Sessions:
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
        self._settings = settings
        self._limits = PaceLimits(
            window=settings.dimse_timeout,
            least_rate=settings.least_rate,
            longest=settings.object_seconds,
        )
        self.admission = admission
        self.landing = landing
        self.filing = filing
        self.rows = rows
        self._open: dict[Connection, Session] = {}

    @property
    def open(self) -> list["Session"]:
        """The connections that are open now."""
        return list(self._open.values())

    def connected(self, address: str) -> Connection:
        """Return what is to be known of a new connection."""
        return Connection(address, Pace(self._limits))

    def expires_in(self, connection: Connection) -> float:
        """Return how many seconds an association has left to bring an instance."""
        return self._settings.unproductive_seconds - connection.unproductive_seconds()

    def run(self, association: EventDrivenAssociation, connection: Connection) -> None:
        """Serve a new connection until it has ended, however it ends."""
        session = Session(association, connection, shared=self)
        self._open[session.connection] = session
        try:
            for silent in self.admission.arrive(session.connection, connection.address):
                self._displace(silent)
            session.serve()
        finally:
            del self._open[session.connection]
            self.admission.leave(session.connection)
            session.end()

    def _displace(self, connection: Any) -> None:
        session = self._open.get(connection)
        if session is not None and not connection.calling_ae:  # it may have asked meanwhile
            session.dismiss("sent nothing, and made room for others")

    def admit(self, connection: Connection, *, calling: str, called: str) -> Rejection | None:
        """Answer an association request; where there is no room, one that stalls makes some."""
        address = connection.address
        answer = self.admission.admit(connection, address, calling=calling, called=called)
        if answer is Rejection.LOCAL_LIMIT_EXCEEDED and self._make_room(address):
            answer = self.admission.admit(connection, address, calling=calling, called=called)
        return answer

    def _make_room(self, address: str) -> bool:
        """End the association of this process that has stalled the longest; False if none has.

        One of the same address, where that has all it may have.
        """
        same_only = self.admission.has_its_share(address)
        candidates = [
            session
            for session in self.open
            if session.connection.calling_ae
            and (session.connection.address == address or not same_only)
            and session.connection.stalled_seconds() >= _MAY_STALL
        ]
        if not candidates:
            return False
        stalled = max(candidates, key=lambda session: session.connection.stalled_seconds())
        self.admission.leave(stalled.connection)
        stalled.displace(
            f"no progress for {stalled.connection.stalled_seconds():.0f} s, and others wait"
        )
        return True


class Session:
    """One connection. Its methods run in its own thread, its handlers in the association's."""

    def __init__(
        self, association: EventDrivenAssociation, connection: Connection, *, shared: Sessions
    ) -> None:
        self.connection = connection
        self._association = association
        self._shared = shared
        self._dismissal = ""
        self._is_rejected = False
        self._layer = StreamingProvider.install(association, self, connection.pace)
        association.bind(evt.EVT_REQUESTED, self._on_requested)

    def serve(self) -> None:
        """Return when the association has ended."""
        _set_timeouts(self._socket(), sending=self._association.dimse_timeout)
        self._association.start()
        self._association.join()

    def end(self) -> None:
        """Give back what the connection holds."""
        reader = self._layer
        reader.kill_dul()
        self.hang_up()
        if reader.is_alive():
            reader.join(timeout=_READER_ENDS_WITHIN)
        if reader.is_alive():
            # It may be writing still. What it leaves is swept at the next start.
            _log.error("reader_does_not_end", address=self.connection.address)
        else:
            self.connection.abandon()
            reader.release_memory()
        self._shared.rows.end(self.connection)
        if self.connection.calling_ae:
            ending = "released" if self._association.is_released else "aborted"
            _log.info(
                "association_ended",
                calling_ae=self.connection.calling_ae,
                address=self.connection.address,
                ending=ending,
                reason="" if ending == "released" else reader.fault,
                instances=self.connection.instances,
                refused=self.connection.refused,
                bytes=self.connection.received_bytes,
                seconds=round(self.connection.seconds(), 3),
            )
        elif not self._is_rejected:
            self._log_failure()

    def _log_failure(self) -> None:
        """Say why a connection never became an association: the hospital asks for its trace."""
        layer = self._layer
        reason = self._dismissal or layer.fault or "sent nothing until acse_timeout"
        calling, called = layer.titles or ("", "")
        # Monitoring opens and closes connections all day.
        silent = not layer.has_received and self._dismissal in {"", _STOPPED}
        (_log.debug if silent else _log.warning)(
            "association_not_established",
            calling_ae=calling,
            called_ae=called,
            address=self.connection.address,
            reason=reason,
            seconds=round(self.connection.seconds(), 3),
        )

    def dismiss(self, reason: str) -> None:
        """Close a connection that has no association yet."""
        self._dismissal = reason
        self.hang_up()

    def displace(self, reason: str) -> None:
        """End the association at once, without asking a peer that may not read."""
        self._layer.fault = self._layer.fault or reason
        self.hang_up()

    def abort(self) -> None:
        """Send an A-ABORT where there is an association, without waiting for its effect."""
        if not self.connection.calling_ae:
            self.dismiss(_STOPPED)
            return
        threading.Thread(target=self._association.abort, daemon=True).start()

    def hang_up(self) -> None:
        """Shut the socket down; its threads notice."""
        connection = self._socket()
        if connection is not None:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # the peer was faster

    def begin(self, request: StoreRequest) -> Incoming:
        """Return where the data set of ``request`` goes."""
        head = file_head(
            sop_class_uid=request.sop_class_uid,
            sop_instance_uid=request.sop_instance_uid,
            transfer_syntax_uid=request.transfer_syntax_uid,
        )
        incoming = self._shared.landing.begin(head)
        self.connection.arriving.add(incoming)
        return incoming

    def answer(self, request: StoreRequest, incoming: Incoming) -> StoreAnswer:
        """File what has arrived; return what the response says."""
        answer = self._shared.filing.store(request, incoming, self.connection)
        self.connection.answered(incoming, success=answer.status == SUCCESS)
        return answer

    def _on_requested(self, event: evt.Event) -> None:
        """Answer an A-ASSOCIATE-RQ with a rejection, or leave it to the negotiation."""
        rejection: Rejection | Refusal | None = (
            Rejection.TEMPORARY_CONGESTION
        )  # if what follows fails
        calling, called = self._layer.titles or ("", "")
        try:
            request = self._layer.request
            rejection = (request and request.refusal) or self._shared.admit(
                self.connection, calling=calling, called=called
            )
        finally:
            if rejection is None:
                self.connection.calling_ae = calling
            else:
                self._is_rejected = True
                _log.warning(
                    "association_rejected",
                    calling_ae=calling,
                    called_ae=called,
                    address=self.connection.address,
                    reason=rejection.name.lower(),
                    hint=rejection.hint if isinstance(rejection, Rejection) else "",
                )
                self._association.acse.send_reject(*rejection.value)
                self._association.kill()  # returns when the rejection is sent

    def _socket(self) -> socket.socket | None:
        wrapper = self._association.dul.socket
        return wrapper.socket if wrapper is not None else None


def _set_timeouts(connection: socket.socket | None, *, sending: float) -> None:
    """Let reads within a message return now and then, and writes fail after ``sending`` seconds.

    The kernel's timeouts and not Python's, which would cost a poll before every read.
    """
    if connection is not None:
        for option, seconds in ((socket.SO_RCVTIMEO, SLICE), (socket.SO_SNDTIMEO, sending)):
            whole = int(seconds)
            value = struct.pack("ll", whole, int((seconds - whole) * 1e6))
            connection.setsockopt(socket.SOL_SOCKET, option, value)
