"""What ``keep`` removes when its time is over: files, and at last rows.

Every job may run again after it was killed half-way, and takes a bounded bite.
"""

import math
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import structlog

from dicom_ai_node.config import Config
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database
from dicom_ai_node.store.retention import (
    drop_expired,
    drop_reports,
    drop_sent,
    forget_studies,
    report_paths,
)

_DAY = 86400.0
_HOUR = 3600.0
_FILES_A_TRANSACTION = 50
"""SQLite lets nobody else write meanwhile."""
_TRANSACTIONS_A_RUN = 200
_FRESH_SECONDS = 300.0
"""A file written so lately is being received a second time: its row is about to be renewed."""
_PAUSE_SECONDS = _DAY

log = structlog.get_logger()


class Retention:
    """The jobs of ``[storage]`` that remove something, each a method."""

    def __init__(self, config: Config, db: Database, spool: Spool) -> None:
        self.config = config
        self.db = db
        self.spool = spool
        self._may_remove_at = 0.0
        """Monotonic."""

    def pause(self) -> None:
        """Remove nothing for a day: a clock that was set wrong must not empty the spool."""
        self._may_remove_at = time.monotonic() + _PAUSE_SECONDS
        log.warning("retention_paused", hours=_PAUSE_SECONDS / _HOUR)

    def drop_images(self, stop: threading.Event) -> int:
        """Remove received files of settled studies after ``retention_days``; return how many.

        Nothing of a study that is unsent, undelivered or failed, or whose proposal is undecided.
        """
        drop = partial(drop_expired, self.db, now=time.time(), remove=self._remove)
        return self._in_bites("images_dropped", self.config.storage.retention_days, drop, stop)

    def drop_copies(self, stop: threading.Event) -> int:
        """Remove filled copies ``retention_days`` after all have them; return how many."""
        drop = partial(drop_sent, self.db, remove=self._remove)
        return self._in_bites("copies_dropped", self.config.storage.retention_days, drop, stop)

    def drop_reports(self, stop: threading.Event) -> int:
        """Remove report files ``report_retention_days`` after all have them; return how many."""
        days = self.config.storage.report_retention_days
        drop = partial(drop_reports, self.db, remove=self._remove)
        return self._in_bites("reports_dropped", days, drop, stop) if days else 0

    def drop_strays(self) -> int:
        """Remove made files that no row names, and parts of files; return how many.

        Who was killed between file and row leaves one. It may have been sent before a backup was
        restored, and then is what a repeated analysis sends again: it stays as long as reports do.
        """
        days = self.config.storage.report_retention_days
        parts = self.spool.sweep()
        if not days or time.monotonic() < self._may_remove_at:
            return parts
        before = time.time() - max(days * _DAY, _HOUR)
        old = [path for path in self.spool.reports.glob("*/*.dcm") if _modified(path) < before]
        if old:
            named = report_paths(self.db)
            old = [path for path in old if self.spool.relative(path) not in named]
        for path in old:
            path.unlink(missing_ok=True)
        if old:
            log.info("strays_dropped", count=len(old))
        return parts + len(old)

    def forget_studies(self, stop: threading.Event) -> int:
        """Remove the rows of studies after ``row_retention_days``; return of how many."""
        days = self.config.storage.row_retention_days
        drop = partial(forget_studies, self.db, now=time.time())
        return self._in_bites("studies_forgotten", days, drop, stop) if days else 0

    def _in_bites(
        self, event: str, days: float, drop: Callable[..., int], stop: threading.Event
    ) -> int:
        """Let ``drop`` remove what is older than ``days``, a few at a time; return how many."""
        if time.monotonic() < self._may_remove_at:
            return 0
        before, total = time.time() - days * _DAY, 0
        for _ in range(_TRANSACTIONS_A_RUN):
            count = drop(before=before, limit=_FILES_A_TRANSACTION)
            total += count
            if not count or stop.is_set():
                break
        if total:
            log.info(event, count=total)
        return total

    def _remove(self, relative: str) -> bool:
        """Remove a file of the spool, unless it is fresh; return whether it is gone."""
        path = self.spool.path(relative)
        try:
            if time.time() - path.stat().st_mtime < _FRESH_SECONDS:
                return False
            path.unlink()
        except FileNotFoundError:
            return True  # removed by a run that was killed before it could say so
        except OSError as error:
            log.error("file_not_removed", error=error)
            return False
        return True


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return math.inf
