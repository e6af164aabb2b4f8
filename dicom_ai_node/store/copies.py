"""Filled copies of a study's images on their way out: in the outbox of the reports."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, exists, or_, select, update

from dicom_ai_node.decide.decisions import ProposalState
from dicom_ai_node.errors import FillError
from dicom_ai_node.store.database import Database
from dicom_ai_node.store.decisions import mark_applied
from dicom_ai_node.store.history import apply_event, lock_study
from dicom_ai_node.store.proposals import ProposalDetail, StoredProposal, in_force
from dicom_ai_node.store.reports import (
    COERCED,
    COPY,
    NewReport,
    StoredFile,
    insert_report,
    queue_report,
)
from dicom_ai_node.store.tables import analysis, delivery, instance, report, report_file
from dicom_ai_node.study import Event
from dicom_ai_node.types import ModelIdentity


@dataclass(frozen=True, slots=True)
class Original:
    """An image of a study: the newest version of what came under its UID."""

    sop_instance_uid: str
    path: str
    """Relative to the spool."""
    calling_ae: str
    is_gone: bool
    """Retention has removed the file."""


@dataclass(frozen=True, slots=True)
class NewCopy:
    """A durable copy and who gets it."""

    file: StoredFile
    destination: str


def originals(db: Database, uid: str) -> list[Original]:
    """Return the images of a study of the classes that are analysed."""
    query = (
        select(instance)
        .where(instance.c.study_instance_uid == uid, instance.c.analysable)
        .order_by(instance.c.id)
    )
    with db.read() as connection:
        newest = {row.sop_instance_uid: row for row in connection.execute(query)}
    return [
        Original(row.sop_instance_uid, row.path, row.calling_ae, row.dropped_at is not None)
        for row in newest.values()
    ]


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
    with db.read() as connection:
        model = connection.execute(query).scalar()
    return ModelIdentity(**model) if model else None


def queue_copies(
    db: Database,
    uid: str,
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

    Raises
    ------
    FillError
        What is in force for the study changed while the copies were made.
    """
    with db.write() as connection:
        lock_study(connection, uid)
        now_in_force = {one.proposal.id: one.proposal for one in in_force(connection, uid)}
        if any(now_in_force.get(one.proposal.id) != one.proposal for one in applied):
            raise FillError("a proposal of the study changed while its copies were made: try again")
        fresh = sum(_queue(db, connection, uid, copy, now) for copy in copies)
        newly = [
            one.proposal
            for one in applied
            if fresh or one.proposal.state is not ProposalState.APPLIED
        ]
        mark_applied(connection, newly, actor=actor, account=account, reason=reason, now=now)
        if fresh:
            apply_event(connection, uid, Event.COPIES, now=now)
        return fresh


def drop_sent(db: Database, *, before: float, limit: int, remove: Callable[[str], bool]) -> int:
    """Let ``remove`` take away copies, coerced images among them, that all their destinations had
    before ``before``.

    A copy is as large as its image, and can be made again as long as that is kept. Returns how many
    went; ``remove`` is as in :func:`.instances.drop_expired`.
    """
    unsent = exists().where(
        delivery.c.report_id == report.c.id,
        or_(delivery.c.state != "delivered", delivery.c.settled_at >= before),
    )
    query = (
        select(report_file.c.sop_instance_uid, report_file.c.path)
        .join(report, report.c.id == report_file.c.report_id)
        .where(report.c.kind.in_((COPY, COERCED)), report_file.c.path != "", ~unsent)
        .limit(limit)
    )
    with db.write() as connection:
        rows = connection.execute(query.with_for_update(skip_locked=True)).all()
        gone = [row.sop_instance_uid for row in rows if remove(row.path)]
        mine = report_file.c.sop_instance_uid.in_(gone)
        connection.execute(update(report_file).where(mine).values(path=""))
        return len(gone)


def _queue(db: Database, connection: Connection, uid: str, copy: NewCopy, now: float) -> bool:
    """Queue a copy for its destination; return whether it was not yet."""
    known = report_file.c.sop_instance_uid == copy.file.sop_instance_uid
    # Its file is there again, where retention had removed it.
    again = update(report_file).where(known).values(path=copy.file.path)
    report_id = connection.execute(again.returning(report_file.c.report_id)).scalar()
    if report_id is None:
        report_id = _insert(connection, uid, copy.file)
    return queue_report(db, connection, report_id, uid, copy.destination, now=now)


def _insert(connection: Connection, uid: str, file: StoredFile) -> int:
    """File a copy under the newest analysis whose reports may be kept."""
    bad = exists().where(report.c.analysis_id == analysis.c.id, report.c.quarantined != "")
    newest = (
        select(analysis.c.id)
        .where(analysis.c.study_instance_uid == uid, ~bad)
        .order_by(analysis.c.id.desc())
        .limit(1)
    )
    analysis_id = connection.execute(newest).scalar_one()
    return insert_report(connection, uid, NewReport(COPY, (file,)), analysis_id=analysis_id)
