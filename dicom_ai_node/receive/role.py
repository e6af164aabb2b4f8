"""The receiver role: one process of several that listen on the node's port."""

import socket
import threading
import warnings

import structlog

from dicom_ai_node.config import Config
from dicom_ai_node.listening import listen
from dicom_ai_node.receive.admission import Admission
from dicom_ai_node.receive.associations import AssociationRows
from dicom_ai_node.receive.filing import Filing
from dicom_ai_node.receive.landing import Landing
from dicom_ai_node.receive.server import Receiver
from dicom_ai_node.receive.session import Sessions
from dicom_ai_node.slots import Slots
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database

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

    Raises
    ------
    ConfigError
        The port cannot be bound.
    OSError
        The spool cannot be written.
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
