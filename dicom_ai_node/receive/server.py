"""The receiver role: one process of several that accept connections on the node's port."""

import copy
import errno
import socket
import struct
import threading
import time
import warnings
from contextlib import suppress
from functools import partial
from typing import Any

import structlog
from pynetdicom import AE
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.transport import AddressInformation, AssociationSocket

from dicom_ai_node.config import Config
from dicom_ai_node.dicom.classes import VERIFICATION, storage_classes
from dicom_ai_node.dicom.syntaxes import ACCEPTED_SYNTAXES
from dicom_ai_node.listening import listen
from dicom_ai_node.receive.admission import Admission
from dicom_ai_node.receive.connection import AssociationRows, Connection
from dicom_ai_node.receive.filing import Filing
from dicom_ai_node.receive.landing import Landing
from dicom_ai_node.receive.reactor import EventDrivenAssociation
from dicom_ai_node.receive.session import Sessions
from dicom_ai_node.receive.slots import Slots
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database

_POLL = 0.1
_STOP_IS_SEEN_AFTER = 0.5
_IDLE_AT_STOP = 2.0
"""Seconds without anything in progress after which a stop no longer waits for an association."""
_ABORTS_WITHIN = 1.0
_UNLIMITED = 1_000_000
_SHARE_OF_STOP = 0.75
"""How much of ``operate.stop_seconds`` associations get; the rest is for ending in order."""

_log = structlog.get_logger()


def run(
    config: Config,
    *,
    process: str,
    stop: threading.Event,
    listener: socket.socket | None = None,
    slots: Slots | None = None,
) -> None:
    """Receive until ``stop`` is set; ``process`` tells the receivers of one node apart.

    ``listener`` and ``slots`` are what they share; without them this process is the only one.

    On stop nothing new is accepted, what is in progress is finished, and what does not finish in
    time is aborted: its sender was told nothing and keeps its copy.

    Raises ConfigError: the port cannot be bound; OSError: the spool cannot be written.
    """
    listener = listener or listen(config.node.bind, config.node.port, key="node")
    warnings.filterwarnings("ignore", module="pydicom")  # they quote values of the data set
    db = Database(config.storage.database)
    landing = Landing(
        Spool(config.storage.spool),
        process=process,
        min_free_mb=config.storage.min_free_mb,
        max_object_mb=config.receive.max_object_mb,
    )
    rows = AssociationRows(db)
    filing = Filing(
        db=db,
        landing=landing,
        rows=rows,
        settings=config.study,
        limits=config.limits.bounds,
        forwards=bool(config.forwarding),
    )
    admission = Admission(config.receive, ae_title=config.node.ae_title, slots=slots)
    receiver = Receiver(
        config,
        Sessions(config.receive, admission=admission, landing=landing, filing=filing, rows=rows),
        listener,
    )
    receiver.start()
    _log.info(
        "receiver_listening",
        process=process,
        bind=config.node.bind,
        port=config.node.port,
        swept=landing.swept,
    )
    stop.wait()
    receiver.close(patience=_SHARE_OF_STOP * config.operate.stop_seconds)
    rows.close()
    landing.close()
    db.close()
    _log.info("receiver_stopped", process=process)


class Receiver:
    """The C-ECHO and C-STORE SCP; listens from :meth:`start` to :meth:`close`.

    All receivers of a node wait in ``accept`` on one socket: the kernel wakes the one that has
    waited the longest, so that connections go round, and what a receiver that died has not taken
    yet waits for the next one.
    """

    def __init__(self, config: Config, sessions: Sessions, listener: socket.socket) -> None:
        ae = AE(config.node.ae_title)
        ae.supported_contexts = supported_contexts(config.receive.extra_storage_classes)
        ae.maximum_pdu_size = config.receive.max_pdu
        ae.acse_timeout = config.receive.acse_timeout
        ae.dimse_timeout = config.receive.dimse_timeout
        ae.network_timeout = config.receive.network_timeout
        ae.maximum_associations = _UNLIMITED  # counts silent sockets as well; Admission does not
        self._ae = ae
        self._sessions = sessions
        self._listener = listener
        self._address = AddressInformation.from_tuple(listener.getsockname())
        # The kernel's timeout, for all processes alike: Python's would make the socket
        # non-blocking, and each connection wake every receiver.
        timeout = struct.pack("ll", 0, int(_STOP_IS_SEEN_AFTER * 1e6))
        listener.setblocking(True)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="acceptor", daemon=True)

    def start(self) -> None:
        """Accept connections from now on."""
        self._thread.start()

    def close(self, *, patience: float) -> None:
        """Accept nothing new, give what is in progress ``patience`` seconds, abort the rest.

        An association on which nothing happens is not waited for: peers keep them open for hours.
        """
        self._closing.set()
        self._thread.join()
        self._listener.close()
        deadline = time.monotonic() + patience
        while self._sessions.open and time.monotonic() < deadline:
            for session in self._sessions.open:
                connection = session.connection
                if not connection.calling_ae or connection.idle_seconds() > _IDLE_AT_STOP:
                    session.abort()
            time.sleep(_POLL)
        for session in self._sessions.open:
            session.abort()
        deadline = time.monotonic() + _ABORTS_WITHIN
        while self._sessions.open and time.monotonic() < deadline:
            time.sleep(_POLL)

    def shutdown_request(self, connection: socket.socket) -> None:
        """Close a connection, for pynetdicom's association."""
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    def _accept(self) -> None:
        failing = False
        while not self._closing.is_set():
            try:
                connection, address = self._listener.accept()
            except BlockingIOError:
                continue  # nobody came within the timeout
            except OSError as error:
                if error.errno == errno.EINVAL:
                    return  # the supervisor has ended the listening of all receivers
                if not failing:  # out of descriptors: those who are here will leave
                    _log.error("connection_not_accepted", error=error.strerror)
                failing = True
                self._closing.wait(_POLL)
                continue
            failing = False
            threading.Thread(
                target=self._serve, args=(connection, address), name="connection", daemon=True
            ).start()

    def _serve(self, connection: socket.socket, address: tuple[Any, ...]) -> None:
        """Hold one connection from accept to the end of its threads."""
        try:
            peer = self._sessions.connected(address[0])
            self._sessions.run(self._association(connection, address, peer), peer)
        except Exception as error:  # noqa: BLE001 - the next connection is to be served, too
            _log.error("connection_failed", address=address[0], exc_info=error)
        finally:
            connection.close()

    def _association(
        self, connection: socket.socket, address: tuple[Any, ...], peer: Connection
    ) -> EventDrivenAssociation:
        """As pynetdicom's RequestHandler makes it."""
        association = EventDrivenAssociation(
            self._ae, expires_in=partial(self._sessions.expires_in, peer)
        )
        association._server = self
        association.set_socket(AssociationSocket(association, client_socket=connection))
        acceptor, requestor = association.acceptor, association.requestor
        acceptor.maximum_length = self._ae.maximum_pdu_size
        acceptor.ae_title = self._ae.ae_title
        acceptor.address_info = self._address
        acceptor.implementation_class_uid = self._ae.implementation_class_uid
        acceptor.implementation_version_name = self._ae.implementation_version_name
        acceptor.supported_contexts = copy.deepcopy(self._ae.supported_contexts)
        requestor.address_info = AddressInformation.from_tuple(address)
        return association


def supported_contexts(extra: tuple[str, ...] = ()) -> list[PresentationContext]:
    """Return the presentation contexts of the SCP: Verification and all storage classes."""
    storage = [
        build_context(uid, list(ACCEPTED_SYNTAXES)) for uid in sorted(storage_classes(extra))
    ]
    return [build_context(VERIFICATION), *storage]
