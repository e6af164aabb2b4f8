"""The listening socket of one receiver process, on a port that it shares with its siblings."""

import socket
import threading
import time
from typing import Any

import structlog
from pynetdicom import AE, _config
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from dicom_ai_node.config import Config
from dicom_ai_node.receive.classes import supported_contexts
from dicom_ai_node.receive.session import Sessions

_POLL = 0.1
_IDLE_AT_STOP = 2.0
"""Seconds without anything in progress after which a stop no longer waits for an association."""
_ABORTS_WITHIN = 1.0
_UNLIMITED = 1_000_000

_log = structlog.get_logger()


class Receiver:
    """The C-ECHO and C-STORE SCP; listens from :meth:`start` to :meth:`close`."""

    def __init__(self, config: Config, sessions: Sessions) -> None:
        _config.LOG_HANDLER_LEVEL = "none"  # pynetdicom's own log quotes UIDs, and is slow
        ae = AE(config.node.ae_title)
        ae.supported_contexts = supported_contexts(config.receive.extra_storage_classes)
        ae.maximum_pdu_size = config.receive.max_pdu
        ae.acse_timeout = config.receive.acse_timeout
        ae.dimse_timeout = config.receive.dimse_timeout
        ae.network_timeout = config.receive.network_timeout
        ae.maximum_associations = _UNLIMITED  # counts silent sockets as well; Admission does not
        self._sessions = sessions
        self._server = ae.make_server(
            (config.node.bind, config.node.port),
            server_class=_Server,
            request_handler=_ConnectionHandler,
            sessions=sessions,
        )
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL,), name="acceptor", daemon=True
        )

    def start(self) -> None:
        """Accept connections from now on."""
        self._thread.start()

    def close(self, *, patience: float) -> None:
        """Accept nothing new, give what is in progress ``patience`` seconds, abort the rest.

        An association on which nothing happens is not waited for: peers keep them open for hours.
        """
        self._server.shutdown()
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


class _Server(ThreadedAssociationServer):  # type: ignore[misc]
    request_queue_size = 128  # the default of 5 refuses a burst of modalities
    daemon_threads = True

    def __init__(self, ae: AE, *args: Any, sessions: Sessions, **kwargs: Any) -> None:
        self.sessions = sessions
        super().__init__(ae, *args, **kwargs)
        ae._servers.append(self)  # as AE.start_server does, for shutdown

    def server_bind(self) -> None:
        """Share the port: the kernel spreads connections over the processes that listen on it."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()

    def handle_error(self, _request: Any, client_address: Any) -> None:
        """Log what socketserver would print."""
        _log.error("connection_failed", address=client_address[0], exc_info=True)


class _ConnectionHandler(RequestHandler):  # type: ignore[misc]
    """Holds one connection from accept to the end of its threads, in a thread of its own."""

    server: _Server

    def handle(self) -> None:
        association = self._create_association()
        self.server.sessions.run(association, address=self.client_address[0])
