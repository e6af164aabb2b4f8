"""The deliverer role: a worker and a thread for each destination; none waits for another.

What happens to a delivery after each outcome, with the pauses of ``[destinations.NAME]``:

- stored, or had already: delivered.
- no connection: the destination is held, nothing counts as an attempt.
- lost while an object was under way: the destination is held, and that object waits longer than
  the rest, so that an object that breaks the peer cannot block the others. It is sent again with
  the same UID.
- no room (A7xx): that delivery waits.
- any other refusal: that delivery waits; after MAX_REFUSALS attempts it is a dead letter.
- the file is missing or damaged: a dead letter at once.
- in all cases of failure, a dead letter once the delivery is older than ``give_up_days``.
"""

import random
import threading
import time
from uuid import uuid4

import structlog

from dicom_ai_node.backoff import AFTER_FAULT_SECONDS, Backoff
from dicom_ai_node.config import Config
from dicom_ai_node.config.peers import Destination
from dicom_ai_node.deliver import LEASE_SECONDS
from dicom_ai_node.deliver.dimse import DimseSender
from dicom_ai_node.deliver.sender import DeliveryAnswer, DeliveryOutcome, Sender
from dicom_ai_node.errors import PeerUnavailable, StorageError
from dicom_ai_node.heartbeat import Heartbeat
from dicom_ai_node.store import Database, deliveries
from dicom_ai_node.store.changes import Changes
from dicom_ai_node.store.deliveries import DELIVERIES, ClaimedDelivery, state_of_destination
from dicom_ai_node.store.queries import overview
from dicom_ai_node.store.reports import QUEUED
from dicom_ai_node.study import OPEN_DELIVERIES

MAX_REFUSALS = 20
"""About 11 hours with the default pauses: a night's trouble passes, the morning sees the rest."""

_BATCH = 20
_IDLE_SECONDS = (0.8, 1.2)
"""At the latest: what is announced is sent at once."""
_LINGER_SECONDS = 1.0
"""An idle connection is closed after this long."""
_DAY = 86400.0

log = structlog.get_logger()


def run(config: Config, *, stop: threading.Event, lease_seconds: float = LEASE_SECONDS) -> None:
    """Be the deliverer until ``stop`` is set.

    On stop each worker finishes the object under way and hands back the rest. One that cannot
    finish in half of ``operate.stop_seconds`` (its peer is silent) has its deliveries handed back
    all the same: what was under way may then be sent again, with the same UID.
    """
    db = Database(config.storage.database)
    workers = [
        DestinationWorker(name, peer, db, DimseSender(config, name), lease_seconds=lease_seconds)
        for name, peer in config.destinations.items()
    ]
    threads = [
        threading.Thread(
            target=worker.run, args=(stop,), name=f"deliver-{worker.name}", daemon=True
        )
        for worker in workers
    ]

    def renew() -> None:
        for worker in workers:
            worker.renew()

    try:
        # Deliveries may wait for a destination that the configuration no longer has.
        for (name, state), count in sorted(overview(db, now=time.time()).deliveries.items()):
            if state in OPEN_DELIVERIES and name not in config.destinations:
                log.warning("destination_unknown", destination=name, waiting=count)
        with Heartbeat("leases", lease_seconds / 4, renew, failure="lease_not_renewed"):
            for thread in threads:
                thread.start()
            log.info("deliverer_started", destinations=sorted(config.destinations))
            stop.wait()
            deadline = time.monotonic() + config.operate.stop_seconds / 2
            for worker, thread in zip(workers, threads, strict=True):
                thread.join(max(0.0, deadline - time.monotonic()))
                if worker.busy:
                    log.warning("destination_interrupted", destination=worker.name)
                    worker.hand_back()
        log.info("deliverer_stopped")
    finally:
        db.close()


class DestinationWorker:
    """Serves one destination from one thread: claims a batch, sends it, settles each delivery."""

    def __init__(
        self,
        name: str,
        destination: Destination,
        db: Database,
        sender: Sender,
        *,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self.name = name
        self.owner = f"deliver-{uuid4().hex[:12]}"
        self.busy = False
        """Whether it holds leases that must be renewed."""
        self._db = db
        self._sender = sender
        self._sent_at = 0.0
        """Monotonic."""
        self._give_up_seconds = destination.give_up_days * _DAY
        self._backoff = Backoff(destination.retry_seconds, destination.retry_max_seconds)
        self._lease_seconds = lease_seconds

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; then finish the object under way and hand back the rest.

        A fault of the database or of this program ends the batch, never the thread.
        """
        changes = Changes(self._db, QUEUED)
        while not stop.is_set():
            try:
                if self.serve_batch(stop):
                    continue
            except StorageError as error:
                log.error("delivery_storage_failed", destination=self.name, error=str(error))
                stop.wait(AFTER_FAULT_SECONDS)
            except Exception:
                log.exception("delivery_failed", destination=self.name)
                stop.wait(AFTER_FAULT_SECONDS)
            else:
                changes.wait(stop, random.uniform(*_IDLE_SECONDS))
        changes.close()
        self._sender.close()

    def renew(self) -> None:
        """Prolong the leases of the batch."""
        if self.busy:
            now, seconds = time.time(), self._lease_seconds
            DELIVERIES.renew(self._db, owner=self.owner, now=now, lease_seconds=seconds)

    def hand_back(self) -> None:
        """Return what is leased and not settled to the queue."""
        deliveries.hand_back(self._db, owner=self.owner)

    def serve_batch(self, stop: threading.Event) -> bool:
        """Claim and work off one batch; return whether there was one."""
        if self.busy:  # a fault ended the batch before
            self.hand_back()
        self.busy = True
        batch = deliveries.claim(
            self._db,
            self.name,
            owner=self.owner,
            now=time.time(),
            lease_seconds=self._lease_seconds,
            limit=_BATCH,
        )
        if batch:
            self._deliver(batch, stop)
        elif time.monotonic() - self._sent_at > _LINGER_SECONDS:
            self._sender.close()
        self.busy = False
        return bool(batch)

    def _deliver(self, batch: list[ClaimedDelivery], stop: threading.Event) -> None:
        preferred = state_of_destination(self._db, self.name).sop_class_uid
        for position, claimed in enumerate(batch):
            if stop.is_set():
                self.hand_back()
                return
            try:
                self._sender.open(batch)
            except PeerUnavailable as error:
                self._hold(batch[position:], str(error))
                return
            start = time.monotonic()
            try:
                outcome = self._sender.send(claimed, preferred=preferred)
            except PeerUnavailable as error:
                self._lose(claimed, batch[position + 1 :], str(error))
                return
            finally:
                self._sent_at = time.monotonic()
            self._settle(claimed, outcome, seconds=self._sent_at - start)
            if claimed.kind == "sr" and outcome.file:
                preferred = outcome.file.sop_class_uid

    def _settle(
        self, claimed: ClaimedDelivery, outcome: DeliveryOutcome, *, seconds: float
    ) -> None:
        """Write down what came of a delivery that was sent."""
        if not outcome.is_stored:
            at_last = outcome.answer is not DeliveryAnswer.BUSY and claimed.attempts >= MAX_REFUSALS
            hopeless = at_last or outcome.answer is DeliveryAnswer.UNREADABLE
            self._put_off(claimed, outcome, since=time.time(), hopeless=hopeless)
            return
        assert outcome.file is not None
        mine = deliveries.delivered(
            self._db, claimed, outcome.file, status=outcome.status, now=time.time()
        )
        log.info(
            "report_delivered" if mine else "acknowledgement_discarded",
            destination=self.name,
            study=claimed.study_uid,
            instance=outcome.file.sop_instance_uid,
            kind=claimed.kind,
            status=outcome.shown,
            attempt=claimed.attempts,
            seconds=round(seconds, 3),
        )

    def _lose(self, claimed: ClaimedDelivery, unsent: list[ClaimedDelivery], error: str) -> None:
        """Settle the loss of the connection while ``claimed`` was under way."""
        until = self._hold(unsent, error)
        self._put_off(claimed, DeliveryOutcome(DeliveryAnswer.REFUSED, error=error), since=until)

    def _hold(self, unsent: list[ClaimedDelivery], error: str) -> float:
        """Let the whole destination wait; return until when."""
        self._sender.close()
        failures = state_of_destination(self._db, self.name).failures + 1
        seconds = self._pause(failures)
        until = time.time() + seconds
        waiting = []
        for claimed in unsent:
            if self._is_overdue(claimed):
                lost = DeliveryOutcome(DeliveryAnswer.REFUSED, error=error)
                self._put_off(claimed, lost, since=until)
            else:
                waiting.append(claimed)
        deliveries.hold(self._db, self.name, waiting, until=until, error=error)
        log.warning(
            "destination_held",
            destination=self.name,
            failures=failures,
            seconds=round(seconds, 1),
            error=error,
        )
        return until

    def _put_off(
        self,
        claimed: ClaimedDelivery,
        outcome: DeliveryOutcome,
        *,
        since: float,
        hopeless: bool = False,
    ) -> None:
        """Let a delivery wait from ``since`` on, or give it up."""
        status, error = outcome.status, outcome.error
        if hopeless or self._is_overdue(claimed):
            event = "delivery_given_up"
            deliveries.give_up(self._db, claimed, status=status, error=error, now=time.time())
        else:
            event, until = "delivery_postponed", since + self._pause(claimed.attempts)
            deliveries.postpone(self._db, claimed, until=until, status=status, error=error)
        # Without the error's text: it may carry the peer's comment, which may name a patient.
        log.warning(
            event,
            destination=self.name,
            study=claimed.study_uid,
            instance=claimed.files[0].sop_instance_uid if claimed.files else "",
            kind=claimed.kind,
            status=outcome.shown,
            attempt=claimed.attempts,
        )

    def _is_overdue(self, claimed: ClaimedDelivery) -> bool:
        return time.time() - claimed.created_at >= self._give_up_seconds

    def _pause(self, failures: int) -> float:
        return self._backoff.seconds(failures, jitter=random.random())
