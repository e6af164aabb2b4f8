"""A C-STORE SCP that lives as long as an audit, as the destination of its C-MOVEs."""

from typing import Any

from pynetdicom import AE, AllStoragePresentationContexts, build_context, evt

from dicom_ai_node.audit.sources.landing import Landing
from dicom_ai_node.config.sources import PacsTable
from dicom_ai_node.errors import ConfigError
from dicom_ai_node.receive.classes import TRANSFER_SYNTAXES


class TemporaryScp:
    """Listens on ``move_port`` from its making to :meth:`close`."""

    def __init__(self, table: PacsTable, landing: Landing, *, ae_title: str) -> None:
        ae = AE(ae_title)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = table.timeout
        ae.maximum_pdu_size = table.max_pdu
        ae.require_called_aet = True
        ae.supported_contexts = [
            build_context(one.abstract_syntax, list(TRANSFER_SYNTAXES))
            for one in AllStoragePresentationContexts
        ]
        try:
            self._server: Any = ae.start_server(
                (table.move_bind, table.move_port),
                block=False,
                evt_handlers=[(evt.EVT_C_STORE, landing)],
            )
        except OSError as error:
            raise ConfigError(
                f"move_port = {table.move_port}: cannot listen on {table.move_bind}:"
                f" {error.strerror or error}"
            ) from error

    def close(self) -> None:
        """Cut what is connected and stop listening."""
        for association in self._server.active_associations:
            association.abort()
        self._server.shutdown()
