"""Puts an audit to work: for the command line in its process, for ``serve`` as the audit role."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from uuid import uuid4

import structlog

from dicom_ai_node.audit.campaign import AuditSpec, Depth, Ending, Progress
from dicom_ai_node.audit.collect import collect
from dicom_ai_node.audit.session import AuditSession, Task, describe
from dicom_ai_node.audit.sources import opening
from dicom_ai_node.audit.study import folder_of, remove_abandoned
from dicom_ai_node.backoff import AFTER_FAULT_SECONDS
from dicom_ai_node.config import Config
from dicom_ai_node.errors import AuditError, NodeError, StorageError
from dicom_ai_node.heartbeat import Heartbeat
from dicom_ai_node.store import Database, audits
from dicom_ai_node.study import AuditEvent

_IDLE_SECONDS = 2.0
_NICENESS = 10

log = structlog.get_logger()


def new_owner(place: str) -> str:
    """Return the name under which a process holds leases."""
    return f"{place}-{uuid4().hex[:12]}"


def work(
    config: Config,
    db: Database,
    audit_id: int,
    *,
    owner: str,
    stop: threading.Event,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Ending:
    """Work on one audit, whose lease ``owner`` holds, until it is done or told to end.

    The lease is given back. What keeps the audit from going on is written to it. Raises
    StorageError where the database or the spool failed and the audit still runs; another NodeError
    where the audit has failed and may be resumed.
    """
    with _leased(config, db, audit_id, owner):
        try:
            task = _task(config, db, audit_id, owner, stop, on_progress)
            try:
                return collect(AuditSession(db, task))
            finally:
                shutil.rmtree(task.folder, ignore_errors=True)
        except StorageError:
            raise
        except Exception as error:
            text = describe(error)
            now = time.time()
            audits.apply(db, audit_id, AuditEvent.FAIL, owner=owner, now=now, note=text)
            if isinstance(error, NodeError):
                raise
            log.critical("audit_crashed", audit=audit_id, exc_info=error)
            raise AuditError(f"audit {audit_id}: {text}") from error


def run(config: Config, *, stop: threading.Event) -> None:
    """Be the audit role until ``stop`` is set: work on audits that nobody else works on."""
    os.nice(_NICENESS)  # live studies first, on the processor too
    owner = new_owner("audit")
    lease = config.audit.lease_seconds
    db = Database(config.storage.database)
    try:
        while not stop.is_set():
            try:
                found = audits.take(db, owner=owner, now=time.time(), lease_seconds=lease)
                if found is None:
                    stop.wait(_IDLE_SECONDS)
                    continue
                log.info("audit_taken", audit=found)
                ending = work(config, db, found, owner=owner, stop=stop)
                log.info("audit_left", audit=found, ending=ending)
            except StorageError as error:
                log.error("audit_storage_failed", exc_info=error)
                stop.wait(AFTER_FAULT_SECONDS)
            except NodeError as error:
                log.error("audit_failed", exc_info=error)
    finally:
        db.close()


def _task(
    config: Config,
    db: Database,
    audit_id: int,
    owner: str,
    stop: threading.Event,
    on_progress: Callable[[Progress], None],
) -> Task:
    row = audits.show(db, audit_id)
    if row is None:
        raise AuditError(f"no audit {audit_id}")
    spec = AuditSpec.model_validate(row.spec)
    folder = folder_of(config.storage.spool, audit_id)
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    remove_abandoned(db, config.storage.spool)
    analyse = None
    if spec.depth is not Depth.HEADERS:
        from dicom_ai_node.audit.analyst import Analyst  # loads the engine

        analyse = Analyst(config, spec)
    return Task(
        audit_id=audit_id,
        spec=spec,
        owner=owner,
        open_source=partial(opening.open_source, spec.source, config, modalities=spec.modalities),
        settings=config.audit,
        rules=config.rules,
        folder=folder,
        analyse=analyse,
        stop=stop,
        stop_seconds=config.operate.stop_seconds / 2,
        on_progress=on_progress,
    )


@contextmanager
def _leased(config: Config, db: Database, audit_id: int, owner: str) -> Iterator[None]:
    """Renew the lease meanwhile, and give it back at the end."""
    seconds = config.audit.lease_seconds

    def renew() -> None:
        audits.renew(db, audit_id, owner=owner, now=time.time(), lease_seconds=seconds)

    try:
        with Heartbeat("lease", seconds / 4, renew, failure="lease_not_renewed"):
            yield
    finally:
        with suppress(StorageError):
            audits.release(db, audit_id, owner=owner, now=time.time())
