"""The analyser role: claims complete studies, and stores results and reports.

Everything it writes before :func:`store.results.finish` commits may be written again by another
analyser; the names of report files are their UIDs and those depend on content alone.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import uuid4

import structlog
from pydicom import Dataset

from dicom_ai_node.analyse.observe import Shadow, observe
from dicom_ai_node.analyse.results import Results
from dicom_ai_node.analyse.worklist import Worklist
from dicom_ai_node.answers import Reason
from dicom_ai_node.backoff import AFTER_FAULT_SECONDS, LONGEST_RETRY, Backoff
from dicom_ai_node.config import Config
from dicom_ai_node.config.bundles import reporting_bundles, resolve_bundle
from dicom_ai_node.dicom.values import patient_key
from dicom_ai_node.errors import InvalidReport, NodeError, StorageError, UnreadableInstance
from dicom_ai_node.heartbeat import Heartbeat
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.likeness import Embedding
from dicom_ai_node.monitor.observation import Observation, Role
from dicom_ai_node.pipeline import Pipeline, Prepared
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database
from dicom_ai_node.store.changes import Changes
from dicom_ai_node.store.instances import NO_IMAGE
from dicom_ai_node.store.patients import chests, priors
from dicom_ai_node.store.study_queue import (
    READY,
    STUDIES,
    ClaimedStudy,
    claim,
    fail,
    hand_back,
    skip,
)
from dicom_ai_node.types import PriorStudy

_IDLE_SECONDS = 1.0
"""At the latest: what is announced is claimed at once."""

log = structlog.get_logger()


def load(config: Config) -> Callable[..., None]:
    """Verify the bundles; what comes back works until ``stop`` is set.

    The first network, and the one in its shadow, are loaded here, further ones when a study needs
    them. All that are stay in memory.
    """
    pipeline = _load(config, reporting_bundles(config.model), Role.LIVE)
    shadow = None
    if config.model.shadow:
        shadow = Shadow(_load(config, [resolve_bundle(config.model.shadow)], Role.SHADOW))
    return partial(_run, config, pipeline, shadow)


def _run(
    config: Config, pipeline: Pipeline, shadow: Shadow | None, *, stop: threading.Event
) -> None:
    db = Database(config.storage.database)
    spool = Spool(config.storage.spool)
    spool.sweep()
    try:
        Analyser(config, db, spool, pipeline, shadow).run(stop)
    finally:
        db.close()


def _load(config: Config, bundles: Sequence[Path], role: Role) -> Pipeline:
    def said(loaded: Estimator) -> None:
        found = {"model": loaded.identity.name, "device": loaded.device, "engine": loaded.engine}
        log.info("model_loaded", role=role, **found)

    pipeline = Pipeline.of(config, bundles, loaded=said)
    _ = pipeline.bundles[0].estimator
    return pipeline


@dataclass(frozen=True, slots=True)
class _Ready:
    """One study for the networks, and for the bundle in their shadow."""

    claimed: ClaimedStudy
    prepared: Prepared
    shadow: Prepared | None


class Analyser:
    """One analyser process."""

    def __init__(
        self,
        config: Config,
        db: Database,
        spool: Spool,
        pipeline: Pipeline,
        shadow: Shadow | None = None,
    ) -> None:
        self.config = config
        self.db = db
        self.spool = spool
        self.pipeline = pipeline
        self.shadow = shadow
        self.worklist = Worklist(config, db)
        self.owner = f"analyse-{uuid4().hex[:12]}"
        self._busy_since = 0.0
        """When the present batch was begun, monotonic; 0 while there is none."""
        self._results = Results(config, db, spool)

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; unfinished studies go back to the queue."""
        settings = self.config.analyse
        seconds = min(settings.lease_seconds, settings.max_batch_seconds) / 4
        with (
            Heartbeat("leases", seconds, self._renew, failure="lease_not_renewed"),
            ThreadPoolExecutor(settings.decoders, "decode") as decoders,
            closing(Changes(self.db, READY)) as changes,
        ):
            while not stop.is_set():
                try:
                    if not self.run_once(decoders):
                        changes.wait(stop, _IDLE_SECONDS)
                except StorageError as error:
                    log.error("analysis_storage_failed", exc_info=error)
                    self._hand_back()  # no fault of the studies: no attempt is used up
                    stop.wait(AFTER_FAULT_SECONDS)
        self._hand_back()

    def _hand_back(self) -> None:
        self._busy_since = 0.0
        try:
            hand_back(self.db, owner=self.owner, now=time.time())
        except StorageError as error:
            log.warning("studies_not_handed_back", exc_info=error)  # their leases run out

    def run_once(self, decoders: ThreadPoolExecutor) -> int:
        """Claim and work off one batch of studies; return how many it held."""
        settings = self.config.analyse
        batch = claim(
            self.db,
            owner=self.owner,
            now=time.time(),
            lease_seconds=settings.lease_seconds,
            limit=settings.studies_at_once,
            max_attempts=settings.max_attempts,
            backfill=min(settings.studies_at_once, settings.decoders),
        )
        self._busy_since = time.monotonic() if batch else 0.0
        # Half of the batch's time is left for what follows: maps never cost a study its report.
        deadline = self._busy_since + settings.max_batch_seconds / 2
        ready = [item for item in decoders.map(self._guarded_prepare, batch) if item is not None]
        self.pipeline.predict([item.prepared for item in ready])
        shadows: list[tuple[Observation, ...]] = [() for _ in ready]
        if self.shadow is not None:
            shadows = self.shadow.observe([item.shadow for item in ready])
        for item, others in zip(ready, shadows, strict=True):
            with self._guard(item.claimed):
                result = self.pipeline.conclude(item.prepared, self._other_chests(item))
                seen = (*observe(item.prepared, self.pipeline, Role.LIVE), *others)
                self._results.store(item.claimed, item.prepared, result, seen, deadline=deadline)
        self._busy_since = 0.0
        return len(batch)

    @contextmanager
    def _guard(self, claimed: ClaimedStudy) -> Iterator[None]:
        """Let an error end this study's attempt and nothing else."""
        try:
            yield
        except StorageError:
            raise  # nothing can be stored, not even the failure
        except Exception as error:  # noqa: BLE001
            self._fail(claimed, error)

    def _guarded_prepare(self, claimed: ClaimedStudy) -> _Ready | None:
        with self._guard(claimed):
            return self._prepare(claimed)
        return None

    def _prepare(self, claimed: ClaimedStudy) -> _Ready | None:
        files = [(instance.image, self.spool.path(instance.path)) for instance in claimed.instances]
        if not files:
            reason = Reason(NO_IMAGE, f"none of {claimed.others} instances is of a class analysed")
            skip(self.db, claimed, reason, now=time.time())
            log.info("study_skipped", study=claimed.study_uid, reason=reason.code)
            return None

        def known_studies(source: Dataset) -> list[PriorStudy]:
            return priors(
                self.db,
                patient_key=patient_key(source),
                except_study=claimed.study_uid,
            )

        prepared = self.pipeline.prepare(
            claimed.study_uid,
            files,
            priors=known_studies,
            worklist=partial(self.worklist.answer, claimed.study_uid),
            today=datetime.now(UTC).date(),
            # Of a study that failed before nothing is asked that its report does not need.
            sample=self.config.monitor.sample if claimed.attempts == 1 else 0.0,
        )
        shadow = None
        if self.shadow is not None:
            shadow = self.shadow.prepare(prepared, self.pipeline.bundles[0], files)
        return _Ready(claimed, prepared, shadow)

    def _other_chests(self, item: _Ready) -> list[Embedding]:
        """Return the chests of the patient's other studies; none unless they are compared."""
        if not self.config.model.compare_chests:
            return []
        patient = patient_key(item.prepared.sources[0])
        return chests(self.db, patient_key=patient, except_study=item.claimed.study_uid)

    def _fail(self, claimed: ClaimedStudy, error: Exception) -> None:
        """Give the study back for another attempt, or fail it when there is no point."""
        permanent = isinstance(error, UnreadableInstance | InvalidReport)
        now = time.time()
        retry_at = None
        if not permanent and claimed.attempts < self.config.analyse.max_attempts:
            backoff = Backoff(self.config.analyse.retry_seconds, LONGEST_RETRY)
            retry_at = now + backoff.seconds(claimed.attempts)
        text = str(error) if isinstance(error, NodeError) else type(error).__name__
        reason = Reason("analysis_failed", text)
        log.error(
            "analysis_failed",
            study=claimed.study_uid,
            attempt=claimed.attempts,
            final=retry_at is None,
            exc_info=error,
        )
        fail(self.db, claimed, reason, retry_at=retry_at, now=now)

    def _renew(self) -> None:
        """Renew the leases, unless the batch hangs: then end the process, as a crash would.

        The study that it hangs on is taken back when its lease has run out, and is failed after
        its last attempt.
        """
        settings = self.config.analyse
        if self._busy_since and time.monotonic() - self._busy_since > settings.max_batch_seconds:
            log.critical("analyser_hangs", seconds=settings.max_batch_seconds)
            os._exit(1)
        lease = settings.lease_seconds
        STUDIES.renew(self.db, owner=self.owner, now=time.time(), lease_seconds=lease)
