"""The receiver role: one process of several that accept connections on the node's port."""

import errno
import socket
import struct
import threading
import time
import warnings
from typing import Any

import structlog

from dicom_ai_node.config import Config
from dicom_ai_node.config.bundles import analysed_classes
from dicom_ai_node.listening import listen
from dicom_ai_node.receive.acceptor import Acceptors
from dicom_ai_node.receive.callers import Admission
from dicom_ai_node.receive.connection import AssociationRows
from dicom_ai_node.receive.filing import Filing
from dicom_ai_node.receive.landing import Landing
from dicom_ai_node.receive.slots import Slots
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database

_POLL = 0.1
_STOP_IS_SEEN_AFTER = 0.5
_IDLE_AT_STOP = 2.0
"""Seconds without anything in progress after which a stop no longer waits for an association."""
_ABORTS_WITHIN = 1.0
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
        analysed=analysed_classes(config.model),
    )
    admission = Admission(config.receive, ae_title=config.node.ae_title, slots=slots)
    acceptors = Acceptors(
        config.receive, admission=admission, landing=landing, filing=filing, rows=rows
    )
    receiver = Receiver(acceptors, listener)
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

    def __init__(self, acceptors: Acceptors, listener: socket.socket) -> None:
        self._acceptors = acceptors
        self._listener = listener
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
        while self._acceptors.open and time.monotonic() < deadline:
            for acceptor in self._acceptors.open:
                peer = acceptor.peer
                if not peer.calling_ae or peer.idle_seconds() > _IDLE_AT_STOP:
                    acceptor.abort()
            time.sleep(_POLL)
        for acceptor in self._acceptors.open:
            acceptor.abort()
        deadline = time.monotonic() + _ABORTS_WITHIN
        while self._acceptors.open and time.monotonic() < deadline:
            time.sleep(_POLL)

    def _accept(self) -> None:
        failing = False
        while not self._closing.is_set():
            try:
                accepted, address = self._listener.accept()
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
                target=self._serve, args=(accepted, address), name="connection", daemon=True
            ).start()

    def _serve(self, accepted: socket.socket, address: tuple[Any, ...]) -> None:
        """Hold one connection from accept to its end."""
        with accepted:
            try:
                self._acceptors.serve(accepted, address[0])
            except Exception as error:  # noqa: BLE001 - the next connection is to be served, too
                _log.error("connection_failed", address=address[0], exc_info=error)
