"""The loop of an audit: list, then study by study, with a checkpoint after every few.

A process may be killed anywhere: what is settled is never asked for again, what was under way is.
"""

import errno
import shutil
import tempfile
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import structlog

from dicom_ai_node.archive.member import StudyFacts
from dicom_ai_node.archive.rules import for_listing
from dicom_ai_node.audit.campaign import Depth, Ended, Ending
from dicom_ai_node.audit.listing import Lister
from dicom_ai_node.audit.pacing import Hold
from dicom_ai_node.audit.session import AuditSession, Task, describe
from dicom_ai_node.audit.sources import BrokenOff, Fetched, Listed, OtherStudy, Source
from dicom_ai_node.audit.study import Analyse, Attempt, listed_from_row
from dicom_ai_node.errors import ConfigError, PeerUnavailable, StorageError
from dicom_ai_node.rules import TextHeader, check
from dicom_ai_node.rules.text_header import distinct
from dicom_ai_node.spool import storage_error
from dicom_ai_node.store import audit_studies, audits
from dicom_ai_node.store.audit_studies import ClaimedListed, SettledStudy
from dicom_ai_node.study import AuditEvent, AuditState

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_MOST_REASONS = 3
_AT_ONCE = 16
_AT_ONCE_SECONDS = 0.5
"""Of studies that are worked off without a look at who else wants something."""

log = structlog.get_logger()


def collect(session: AuditSession) -> Ending:
    """Collect until all is settled, or until told to end; the audit's lease must be held.

    Raises AuditError or ConfigError where the audit cannot go on, StorageError where nothing can be
    stored at the moment.
    """
    try:
        session.begin()
        Lister(session).run()
        Collector(session).run()
    except Ended as ended:
        return ended.ending
    finally:
        session.drop_source()
    task = session.task
    moved = audits.apply(
        session.db, task.audit_id, AuditEvent.COMPLETE, owner=task.owner, now=task.now()
    )
    return Ending.DONE if moved and moved[1] is AuditState.DONE else Ending.LEFT


class Collector:
    """Works off the studies that were listed."""

    def __init__(self, session: AuditSession) -> None:
        self.session = session
        self._db = session.db
        self._task = session.task
        self._hindered = 0
        """How often in a row by this machine, which is no fault of the study."""
        self._settled: list[SettledStudy] = []
        """Not stored yet."""

    def run(self) -> None:
        """Collect study by study until all are settled."""
        task = self._task
        while (due := audit_studies.next_due(self._db, task.audit_id)) is not None:
            source = self.session.source(paced=True)
            now = task.now()
            claimed = audit_studies.claim(
                self._db, task.audit_id, owner=task.owner, now=now, limit=self._at_once
            )
            if claimed:
                self._work_off(source, deque(claimed))
            else:
                waits = "studies that failed are to be tried again"
                self.session.rest(Hold(waits, max(0.0, due - now)))

    @property
    def _at_once(self) -> int:
        """How many studies are claimed, and settled, in one transaction.

        Headers alone come faster than a disk commits. Images do not, and a rate is of studies one
        by one.
        """
        task = self._task
        is_fast = task.spec.depth is Depth.HEADERS and not task.settings.studies_per_minute
        return _AT_ONCE if is_fast else 1

    def _work_off(self, source: Source, claimed: deque[ClaimedListed]) -> None:
        """Attempt one after the other until one fails, or they take long: others may wait."""
        until = self._task.now() + _AT_ONCE_SECONDS
        good = True
        try:
            while claimed and good and self._task.now() < until:
                self.session.check()
                good = self._attempt(source, claimed.popleft())
        finally:
            self._store()
            if claimed and not audit_studies.hand_back(
                self._db, self._task.audit_id, claimed, owner=self._task.owner
            ):
                raise Ended(Ending.LOST)

    def _attempt(self, source: Source, claimed: ClaimedListed) -> bool:
        """Ask for one study; return whether the source answered, and all of it."""
        listed = listed_from_row(claimed.listed)
        into = Attempt.of(source, listed, claimed.key)
        if claimed.attempts > self._task.settings.max_attempts:
            self._settle(into, "the program ended in every attempt to read it")
            return True
        task, began = self._task, self._task.now()
        call = partial(gather, source, listed, into, task)
        try:
            self.session.ask(task.settings.study_timeout_seconds, call)
        except Ended:
            self._put_back(claimed)
            raise
        except PeerUnavailable as error:
            self.session.pacing.asked(began)
            self._unreachable(source, claimed, into, error)
        except Exception as error:  # noqa: BLE001
            self.session.pacing.asked(began)
            self._erred(claimed, into, error)
        else:
            self._hindered = 0
            self.session.pacing.answered()
            self.session.pacing.asked(began)
            if not into.incomplete:
                self._settle(into, into.fault)
                return True
            self._failed(claimed, into, into.fault)
        return False

    def _erred(self, claimed: ClaimedListed, into: Attempt, error: Exception) -> None:
        no_room = isinstance(error, OSError) and error.errno in _NO_ROOM
        if no_room or isinstance(error, StorageError | ConfigError):
            self._put_back(claimed)
            self._hindered += 1
            reason = "no room for fetched files" if no_room else describe(error)
            self.session.pacing.back_off(self._task.now(), self._hindered, reason)
        else:
            self._failed(claimed, into, describe(error))

    def _unreachable(
        self, source: Source, claimed: ClaimedListed, into: Attempt, error: PeerUnavailable
    ) -> None:
        """Find out whether the source is away as a whole: then no study's attempt is used up."""
        try:
            its_own = self.session.is_to_blame(claimed.key, source, error)
        except Ended:
            self._put_back(claimed)
            raise
        if its_own:
            self._failed(claimed, into, describe(error))
        else:  # behind the others: should it be what brings the source down, they come first
            self._postpone(claimed, not_before=self._task.now(), counted=False)

    def _failed(self, claimed: ClaimedListed, into: Attempt, fault: str) -> None:
        task = self._task
        final = claimed.attempts >= task.settings.max_attempts
        log.warning(
            "audit_study_failed",
            audit=task.audit_id,
            study=claimed.key,
            attempt=claimed.attempts,
            final=final,
            fault=fault,
        )
        if final:
            self._settle(into, fault)
        else:
            pause = self.session.pacing.pause(claimed.attempts)
            self._postpone(claimed, not_before=task.now() + pause, counted=True, fault=fault)

    def _put_back(self, claimed: ClaimedListed) -> None:
        """Ask for it again first: what happened was no fault of the study."""
        self._postpone(claimed, not_before=0.0, counted=False)

    def _postpone(
        self, claimed: ClaimedListed, *, not_before: float, counted: bool, fault: str = ""
    ) -> None:
        mine = audit_studies.postpone(
            self._db,
            self._task.audit_id,
            claimed,
            owner=self._task.owner,
            not_before=not_before,
            counted=counted,
            fault=fault,
        )
        if not mine:
            raise Ended(Ending.LOST)

    def _settle(self, into: Attempt, fault: str) -> None:
        self._settled.append(into.row(fault))

    def _store(self) -> None:
        """Keep what was settled."""
        task, rows, self._settled = self._task, self._settled, []
        if not rows:
            return
        if not audit_studies.settle(
            self._db, task.audit_id, rows, owner=task.owner, now=task.now()
        ):
            raise Ended(Ending.LOST)
        progress = self.session.progress
        progress.settled += len(rows)
        progress.faults += sum(bool(row.fault) for row in rows)
        self.session.show_progress()


def gather(source: Source, listed: Listed, into: Attempt, task: Task) -> None:
    """Ask for as much of the study as the audit's depth wants.

    What is fetched lies below the task's folder and is removed before this returns. Raises what the
    source raises, and StorageError where that folder cannot be written.
    """
    if task.spec.depth is not Depth.ALL:
        try:
            _use(into, source.headers(listed), whole=source.whole_headers)
        except OtherStudy as error:
            _use(into, error.headers, whole=source.whole_headers)
            into.fault, into.incomplete = str(error), True
    analyse = task.analyse
    if analyse is None or not _wants_images(into, task):
        return
    fetched = _made_below(task.folder)
    try:
        _look(source.fetch(listed, fetched), into, analyse)
    except BrokenOff as error:
        _look(error.fetched, into, analyse)
        raise
    finally:
        shutil.rmtree(fetched, ignore_errors=True)


def _made_below(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Path(tempfile.mkdtemp(dir=folder))
    except OSError as error:
        raise storage_error(error) from error


def _wants_images(into: Attempt, task: Task) -> bool:
    if task.spec.depth is Depth.FLAGGED:
        rules = task.rules if into.facts.from_files else for_listing(task.rules)
        return check(into.facts.headers, settings=rules, today=task.spec.today).flagged
    return task.spec.depth is Depth.ALL


def _look(fetched: Fetched, into: Attempt, analyse: Analyse) -> None:
    if fetched.expected is not None:
        into.expected = fetched.expected
    into.arrived = len(fetched.files)
    missing = into.expected is not None and into.arrived < into.expected
    into.incomplete = missing or bool(fetched.faults)
    faults = [f"{into.arrived} of {into.expected} instances arrived"] if missing else []
    faults += _reasons(fetched.faults)
    if fetched.files:
        seen = analyse(into.facts.study_instance_uid, fetched.files)
        _use(into, seen.headers, whole=True)
        into.result = seen.result
        if seen.unreadable:
            faults.append(f"{seen.unreadable} of {into.arrived} files cannot be read as DICOM")
    elif not faults and into.expected != 0:
        into.incomplete = True
        faults.append("the source sent nothing")
    into.fault = "; ".join(faults)


def _use(into: Attempt, headers: Sequence[TextHeader], *, whole: bool) -> None:
    """Let headers of instances take the place of what the listing said."""
    if headers:
        facts = into.facts
        uid = facts.study_instance_uid or headers[0].clean("StudyInstanceUID")
        into.facts = StudyFacts(uid, distinct(headers), facts.listed, from_files=whole)


def _reasons(faults: Mapping[str, str]) -> list[str]:
    """Return why instances did not come, the most frequent first, without naming them."""
    counted = Counter(faults.values()).most_common()
    texts = [f"{reason} ({count})" for reason, count in counted[:_MOST_REASONS]]
    return [*texts, *(["and other faults"] if len(counted) > _MOST_REASONS else [])]
