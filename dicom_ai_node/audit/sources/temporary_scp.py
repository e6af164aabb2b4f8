"""A C-STORE SCP that lives as long as an audit, as the destination of its C-MOVEs."""

import threading
from typing import Any

from pynetdicom import AE, AllStoragePresentationContexts, build_context, evt
from pynetdicom.association import Association
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from dicom_ai_node.audit.sources.landing import Landing
from dicom_ai_node.config.peers import PacsTable
from dicom_ai_node.dicom.syntaxes import ACCEPTED_SYNTAXES
from dicom_ai_node.errors import ConfigError
from dicom_ai_node.listening import reason
from dicom_ai_node.peer.upper_layer import UpperLayer


class _ConnectionHandler(RequestHandler):  # type: ignore[misc]
    def _create_association(self) -> Association:
        association = super()._create_association()
        UpperLayer.install(association)
        return association


class TemporaryScp:
    """Listens on ``move_port`` from its making to :meth:`close`."""

    def __init__(self, table: PacsTable, landing: Landing, *, ae_title: str) -> None:
        ae = AE(ae_title)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = table.timeout
        ae.maximum_pdu_size = table.max_pdu
        ae.require_called_aet = True
        ae.supported_contexts = [
            build_context(one.abstract_syntax, list(ACCEPTED_SYNTAXES))
            for one in AllStoragePresentationContexts
        ]
        try:
            self._server: Any = ae.make_server(
                (table.move_bind, table.move_port),
                evt_handlers=[(evt.EVT_C_STORE, landing)],
                server_class=ThreadedAssociationServer,
                request_handler=_ConnectionHandler,
            )
        except OSError as error:
            raise ConfigError(
                f"move_port = {table.move_port}: cannot listen on {table.move_bind}:"
                f" {reason(error)}"
            ) from error
        ae._servers.append(self._server)  # as AE.start_server does, for shutdown
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Cut what is connected and stop listening."""
        for association in self._server.active_associations:
            association.abort()
        self._server.shutdown()
