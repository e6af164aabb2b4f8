"""The deliverer role: a courier and a thread for each destination; none waits for another."""

import threading
import time

import structlog

from dicom_ai_node.config import Config
from dicom_ai_node.deliver import LEASE_SECONDS
from dicom_ai_node.deliver.courier import Courier
from dicom_ai_node.errors import StorageError
from dicom_ai_node.peer import quiet_pynetdicom
from dicom_ai_node.store import Database
from dicom_ai_node.store.deliveries import DELIVERIES
from dicom_ai_node.store.overview import overview
from dicom_ai_node.study import OPEN_DELIVERIES

log = structlog.get_logger()


def run(config: Config, *, stop: threading.Event, lease_seconds: float = LEASE_SECONDS) -> None:
    """Be the deliverer until ``stop`` is set.

    On stop each courier finishes the object under way and hands back the rest. One that cannot
    finish in half of ``operate.stop_seconds`` (its peer is silent) has its deliveries handed back
    all the same: what was under way may then be sent again, with the same UID.
    """
    quiet_pynetdicom()
    db = Database(config.storage.database)
    try:
        couriers = [
            Courier(config, name, db, lease_seconds=lease_seconds) for name in config.destinations
        ]
        _report_orphans(config, db)
        threads = [
            threading.Thread(target=one.run, args=(stop,), name=f"courier-{one.name}", daemon=True)
            for one in couriers
        ]
        for thread in threads:
            thread.start()
        log.info("deliverer_started", destinations=sorted(config.destinations))
        while not stop.wait(lease_seconds / 4):
            _renew(db, couriers, lease_seconds)
        deadline = time.monotonic() + config.operate.stop_seconds / 2
        for courier, thread in zip(couriers, threads, strict=True):
            thread.join(max(0.0, deadline - time.monotonic()))
            if courier.busy:
                log.warning("courier_interrupted", destination=courier.name)
                courier.hand_back()
        log.info("deliverer_stopped")
    finally:
        db.close()


def _renew(db: Database, couriers: list[Courier], lease_seconds: float) -> None:
    for courier in couriers:
        if courier.busy:
            try:
                DELIVERIES.renew(
                    db, owner=courier.owner, now=time.time(), lease_seconds=lease_seconds
                )
            except StorageError as error:
                log.warning("lease_not_renewed", destination=courier.name, error=str(error))


def _report_orphans(config: Config, db: Database) -> None:
    """Say when deliveries wait for a destination that the configuration no longer has."""
    for (name, state), count in sorted(overview(db, now=time.time()).deliveries.items()):
        if state in OPEN_DELIVERIES and name not in config.destinations:
            log.warning("destination_unknown", destination=name, waiting=count)
