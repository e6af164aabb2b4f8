"""The service of one destination: claim a batch, send it over one association, settle each.

What happens to a delivery after each outcome, with the pauses of ``[deliveries.NAME]``:

- stored, or had already: delivered.
- no association: the destination is held, nothing counts as an attempt.
- lost while an object was under way: the destination is held, and that object waits longer than
  the rest, so that an object that breaks the peer cannot block the others. It is sent again with
  the same UID.
- out of resources (A7xx): that delivery waits.
- any other refusal: that delivery waits; after MAX_REFUSALS attempts it is a dead letter.
- the file is missing or damaged: a dead letter at once.
- in all cases of failure, a dead letter once the delivery is older than ``give_up_days``.
"""

import random
import threading
import time
from uuid import uuid4

import structlog

from dicom_ai_node.backoff import Backoff
from dicom_ai_node.config import Config
from dicom_ai_node.deliver.line import Line
from dicom_ai_node.deliver.status import Verdict, judge
from dicom_ai_node.errors import PeerRefused, PeerUnavailable, StorageError, UnreadableInstance
from dicom_ai_node.store import Database, deliveries
from dicom_ai_node.store.deliveries import ClaimedDelivery

MAX_REFUSALS = 20
"""About 11 hours with the default pauses: a night's trouble passes, the morning sees the rest."""

_BATCH = 20
_IDLE_SECONDS = (0.2, 0.5)
_AFTER_FAULT_SECONDS = 5.0
_DAY = 86400.0

log = structlog.get_logger()


class Courier:
    """Serves one destination from one thread."""

    def __init__(self, config: Config, name: str, db: Database, *, lease_seconds: float) -> None:
        self.name = name
        self.owner = f"deliver-{uuid4().hex[:12]}"
        self.busy = False
        """Whether it holds leases that must be renewed."""
        self._db = db
        self._destination = config.destinations[name]
        self._backoff = Backoff(
            self._destination.retry_seconds, self._destination.retry_max_seconds
        )
        self._line = Line(config, name)
        self._lease_seconds = lease_seconds

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; then finish the object under way and hand back the rest.

        A fault of the database or of this program ends the batch, never the thread.
        """
        while not stop.is_set():
            wait = random.uniform(*_IDLE_SECONDS)
            try:
                if self._serve_batch(stop):
                    continue
            except StorageError as error:
                log.error("delivery_storage_failed", destination=self.name, error=str(error))
                wait = _AFTER_FAULT_SECONDS
            except Exception:
                log.exception("courier_failed", destination=self.name)
                wait = _AFTER_FAULT_SECONDS
            stop.wait(wait)
        self._line.hang_up()

    def _serve_batch(self, stop: threading.Event) -> bool:
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
        else:
            self._line.rest()
        self.busy = False
        return bool(batch)

    def hand_back(self) -> None:
        """Return what is leased and not settled to the queue."""
        deliveries.hand_back(self._db, owner=self.owner)

    def _deliver(self, batch: list[ClaimedDelivery], stop: threading.Event) -> None:
        preferred = deliveries.state_of_destination(self._db, self.name).sop_class_uid
        for position, claimed in enumerate(batch):
            if stop.is_set():
                self.hand_back()
                return
            try:
                self._line.open_for(batch)
            except PeerUnavailable as error:
                self._hold(batch[position:], str(error))
                return
            try:
                sop_class_uid = self._send(claimed, preferred)
            except PeerUnavailable as error:
                self._lose(claimed, batch[position + 1 :], str(error))
                return
            if claimed.kind == "sr":
                preferred = sop_class_uid or preferred

    def _send(self, claimed: ClaimedDelivery, preferred: str) -> str:
        """Send one report and settle it; return its SOP class, '' when it was not stored."""
        start = time.monotonic()
        try:
            sent = self._line.send(claimed, preferred=preferred)
        except PeerRefused as error:
            self._refuse(claimed, error)
            return ""
        except UnreadableInstance as error:
            self._give_up(claimed, status=None, error=str(error))
            return ""
        mine = deliveries.delivered(
            self._db, claimed, sent.file, status=sent.status, now=time.time()
        )
        log.info(
            "report_delivered" if mine else "acknowledgement_discarded",
            destination=self.name,
            study=claimed.study_uid,
            instance=sent.file.sop_instance_uid,
            kind=claimed.kind,
            status=f"0x{sent.status:04X}",
            attempt=claimed.attempts,
            seconds=round(time.monotonic() - start, 3),
        )
        return sent.file.sop_class_uid

    def _refuse(self, claimed: ClaimedDelivery, error: PeerRefused) -> None:
        # The peer's comment goes to the database alone: it may name a patient.
        text = f"{error}: {error.comment}" if error.comment else str(error)
        last = judge(error.status) is not Verdict.BUSY and claimed.attempts >= MAX_REFUSALS
        if last or self._is_overdue(claimed):
            self._give_up(claimed, status=error.status, error=text)
            return
        self._postpone(claimed, time.time(), status=error.status, error=text)

    def _lose(self, claimed: ClaimedDelivery, unsent: list[ClaimedDelivery], error: str) -> None:
        """Settle the loss of the association while ``claimed`` was under way."""
        until = self._hold(unsent, error)
        if self._is_overdue(claimed):
            self._give_up(claimed, status=None, error=error)
        else:
            self._postpone(claimed, until, status=None, error=error)

    def _hold(self, unsent: list[ClaimedDelivery], error: str) -> float:
        """Let the whole destination wait; return until when."""
        self._line.hang_up()
        failures = deliveries.state_of_destination(self._db, self.name).failures + 1
        seconds = self._pause(failures)
        until = time.time() + seconds
        waiting = []
        for claimed in unsent:
            if self._is_overdue(claimed):
                self._give_up(claimed, status=None, error=error)
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

    def _postpone(
        self, claimed: ClaimedDelivery, start: float, *, status: int | None, error: str
    ) -> None:
        until = start + self._pause(claimed.attempts)
        deliveries.postpone(self._db, claimed, until=until, status=status, error=error)
        self._log_trouble("delivery_postponed", claimed, status)

    def _give_up(self, claimed: ClaimedDelivery, *, status: int | None, error: str) -> None:
        deliveries.give_up(self._db, claimed, status=status, error=error, now=time.time())
        self._log_trouble("delivery_given_up", claimed, status)

    def _log_trouble(self, event: str, claimed: ClaimedDelivery, status: int | None) -> None:
        # Without the error's text: it may carry the peer's comment.
        log.warning(
            event,
            destination=self.name,
            study=claimed.study_uid,
            instance=claimed.files[0].sop_instance_uid if claimed.files else "",
            kind=claimed.kind,
            status="" if status is None else f"0x{status:04X}",
            attempt=claimed.attempts,
        )

    def _is_overdue(self, claimed: ClaimedDelivery) -> bool:
        return time.time() - claimed.created_at >= self._destination.give_up_days * _DAY

    def _pause(self, failures: int) -> float:
        return self._backoff.seconds(failures, jitter=random.random())
