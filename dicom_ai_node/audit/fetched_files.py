"""The files that an audit fetches, and those of one whose process was killed meanwhile."""

import shutil
import time
from contextlib import suppress
from pathlib import Path

import structlog

from dicom_ai_node.store import Database, audits

log = structlog.get_logger()


def folder_of(spool: Path, audit_id: int) -> Path:
    """Return where an audit keeps what it fetches."""
    return _root(spool) / str(audit_id)


def remove_abandoned(db: Database, spool: Path) -> int:
    """Remove what audits left that nobody works on; return how many studies that was of.

    The files of an audit that was killed and still is running are removed by who takes it over.
    """
    # Looked for first: who takes an audit from now on makes a new folder for each study.
    studies = sorted(_root(spool).glob("*/*"))
    in_use = {str(one) for one in audits.in_use(db, now=time.time())} if studies else set()
    left = [one for one in studies if one.parent.name not in in_use]
    for study in left:
        shutil.rmtree(study, ignore_errors=True)
        with suppress(OSError):
            study.parent.rmdir()
        if study.exists():
            log.error("audit_files_not_removed", audit=study.parent.name)
    return sum(not study.exists() for study in left)


def _root(spool: Path) -> Path:
    return spool.absolute() / "audit"
