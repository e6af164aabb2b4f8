"""The audit and its source: when it may ask, for how long, and who sees how far it is."""

import threading
import time
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import structlog

from dicom_ai_node.audit.campaign import AuditSpec, Ended, Ending, Progress
from dicom_ai_node.audit.pacing import Hold, Pacing
from dicom_ai_node.audit.sources import Source
from dicom_ai_node.audit.study import Analyse
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.config.stages import AuditSettings
from dicom_ai_node.errors import NodeError, PeerUnavailable, UnreadableInstance
from dicom_ai_node.store import Database, audits
from dicom_ai_node.study import AuditState

_LOOK_SECONDS = 2.0
"""How soon a pause or a stop is noticed while the audit waits."""
_CLOSE_SECONDS = 10.0
_POLL_SECONDS = 0.1

_T = TypeVar("_T")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be collected, and with what."""

    audit_id: int
    spec: AuditSpec
    owner: str
    """Who holds the audit's lease."""
    open_source: Callable[[], Source]
    settings: AuditSettings
    rules: RulesSettings
    folder: Path
    """For what is fetched; made when needed."""
    analyse: Analyse | None = None
    """None: no images are asked for."""
    stop: threading.Event = field(default_factory=threading.Event)
    stop_seconds: float = 0.0
    """How long after ``stop`` the call under way may still take."""
    on_progress: Callable[[Progress], None] = lambda _: None
    now: Callable[[], float] = time.time
    wait: Callable[[float], object] | None = None
    """Sleeps so many seconds, or until ``stop``; that event's own wait when None."""


class AuditSession:
    """One process at work on one audit."""

    def __init__(self, db: Database, task: Task, pacing: Pacing | None = None) -> None:
        self.db = db
        self.task = task
        self.progress = Progress()
        self.pacing = pacing or Pacing(
            task.settings, live=lambda: audits.live_studies(db, now=task.now())
        )
        self._wait = task.wait or task.stop.wait
        self._source: Source | None = None
        self._broke_off: set[str] = set()
        self._noted = ""

    def begin(self) -> None:
        """Read how far the audit is; Ended when it is another's."""
        row = audits.show(self.db, self.task.audit_id)
        if row is None or row.owner != self.task.owner:
            raise Ended(Ending.LOST)
        self._noted = row.note
        self.progress = Progress(
            slices_done=row.slices_done,
            listing_done=row.listing_done,
            listed=row.listed,
            settled=row.settled,
            faults=row.faults,
        )

    def source(self, *, paced: bool) -> Source:
        """Return the open source as soon as it may be asked; ``paced`` for a study.

        One that was away is asked for nothing until it answers a probe. Raises Ended where the
        audit is to end before that.
        """
        while True:
            self._hold(paced=paced)
            try:
                source = self._source = self._source or self.task.open_source()
                if self.pacing.away:
                    self._probe(source)
                return source
            except PeerUnavailable as error:
                self.pacing.unreachable(self.task.now(), describe(error))

    def is_to_blame(self, what: str, source: Source, error: PeerUnavailable) -> bool:
        """Return whether ``what`` was asked for is why the source broke off.

        It is to blame where the source answers a probe now, and where the source broke off over it
        before. Else the source is taken to be away as a whole, and the audit waits.
        Raises Ended where the process was asked to stop meanwhile.
        """
        if self.pacing.hold(self.task.now(), paced=False) is None:
            try:
                self._probe(source)
            except PeerUnavailable:
                pass
            else:
                return True
        self.pacing.unreachable(self.task.now(), describe(error))
        again = what in self._broke_off
        self._broke_off.add(what)
        return again

    def drop_source(self) -> None:
        """Let go of the source: after a hang it cannot be trusted, nor can its ``close``."""
        source, self._source = self._source, None
        if source is not None:
            with suppress(Exception):
                within(_CLOSE_SECONDS, source.close, stop=threading.Event())

    def ask(self, seconds: float | None, call: Callable[[], _T]) -> _T:
        """Return what ``call`` into the source returns.

        Raises Ended where the process was asked to stop and ``stop_seconds`` are over, TimeoutError
        where it took longer than ``seconds``; then the source has been dropped.
        """
        task = self.task
        try:
            return within(seconds, call, stop=task.stop, grace_seconds=task.stop_seconds)
        except TimeoutError:
            self.drop_source()
            raise

    def rest(self, hold: Hold) -> None:
        """Wait for a while, at most until the next look at what a person wants."""
        self.show_progress(hold.reason)
        self._wait(min(hold.seconds, _LOOK_SECONDS))

    def show_progress(self, waits: str = "") -> None:
        """Show the progress to who watches."""
        self.progress.waits = waits
        self.task.on_progress(self.progress)

    def _probe(self, source: Source) -> None:
        """Raise PeerUnavailable unless the source answers the least of questions."""
        try:
            self.ask(self.task.settings.listing_timeout_seconds, source.probe)
        except (Ended, PeerUnavailable):
            raise
        except Exception as error:
            raise PeerUnavailable(describe(error)) from error
        self.pacing.answered()

    def _hold(self, *, paced: bool) -> None:
        while True:
            self.check()
            hold = self.pacing.hold(self.task.now(), paced=paced)
            self._note(hold)
            if hold is None:
                return
            self.rest(hold)

    def check(self) -> None:
        """Raise Ended where process or person want the audit to end, or it is another's."""
        if self.task.stop.is_set():
            raise Ended(Ending.STOPPED)
        state = audits.standing(self.db, self.task.audit_id, owner=self.task.owner)
        if state is None:
            raise Ended(Ending.LOST)
        if state is not AuditState.RUNNING:
            raise Ended(Ending.LEFT)

    def _note(self, hold: Hold | None) -> None:
        text = hold.reason if hold is not None and hold.lasting else ""
        if text != self._noted:
            task = self.task
            audits.note(self.db, task.audit_id, text, owner=task.owner, now=task.now())
            log.info("audit_waits" if text else "audit_goes_on", audit=task.audit_id, why=text)
            self._noted = text


def describe(error: Exception) -> str:
    """Return one line without patient data.

    What others' messages quote is not known, and a file that cannot be read is named by its path,
    in which a patient's name may stand.
    """
    is_ours = isinstance(error, NodeError) and not isinstance(error, UnreadableInstance)
    is_ours = is_ours or type(error) is TimeoutError
    return str(error).partition("\n")[0] if is_ours else type(error).__name__


def within(
    seconds: float | None,
    call: Callable[[], _T],
    *,
    stop: threading.Event,
    grace_seconds: float = 0.0,
) -> _T:
    """Return what ``call`` returns, or raise what it raises.

    Raises TimeoutError where it takes longer than ``seconds`` (None: any), and Ended
    ``grace_seconds`` after ``stop`` was set. A call that is given up cannot be ended in Python: its
    thread lives on, without harm to the end of the process, and what it holds must not be used
    again.
    """
    outcome: Future[_T] = Future()

    def work() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001
            outcome.set_exception(error)

    threading.Thread(target=work, name="watched", daemon=True).start()
    began = time.monotonic()
    stopped_at: float | None = None
    while not futures.wait([outcome], _POLL_SECONDS).done:
        now = time.monotonic()
        if seconds is not None and now - began > seconds:
            raise TimeoutError(f"no answer within {seconds:g} s")
        if stop.is_set() and stopped_at is None:
            stopped_at = now
        if stopped_at is not None and now - stopped_at >= grace_seconds:
            raise Ended(Ending.STOPPED)
    return outcome.result()
