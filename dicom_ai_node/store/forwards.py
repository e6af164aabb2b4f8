"""Received images on their way through this node to the next archive, in the outbox of the reports.

An image is entered in the transaction that files it, so whatever was acknowledged goes on. It is
queued once, in one version, whatever comes under its UID later: an archive must not be sent two
versions of one UID, and an image that comes back from the archive must not go round for ever.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, exists, func, select, update

from dicom_ai_node.errors import FillError
from dicom_ai_node.store.database import AnyRow, Database, as_record, insert_missing
from dicom_ai_node.store.decisions import DecidedBy, mark_applied
from dicom_ai_node.store.lifecycles import lock_study
from dicom_ai_node.store.proposals import ProposalDetail, in_force
from dicom_ai_node.store.reports import (
    COERCED,
    QUEUED,
    RECEIVED,
    NewReport,
    StoredFile,
    insert_report,
    queue_report,
)
from dicom_ai_node.store.tables import analysis, forward, instance, report, report_file, study
from dicom_ai_node.study import OPEN_STATES

GATEWAY = "gateway"
"""Who applies a proposal by forwarding an image with its value."""


@dataclass(frozen=True, slots=True)
class WaitingImage:
    """An image that is to be forwarded: the newest version of what came under its UID."""

    instance_id: int
    sop_class_uid: str
    sop_instance_uid: str
    path: str
    """Relative to the spool."""
    calling_ae: str
    received_at: float
    """When the first version came."""
    was_analysed: bool
    """Whether the newest result of its study has seen this version."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What is sent for an image that waits."""

    image: WaitingImage
    path: str
    """Of the file that is sent, relative to the spool: the received one, or a durable copy."""
    note: str = ""
    """Why it goes as it was received although a value was accepted for it."""

    @property
    def kind(self) -> str:
        """Kind of report that it is in the outbox."""
        return RECEIVED if self.path == self.image.path else COERCED


def enter(connection: Connection, sop_uid: str, study_uid: str, *, now: float) -> None:
    """Have an image of a study forwarded; it makes no difference when it was before."""
    values = {"sop_instance_uid": sop_uid, "study_instance_uid": study_uid, "received_at": now}
    insert_missing(connection, forward, **values)


def came_too_late(db: Database, sop_uid: str, study_uid: str) -> bool:
    """Return whether a version of an image that has just been filed will not be forwarded.

    Another version was queued before, or waits as an image of another study.
    """
    gone = forward.c.report_id.is_not(None) | (forward.c.study_instance_uid != study_uid)
    return bool(db.scalar(select(exists().where(forward.c.sop_instance_uid == sop_uid, gone))))


def already_queued(db: Database, study_uid: str) -> frozenset[str]:
    """Return the SOP Instance UIDs of a study's images that went on, or are about to."""
    gone = (forward.c.study_instance_uid == study_uid) & forward.c.report_id.is_not(None)
    return frozenset(db.scalars(select(forward.c.sop_instance_uid).where(gone)))


def is_coerced(db: Database, sop_uid: str) -> bool:
    """Return whether the image with that UID was forwarded with a value filled in."""
    query = (
        select(report.c.kind)
        .join(report_file, report_file.c.report_id == report.c.id)
        .where(report_file.c.sop_instance_uid == sop_uid)
    )
    return bool(db.scalar(query) == COERCED)


def studies_due(db: Database, *, before: float, limit: int) -> list[str]:
    """Return studies with images to be queued now, those that have waited longest first."""
    query = (
        select(forward.c.study_instance_uid)
        .join(study)
        .where(_due(before))
        .group_by(forward.c.study_instance_uid)
        .order_by(func.min(forward.c.received_at))
        .limit(limit)
    )
    return list(db.scalars(query))


def waiting(db: Database, study_uid: str, *, before: float, limit: int) -> list[WaitingImage]:
    """Return the images of a study that are to be queued now, the oldest first.

    An image is due when the analysis of its study has ended, however it did; or when it was
    received before ``before``.
    """
    result_at = (
        select(analysis.c.created_at)
        .where(analysis.c.study_instance_uid == study_uid)
        .order_by(analysis.c.id.desc())
        .limit(1)
    )
    query = (
        select(forward.c.sop_instance_uid, forward.c.received_at)
        .join(study)
        .where(forward.c.study_instance_uid == study_uid, _due(before))
        .order_by(forward.c.received_at, forward.c.sop_instance_uid)
        .limit(limit)
    )
    with db.read() as connection:
        seen_until = connection.scalar(result_at) or 0.0
        images = [
            (_newest(connection, sop_uid, study_uid), received_at)
            for sop_uid, received_at in connection.execute(query).all()
        ]
    return [
        as_record(
            WaitingImage,
            row,
            instance_id=row.id,
            received_at=received_at,
            was_analysed=row.analysable and row.received_at <= seen_until,
        )
        for row, received_at in images
    ]


def queue(
    db: Database,
    study_uid: str,
    outgoing: Sequence[Outgoing],
    destinations: Iterable[str],
    *,
    applied: ProposalDetail | None,
    now: float,
) -> int:
    """Queue images for each destination and mark what was filled in applied, all or nothing.

    Returns how many images were: not those that another process has queued meanwhile, nor those of
    which a newer version came, which waits in turn.

    Raises FillError: ``applied`` is not in force any more: make the copies again.
    """
    names = sorted(destinations)
    with db.write() as connection:
        lock_study(connection, study_uid)
        queued = [sending for sending in outgoing if _is_current(connection, study_uid, sending)]
        filled = any(sending.kind == COERCED for sending in queued)
        if filled and applied is not None:
            now_in_force = [detail.proposal for detail in in_force(connection, study_uid)]
            if applied.proposal not in now_in_force:
                raise FillError("the proposal changed while its images were made")
            by = DecidedBy(GATEWAY, f"forwarded: {', '.join(names)}", now)
            mark_applied(connection, [applied.proposal], by)
        for sending in queued:
            _queue(connection, study_uid, sending, names, now)
    db.announce(QUEUED)
    return len(queued)


def _due(before: float) -> ColumnElement[bool]:
    ended = study.c.state.not_in(OPEN_STATES)
    return forward.c.report_id.is_(None) & (ended | (forward.c.received_at <= before))


def _newest(connection: Connection, sop_uid: str, study_uid: str) -> AnyRow:
    mine = (instance.c.sop_instance_uid == sop_uid) & (instance.c.study_instance_uid == study_uid)
    query = select(instance).where(mine).order_by(instance.c.id.desc()).limit(1)
    return connection.execute(query).one()


def _is_current(connection: Connection, study_uid: str, outgoing: Outgoing) -> bool:
    sop_uid = outgoing.image.sop_instance_uid
    query = select(forward.c.report_id).where(forward.c.sop_instance_uid == sop_uid)
    if connection.scalar(query) is not None:
        return False
    return bool(_newest(connection, sop_uid, study_uid).id == outgoing.image.instance_id)


def _queue(
    connection: Connection,
    study_uid: str,
    outgoing: Outgoing,
    destinations: Iterable[str],
    now: float,
) -> None:
    image = outgoing.image
    file = StoredFile(image.sop_class_uid, image.sop_instance_uid, outgoing.path)
    report_id = insert_report(
        connection, study_uid, NewReport(outgoing.kind, (file,)), analysis_id=None
    )
    for name in destinations:
        queue_report(connection, report_id, study_uid, name, now=now)
    connection.execute(
        update(forward)
        .where(forward.c.sop_instance_uid == image.sop_instance_uid)
        .values(report_id=report_id, note=outgoing.note)
    )
