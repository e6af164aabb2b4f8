"""Accepted proposals on their way out: copies in the outbox, and what could not be applied."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import ColumnElement, Connection, delete, exists, func, or_, select, update

from dicom_ai_node.answers import ModelIdentity
from dicom_ai_node.backoff import Backoff
from dicom_ai_node.errors import FillError
from dicom_ai_node.store.database import Database, as_record, upsert
from dicom_ai_node.store.decisions import DecidedBy, mark_applied
from dicom_ai_node.store.lifecycles import apply_event, lock_study
from dicom_ai_node.store.proposals import ProposalDetail, StoredProposal, in_force
from dicom_ai_node.store.reports import (
    COPY,
    QUEUED,
    NewReport,
    StoredFile,
    insert_report,
    queue_report,
)
from dicom_ai_node.store.tables import (
    analysis,
    proposal,
    report,
    report_file,
    stuck_fill,
    study,
    word,
)
from dicom_ai_node.study import OPEN_STATES, Event
from dicom_ai_node.study.proposals import ProposalState

BACKOFF = Backoff(first=600.0, longest=3600.0)
"""Before a study's proposals are applied by themselves again."""
_ACCEPTED = proposal.c.state == word(ProposalState.ACCEPTED)


@dataclass(frozen=True, slots=True)
class NewCopy:
    """A durable copy and who gets it."""

    file: StoredFile
    destination: str


def network_of(db: Database, inferred: StoredProposal) -> ModelIdentity | None:
    """Return the network whose estimate a proposal is, None where none is known.

    Of one that was made before its network was kept with it: that of the newest result of its time.
    """
    if inferred.model is not None:
        return inferred.model
    query = (
        select(analysis.c.result["model"])
        .where(analysis.c.study_instance_uid == inferred.study_instance_uid)
        .where(analysis.c.created_at <= inferred.created_at)
        .order_by(analysis.c.id.desc())
        .limit(1)
    )
    model = db.scalar(query)
    return ModelIdentity(**model) if model else None


def queue_copies(
    db: Database,
    study_uid: str,
    copies: Sequence[NewCopy],
    applied: Sequence[ProposalDetail],
    *,
    actor: str,
    reason: str,
    now: float,
    account: str = "",
) -> int:
    """Queue durable copies and mark the proposals ``applied``, all or nothing.

    Returns how many deliveries are new: a copy is queued once for each destination, however often
    it is asked for.

    Raises FillError: what is in force for the study changed while the copies were made.
    """
    with db.write() as connection:
        lock_study(connection, study_uid)
        now_in_force = [detail.proposal for detail in in_force(connection, study_uid)]
        if any(detail.proposal not in now_in_force for detail in applied):
            raise FillError("a proposal of the study changed while its copies were made: try again")
        fresh = sum(_queue(connection, study_uid, copy, now) for copy in copies)
        newly = [
            detail.proposal
            for detail in applied
            if fresh or detail.proposal.state is not ProposalState.APPLIED
        ]
        mark_applied(connection, newly, DecidedBy(actor, reason, now, account))
        if fresh:
            apply_event(connection, study_uid, Event.COPIES, now=now)
    db.announce(QUEUED)
    return fresh


def _queue(connection: Connection, study_uid: str, copy: NewCopy, now: float) -> bool:
    """Queue a copy for its destination; return whether it was not yet."""
    known = report_file.c.sop_instance_uid == copy.file.sop_instance_uid
    # Its file is there again, where retention had removed it.
    again = update(report_file).where(known).values(path=copy.file.path)
    report_id = connection.scalar(again.returning(report_file.c.report_id))
    if report_id is None:
        report_id = _insert(connection, study_uid, copy.file)
    return queue_report(connection, report_id, study_uid, copy.destination, now=now)


def _insert(connection: Connection, study_uid: str, file: StoredFile) -> int:
    """File a copy under the newest analysis whose reports may be kept."""
    bad = exists().where(report.c.analysis_id == analysis.c.id, report.c.quarantined != "")
    newest = (
        select(analysis.c.id)
        .where(analysis.c.study_instance_uid == study_uid, ~bad)
        .order_by(analysis.c.id.desc())
        .limit(1)
    )
    analysis_id = connection.execute(newest).scalar_one()
    return insert_report(connection, study_uid, NewReport(COPY, (file,)), analysis_id=analysis_id)


@dataclass(frozen=True, slots=True)
class Stuck:
    """Why a study's accepted proposals are not applied, or not all of them."""

    reason: str
    attempts: int
    tried_at: float
    not_before: float


def due(db: Database, *, now: float, limit: int) -> list[str]:
    """Return studies to apply proposals of, those first that failed least often.

    None that still collects images or waits for its analysis: it would miss the later images, or
    get what the analysis is about to withdraw. A decision since the last attempt makes it due.
    """
    decided_at = func.max(proposal.c.updated_at)
    query = (
        select(proposal.c.study_instance_uid)
        .join(study, study.c.study_instance_uid == proposal.c.study_instance_uid)
        .outerjoin(stuck_fill, stuck_fill.c.study_instance_uid == proposal.c.study_instance_uid)
        .where(_ACCEPTED, study.c.state.not_in(OPEN_STATES))
        .group_by(
            proposal.c.study_instance_uid,
            stuck_fill.c.attempts,
            stuck_fill.c.tried_at,
            stuck_fill.c.not_before,
        )
        .having(
            or_(
                stuck_fill.c.attempts.is_(None),
                stuck_fill.c.not_before <= now,
                decided_at > stuck_fill.c.tried_at,
            )
        )
        .order_by(func.coalesce(stuck_fill.c.attempts, 0), func.min(proposal.c.updated_at))
        .limit(limit)
    )
    return list(db.scalars(query))


def record_stuck(db: Database, study_uid: str, reason: str, *, now: float) -> bool:
    """Write down that nothing came of an attempt, or not all; return whether the reason is new."""
    query = select(stuck_fill).where(stuck_fill.c.study_instance_uid == study_uid)
    with db.write() as connection:
        before = connection.execute(query).first()
        attempts = before.attempts + 1 if before else 1
        stuck = Stuck(reason, attempts, now, now + BACKOFF.seconds(attempts))
        upsert(connection, stuck_fill, study_instance_uid=study_uid, **asdict(stuck))
    return before is None or before.reason != reason


def record_done(db: Database, study_uid: str) -> None:
    """Forget what kept a study's proposals from being applied."""
    db.change(delete(stuck_fill).where(stuck_fill.c.study_instance_uid == study_uid))


def why_stuck(db: Database, study_uid: str) -> Stuck | None:
    """Return what keeps a study's accepted proposals from being applied, None where none does."""
    mine = stuck_fill.c.study_instance_uid == study_uid
    row = db.first(select(stuck_fill).where(mine, _still_accepted()))
    return as_record(Stuck, row) if row else None


def count_stuck(db: Database) -> int:
    """Return how many studies have accepted proposals that could not be applied."""
    return db.count(select(func.count()).select_from(stuck_fill).where(_still_accepted()))


def _still_accepted() -> ColumnElement[bool]:
    """Whether there is anything left to apply: a person may have rejected it meanwhile."""
    mine = proposal.c.study_instance_uid == stuck_fill.c.study_instance_uid
    return exists().where(mine, _ACCEPTED)
