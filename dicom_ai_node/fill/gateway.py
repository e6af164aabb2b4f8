"""Forwards received images to the next archive, PatientAge filled in where that was accepted.

One sweep finds what is due and queues it, study by study: first each file to be sent is durable,
then one transaction queues them all. Who is killed in between leaves a file that the next sweep
finds under the same name. An image of which no copy can be made goes out as it was received.
"""

import threading
import time
from datetime import UTC, datetime

import structlog

from dicom_ai_node.backoff import AFTER_FAULT_SECONDS
from dicom_ai_node.config import Config
from dicom_ai_node.errors import FillError, NodeError, StorageError
from dicom_ai_node.fill.admission import approver, fill_of
from dicom_ai_node.report.copies import age_in_file, coerced
from dicom_ai_node.rules.ages_and_dates import read_age
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database, forwards
from dicom_ai_node.store.changes import Changes
from dicom_ai_node.store.forwards import Outgoing, WaitingImage
from dicom_ai_node.store.proposals import ProposalDetail, applicable
from dicom_ai_node.store.queries import overview
from dicom_ai_node.store.study_queue import READY
from dicom_ai_node.types import FillProposal, ProposalSource

HAS_IT = "it came from a destination, which has it already"
"""Why an image goes on as it was received."""

_IDLE_SECONDS = 0.5
_STUDIES_A_SWEEP = 20
_IMAGES_A_TRANSACTION = 50

log = structlog.get_logger()


class Gateway:
    """Queues what is to be forwarded. Two of them do no harm."""

    def __init__(self, config: Config, db: Database, spool: Spool) -> None:
        self._db = db
        self._spool = spool
        self._destinations = config.forwarding
        self._own_titles = {peer.ae_title for peer in config.forwarding.values()}
        self._coerces = any(peer.forward == "coerced" for peer in config.forwarding.values())
        self._patience = config.fill.forward_within_seconds if self._coerces else 0.0

    def run(self, stop: threading.Event) -> None:
        """Sweep until ``stop`` is set. A fault ends the sweep, never the thread."""
        changes = Changes(self._db, READY)
        while not stop.is_set():
            try:
                if self.sweep(now=time.time()):
                    continue
            except StorageError as error:
                log.error("forwarding_storage_failed", error=str(error))
                stop.wait(AFTER_FAULT_SECONDS)
            except Exception:
                log.exception("forwarding_failed")
                stop.wait(AFTER_FAULT_SECONDS)
            else:
                changes.wait(stop, _IDLE_SECONDS)
        changes.close()

    def sweep(self, *, now: float) -> int:
        """Queue images that are due, of some studies; return how many.

        A fault of one study does not keep the others from being served.
        """
        before = now - self._patience
        queued = 0
        fault: StorageError | None = None
        for uid in forwards.studies_due(self._db, before=before, limit=_STUDIES_A_SWEEP):
            try:
                queued += self._forward(uid, before=before, now=now)
            except FillError as error:
                log.info("forwarding_repeated", study=uid, error=str(error))
            except StorageError as error:
                fault = error
        if fault is not None:
            raise fault
        return queued

    def _forward(self, uid: str, *, before: float, now: float) -> int:
        images = forwards.waiting(self._db, uid, before=before, limit=_IMAGES_A_TRANSACTION)
        accepted = applicable(self._db, uid) if self._coerces else []
        age = next((each for each in accepted if not refusal(each.proposed)), None)
        outgoing = [
            self._outgoing(image, age, overdue=image.received_at <= before) for image in images
        ]
        queued = forwards.queue(self._db, uid, outgoing, self._destinations, applied=age, now=now)
        if queued:
            log.info("images_forwarded", study=uid, count=queued)
        return queued

    def _outgoing(
        self, image: WaitingImage, age: ProposalDetail | None, *, overdue: bool
    ) -> Outgoing:
        """Return what is sent for an image: itself, or a durable copy with the accepted age."""
        if self._coerces and not image.was_analysed:
            return Outgoing(image, image.path, "no analysis has seen it")
        if age is None:
            return Outgoing(image, image.path)
        if image.calling_ae in self._own_titles:
            return Outgoing(image, image.path, HAS_IT)
        try:
            return self._filled(image, age)
        except StorageError as error:
            if not overdue:
                raise  # it may yet be filled
            reason = str(error)
        except NodeError as error:
            reason = str(error)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the image goes on
            reason = f"no copy could be made ({type(error).__name__})"
        log.warning("forwarded_as_received", instance=image.sop_instance_uid, reason=reason)
        return Outgoing(image, image.path, reason)

    def _filled(self, image: WaitingImage, age: ProposalDetail) -> Outgoing:
        try:
            content = self._spool.path(image.path).read_bytes()
        except OSError as error:
            raise StorageError(f"spool: {error.strerror or error}") from error
        filled, note = age_filled(content, age)
        if filled == content:
            return Outgoing(image, image.path, note)
        path = self._spool.content_path(filled)
        self._spool.write(path, filled)
        return Outgoing(image, self._spool.relative(path))


def refusal(proposed: FillProposal) -> str:
    """Return why the gateway fills in no such value, '' where it does once it is accepted."""
    if proposed.keyword != "PatientAge":
        return "forward = 'coerced': it fills in PatientAge alone"
    if proposed.source is ProposalSource.INFERENCE:
        return "forward = 'coerced': it fills in nothing inferred"
    return ""


def age_filled(content: bytes, age: ProposalDetail) -> tuple[bytes, str]:
    """Return the file that goes out for an image, and why it is the received one although it lacks
    the accepted ``age``.

    Raises UnreadableInstance, FillError: no copy can be made of it, see :func:`.filled.coerced`.
    """
    stated = age_in_file(content)
    if stated == age.proposed.value:
        return content, ""
    valid = read_age(stated)
    if valid is not None and valid.number > 0 and not approver(age):
        return content, "it states a valid age, which only a person replaces"
    at = datetime.fromtimestamp(age.accepted_at, UTC)
    return coerced(content, fill_of(age), at=at).content, ""


def start(
    config: Config, db: Database, spool: Spool, stop: threading.Event
) -> threading.Thread | None:
    """Start the gateway of a node in a thread; None where nothing is forwarded."""
    if not config.forwarding:
        left = overview(db, now=time.time()).forwards_waiting
        if left:
            log.warning("forwards_left", waiting=left, hint="no destination has forward set")
        return None
    thread = threading.Thread(
        target=Gateway(config, db, spool).run, args=(stop,), name="gateway", daemon=True
    )
    thread.start()
    log.info("gateway_started", destinations=sorted(config.forwarding))
    return thread
