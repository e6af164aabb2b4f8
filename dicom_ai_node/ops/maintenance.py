"""The ``keep`` role: what has to be done from time to time, and the gateway.

Every job may run again after it was killed half-way, takes a bounded bite, and needs no other job
to have run before. Two of them do no harm.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence

import structlog

from dicom_ai_node.audit.study import remove_abandoned
from dicom_ai_node.config import Config
from dicom_ai_node.errors import NodeError, StorageError
from dicom_ai_node.fill import gateway
from dicom_ai_node.fill.apply import apply_due, copy_maker
from dicom_ai_node.ops import drift
from dicom_ai_node.ops.machine import (
    ClockWatch,
    Jump,
    SpaceLeft,
    bounds_of,
    database_space,
    room,
    spool_space,
)
from dicom_ai_node.ops.reconcile import Reconciler
from dicom_ai_node.ops.retention import Retention
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database
from dicom_ai_node.store.clock import bring_back, move_along
from dicom_ai_node.store.instances import forget_dead_associations
from dicom_ai_node.store.monitor import drop_observations
from dicom_ai_node.store.node import forget_silent, note_jump
from dicom_ai_node.store.patients import forget_chests
from dicom_ai_node.store.study_queue import close_due, next_closing
from dicom_ai_node.store.tallies import fold

Job = tuple[str, Callable[[], object], float]
"""Name, what to do, seconds between two beginnings."""
_CLOSE_SECONDS = 0.25
_LONGEST_SECONDS = 1.0
_LOOK_SECONDS = 0.5
"""What two looks at two clocks may be apart."""
_AFTER_A_FAILURE_SECONDS = 5.0
_APPLY_SECONDS = 15.0
_DAY = 86400.0
_HOUR = 3600.0
_SPACE_LEVELS = {
    SpaceLeft.ENOUGH: logging.INFO,
    SpaceLeft.LOW: logging.WARNING,
    SpaceLeft.OUT: logging.ERROR,
}

log = structlog.get_logger()


class Maintenance:
    """The periodic jobs of one node, each a method."""

    def __init__(self, config: Config, db: Database, spool: Spool) -> None:
        self.config = config
        self.db = db
        self.spool = spool
        self._space: dict[str, SpaceLeft] = {}
        self._applying = True
        self._reconciler = Reconciler(config, db, spool)
        self._bounds = bounds_of(config)
        self._clock = ClockWatch()
        self.retention = Retention(config, db, spool)

    def run(self, stop: threading.Event) -> None:
        """Do all jobs at their intervals until ``stop`` is set."""
        quick: list[Job] = [
            ("bring_times_back", self.bring_times_back, 15),
            ("forget_associations", self.forget_associations, 5),
            ("watch_space", self.watch_space, 30),
            ("drop_leftovers", self.drop_leftovers, 60),
            ("forget_workers", self.forget_workers, _HOUR),
            ("watch_drift", self.watch_drift, _HOUR),
            ("drop_observations", self.drop_observations, _HOUR),
            ("tidy", self.db.tidy, _HOUR),
            ("fold_tallies", lambda: fold(self.db), _HOUR),
        ]
        slow: list[Job] = [
            ("reconcile", lambda: self._reconciler.run_when_due(stop), 10),
            ("drop_images", lambda: self.retention.drop_images(stop), 60),
            ("drop_copies", lambda: self.retention.drop_copies(stop), _HOUR),
            ("drop_reports", lambda: self.retention.drop_reports(stop), _HOUR),
            ("drop_strays", self.retention.drop_strays, _DAY),
            ("forget_studies", lambda: self.retention.forget_studies(stop), _HOUR),
        ]
        if not self.config.model.compare_chests:
            slow.append(("forget_chests", lambda: forget_chests(self.db), _HOUR))
        if self.config.fill.auto_apply:
            slow.append(("apply_accepted", lambda: self.apply_accepted(stop), _APPLY_SECONDS))
        threads = [
            threading.Thread(target=run_jobs, args=(jobs, stop), name=name)
            for name, jobs in (("jobs", quick), ("slow-jobs", slow))
        ]
        for thread in threads:
            thread.start()
        try:
            self._close_studies_until(stop)
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def watch_clock(self) -> Jump | None:
        """See to it that nothing waits for a time that the clock, having been set, is far from."""
        jump = self._clock.look()
        if jump is not None:
            log.warning("clock_jumped", seconds=round(jump.seconds, 1))
            if abs(jump.seconds) >= _HOUR:
                self.retention.pause()
            since = jump.since - _LOOK_SECONDS
            move_along(self.db, self._bounds, jump=jump.seconds, since=since, now=jump.now)
            note_jump(self.db, jump.seconds, now=jump.now)
        return jump

    def bring_times_back(self) -> int:
        """Bound the times that lie ahead of the clock, such as after a start; return how many."""
        return _warned("times_brought_back", bring_back(self.db, self._bounds, now=time.time()))

    def close_studies(self) -> int:
        """Close the studies that have been quiet for long enough; return how many."""
        closed = close_due(self.db, now=time.time(), settings=self.config.study)
        for uid in closed:
            log.info("study_closed", study=uid)
        return len(closed)

    def forget_associations(self) -> int:
        """Let no study wait for a peer whose receiver died; return how many there were."""
        return _warned("associations_forgotten", forget_dead_associations(self.db, now=time.time()))

    def drop_leftovers(self) -> int:
        """Remove files of studies whose audit was killed and then ended; return how many."""
        return _warned("audit_leftovers_dropped", remove_abandoned(self.db, self.spool.root))

    def apply_accepted(self, stop: threading.Event) -> int:
        """Apply accepted proposals; return of how many studies. A failure is logged once."""
        make = copy_maker(self.db, self.config.report)
        try:
            count = apply_due(self.config, self.db, self.spool, make=make, stop=stop)
        except StorageError as error:
            if self._applying:
                log.error("applying_failed", exc_info=error)
            self._applying = False
            return 0
        self._applying = True
        return count

    def watch_space(self) -> dict[str, SpaceLeft]:
        """Log when free space falls below a mark of ``[storage]``, and when it is back."""
        settings = self.config.storage
        places = {"spool": (self.spool.root, spool_space)}
        if self.db.file is not None:
            places["database"] = (self.db.file, database_space)
        for name, (path, judge) in places.items():
            left = room(path)
            found = judge(left, settings)
            if found is not self._space.get(name, SpaceLeft.ENOUGH):
                log.log(_SPACE_LEVELS[found], f"space_{found}", where=name, left=str(left))
            self._space[name] = found
        return dict(self._space)

    def forget_workers(self) -> int:
        """Remove rows of processes that are long gone, such as those of an earlier set-up."""
        return forget_silent(self.db, before=time.time() - _HOUR)

    def watch_drift(self) -> bool:
        """Draw the control charts; return whether a flag put the model in shadow mode."""
        return drift.watch(self.db, self.config.monitor, now=time.time())

    def drop_observations(self) -> int:
        """Remove observations after ``monitor.retention_days``; return how many."""
        before = time.time() - self.config.monitor.retention_days * _DAY
        return drop_observations(self.db, before=before)

    def seconds_to_closing(self) -> float:
        """Return how long nothing has to be closed: until the first study is due, a second at most.

        A study that comes meanwhile may close a quarter of its quiet time late. One that is due and
        waits for its sender is looked at four times a second.
        """
        longest = min(_LONGEST_SECONDS, self.config.study.quiet_seconds / 4)
        first = next_closing(self.db)
        if first is None:
            return longest
        left = first - time.time()
        return min(_CLOSE_SECONDS if left <= 0 else left, longest)

    def _close_studies_until(self, stop: threading.Event) -> None:
        """When they are due, whatever the jobs are busy with."""
        failing = False
        while not stop.is_set():
            try:
                self.watch_clock()
                self.close_studies()
                wait = self.seconds_to_closing()
            except StorageError as error:
                if not failing:
                    log.error("closing_failed", exc_info=error)
                failing = True
                stop.wait(_AFTER_A_FAILURE_SECONDS)
            else:
                failing = False
                stop.wait(wait)


def _warned(event: str, count: int) -> int:
    if count:
        log.warning(event, count=count)
    return count


def run(config: Config, *, stop: threading.Event) -> None:
    """Do the maintenance of a node until ``stop`` is set."""
    db = Database(config.storage.database)
    spool = Spool(config.storage.spool)
    try:
        forwarding = gateway.start(config, db, spool, stop)
        Maintenance(config, db, spool).run(stop)
        if forwarding is not None:
            forwarding.join(config.operate.stop_seconds / 2)
    finally:
        db.close()


def run_jobs(jobs: Sequence[Job], stop: threading.Event) -> None:
    """Do each job at once and then at its interval, one at a time, until ``stop`` is set.

    A job that is late runs once, however many runs it missed. One that fails is tried again at its
    next turn; a failure of the same kind in a row is logged once.
    """
    due = dict.fromkeys(range(len(jobs)), time.monotonic())
    failing: dict[str, str] = {}
    while not stop.is_set():
        number = min(due, key=due.__getitem__)
        if stop.wait(max(0.0, due[number] - time.monotonic())):
            return
        name, job, seconds = jobs[number]
        due[number] = time.monotonic() + seconds
        try:
            job()
        except Exception as error:
            kind = str(error) if isinstance(error, NodeError) else type(error).__name__
            if failing.get(name) != kind:
                log.exception("job_failed", job=name)
            failing[name] = kind
        else:
            failing.pop(name, None)
