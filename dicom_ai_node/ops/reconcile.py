"""Holds the files of the spool against the rows of the database, where a backup was restored.

What lies in ``instances/`` was durable before its row was committed, and acknowledged after that. A
file without a row is therefore filed again: at worst its sender was told 0xA700 and sends it once
more. Nothing in there is ever removed for want of a row; a file that was damaged is put aside.
"""

import threading
import time
from pathlib import Path

import structlog

from dicom_ai_node.config import Config
from dicom_ai_node.config.bundles import analysed_classes
from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.receive.refiling import Unfiled, file_again, read_unfiled
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database
from dicom_ai_node.store.engines import identity_of
from dicom_ai_node.store.instances import filed_in, record_quarantine
from dicom_ai_node.store.node import FileCounts, count_files

_SETTLED_SECONDS = 20.0
"""A younger file is most likely being filed now."""
_AGAIN_SECONDS = 3600.0

log = structlog.get_logger()


class Reconciler:
    """Looks through the spool at the start, every hour, and when the database was replaced."""

    def __init__(self, config: Config, db: Database, spool: Spool) -> None:
        self._config = config
        self._db = db
        self._spool = spool
        self._due = 0.0
        self._database: tuple[int, int] | None = None
        self._missing = 0

    def run_when_due(self, stop: threading.Event) -> FileCounts | None:
        """Look through the spool when it is time to; return what was found then."""
        database = identity_of(self._db.file) if self._db.file else None
        replaced = self._database is not None and database != self._database
        self._database = database
        if not replaced and time.monotonic() < self._due:
            return None
        found = self.run(stop)
        self._due = time.monotonic() + (_SETTLED_SECONDS if found.waiting else _AGAIN_SECONDS)
        return found

    def run(self, stop: threading.Event) -> FileCounts:
        """Look through the spool once, and file what has no row."""
        without_row: list[Path] = []
        young = missing = 0
        for number in range(256):
            if stop.is_set():
                break
            unfiled, lost = self._compare(f"{number:02x}")
            settled = [path for path in unfiled if _age(path) >= _SETTLED_SECONDS]
            without_row += settled
            young += len(unfiled) - len(settled)
            missing += lost
        filed, damaged = self._file(without_row, stop)
        if filed:
            log.warning("files_registered", count=filed)
        if missing != self._missing:
            log.error("files_missing", count=missing)
            self._missing = missing
        counts = FileCounts(filed, damaged, missing=missing, waiting=young)
        return count_files(self._db, counts, now=time.time())

    def _compare(self, prefix: str) -> tuple[list[Path], int]:
        """Return the files that have no row, and how many rows have no file."""
        folder = self._spool.instances / prefix
        files = {path.stem: path for path in folder.glob("*.dcm")} if folder.is_dir() else {}
        rows = filed_in(self._db, prefix)  # later than the files: what was filed since has a row
        lost = (path for digest, path in rows.items() if digest not in files)
        missing = sum(not self._spool.path(path).exists() for path in lost)
        return [path for digest, path in files.items() if digest not in rows], missing

    def _file(self, paths: list[Path], stop: threading.Event) -> tuple[int, int]:
        """File what can be read, study by study, so that each is analysed whole."""
        unfiled: list[Unfiled] = []
        damaged = 0
        for path in paths:
            if stop.is_set():
                return 0, damaged
            try:
                unfiled.append(read_unfiled(self._spool, path, self._config.limits.bounds))
            except UnreadableInstance as error:
                self._put_aside(path, str(error))
                damaged += 1
            except OSError as error:  # removed meanwhile, or the disk fails
                log.error("file_not_read", error=error)
        for image in sorted(unfiled, key=lambda image: image.study_instance_uid):
            forward = bool(self._config.forwarding)
            file_again(
                self._db,
                image,
                analysed=analysed_classes(self._config.model),
                settings=self._config.study,
                forward=forward,
                now=time.time(),
            )
            log.debug("file_registered", study=image.study_instance_uid)
        return len(unfiled), damaged

    def _put_aside(self, path: Path, reason: str) -> None:
        target = self._spool.quarantine / path.name
        path.rename(target)
        target.with_suffix(".reason.txt").write_text(f"{reason}\n", encoding="utf-8")
        name = self._spool.relative(target)
        record_quarantine(self._db, path=name, calling_ae="", reason=reason, now=time.time())
        log.error("file_damaged", reason=reason)


def _age(path: Path) -> float:
    try:  # a time ahead was written before the clock was set
        return abs(time.time() - path.stat().st_mtime)
    except FileNotFoundError:
        return 0.0
