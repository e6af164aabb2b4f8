"""Applies what is accepted without a person asking for it: ``[fill] auto_apply``.

By the same :func:`~dicom_ai_node.fill.apply.apply` as on the command line, so with the same
admission. A study that fails is left alone for a growing time, and says why to who looks.
"""

import threading
import time

import structlog

from dicom_ai_node.config import Config
from dicom_ai_node.decide.decisions import POLICY, ProposalState
from dicom_ai_node.errors import NodeError, StorageFull
from dicom_ai_node.fill.apply import Applied, CopyMaker, apply
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database
from dicom_ai_node.store.fills import due, record_done, record_stuck
from dicom_ai_node.store.proposals import applicable

_STUDIES_A_RUN = 50

log = structlog.get_logger()


def apply_due(
    config: Config, db: Database, spool: Spool, *, make: CopyMaker, stop: threading.Event
) -> int:
    """Apply the accepted proposals of the studies that are due; return of how many all are applied.

    Raises
    ------
    StorageError
        The database fails, or there is no room for copies; what was applied before stays so.
    """
    done = 0
    for uid in due(db, now=time.time(), limit=_STUDIES_A_RUN):
        if stop.is_set():
            break
        fault: Exception | None = None
        try:
            reason = _apply(config, db, spool, uid, make)
        except StorageFull:
            raise
        except Exception as error:  # noqa: BLE001 - must not cost other studies their copies
            reason, fault = _said(error), error
        if not reason:
            record_done(db, uid)
            done += 1
        elif record_stuck(db, uid, reason, now=time.time()):
            log.warning("proposals_not_applied", study=uid, reason=reason, exc_info=fault)
    return done


def _said(error: Exception) -> str:
    known = isinstance(error, NodeError)
    return str(error) if known else f"an error of this program: {type(error).__name__}"


def _apply(config: Config, db: Database, spool: Spool, uid: str, make: CopyMaker) -> str:
    """Apply what is accepted for a study; return why some of it is left, '' when nothing is."""
    applied = apply(config, db, spool, uid, actor=POLICY, make=make, now=time.time())
    log.info("proposals_applied", study=uid, images=applied.images, queued=applied.queued)
    return _left(applied, db, uid)


def _left(applied: Applied, db: Database, uid: str) -> str:
    accepted = {
        one.proposal.proposed.keyword
        for one in applicable(db, uid)
        if one.proposal.state is ProposalState.ACCEPTED
    }
    refusals = [
        f"{one.destination}: {keyword} ({why})"
        for one in applied.admissions
        for keyword, why in one.refused.items()
        if keyword in accepted
    ]
    return f"no destination takes it: {'; '.join(refusals)}" if accepted else ""
