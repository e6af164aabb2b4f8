"""The queue of studies: closing, claiming by lease, finishing, trying again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from dicom_ai_node.monitor.observation import Observation
from dicom_ai_node.store.database import Database
from dicom_ai_node.store.decisions import record as record_proposals
from dicom_ai_node.store.drift import Mode, mode_now
from dicom_ai_node.store.history import apply_event, lock_study
from dicom_ai_node.store.observations import save_observations
from dicom_ai_node.store.patients import StudyHeader, save_header
from dicom_ai_node.store.reports import (
    NewReport,
    discard_quarantined,
    has_reports,
    insert_reports,
    queue_missing,
    same_result,
    settle,
)
from dicom_ai_node.store.tables import (
    analysis,
    association,
    association_study,
    instance,
    study,
)
from dicom_ai_node.store.worklist import forget_unanswered
from dicom_ai_node.study import Event, State, StudySettings
from dicom_ai_node.types import FillProposal, ImageRef, Reason, StoredInstance

WITHHELD = Reason("withheld", "the model is in shadow mode: the report is kept and not sent")


@dataclass(frozen=True, slots=True)
class ClaimedStudy:
    """A study under this worker's lease."""

    study_instance_uid: str
    revision: int
    attempts: int
    """This attempt included: 1 at first."""
    owner: str
    instances: tuple[StoredInstance, ...]
    """The newest version of each SOP Instance UID of the classes that are analysed, less those
    whose files retention has removed."""
    others: int
    """How many instances of other classes are kept beside them."""


@dataclass(frozen=True, slots=True)
class NewAnalysis:
    """The result of one analysis, ready to be stored."""

    result_key: str
    """Digest of input, model, rules and answer: the same key is the same result."""
    result: dict[str, Any]
    """The StudyResult as JSON."""
    flagged: bool
    reports: tuple[NewReport, ...]
    observations: tuple[Observation, ...] = ()
    """What bundles said of the study, for :mod:`dicom_ai_node.monitor`."""
    inferred: bool = False
    """Whether the network took part: then the reports are withheld in shadow mode."""
    proposals: tuple[FillProposal, ...] | None = None
    """What it proposes for the header; None: nothing is proposed and nothing withdrawn."""
    auto_accept: frozenset[FillProposal] = frozenset()
    """Those of ``proposals`` that policy accepts at once."""


def close_due(db: Database, *, now: float, settings: StudySettings) -> list[str]:
    """Close the studies whose time has come; return their UIDs.

    A study that an open association is sending waits for it, until ``max_wait_seconds``.
    """
    sending = exists().where(
        association_study.c.study_instance_uid == study.c.study_instance_uid,
        association_study.c.association_id == association.c.id,
        association.c.alive_until >= now,
    )
    due = (
        select(study.c.study_instance_uid)
        .where(study.c.state == State.COLLECTING, study.c.closes_at <= now)
        .where(or_(study.c.opened_at <= now - settings.max_wait_seconds, ~sending))
    )
    with db.read() as connection:
        if not connection.execute(select(due.exists())).scalar():
            return []
    with db.write() as connection:
        uids = list(connection.execute(due.with_for_update(skip_locked=True)).scalars())
        for uid in uids:
            apply_event(connection, uid, Event.QUIET, now=now)
        return uids


def claim(
    db: Database, *, owner: str, now: float, lease_seconds: float, limit: int, max_attempts: int
) -> list[ClaimedStudy]:
    """Lease up to ``limit`` studies that are ready, oldest first.

    Studies whose analyser died are taken back first; one that has used up its attempts (it may
    be what kills the analyser) is failed instead. A study that is tried again is leased alone, so
    that a poisonous one takes no other down with it.
    """
    ready = (study.c.state == State.READY) & (study.c.not_before <= now)
    lost = (study.c.state == State.ANALYSING) & (study.c.lease_until < now)
    with db.read() as connection:
        if not connection.execute(select(study.c.state).where(ready | lost).limit(1)).first():
            return []
    with db.write() as connection:
        _take_back(connection, lost, max_attempts, now)
        query = (
            select(study)
            .where(ready)
            .order_by(study.c.not_before, study.c.last_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        claimed = []
        for row in _together(connection.execute(query).all()):
            apply_event(
                connection,
                row.study_instance_uid,
                Event.CLAIM,
                now=now,
                attempts=row.attempts + 1,
                lease_owner=owner,
                lease_until=now + lease_seconds,
            )
            claimed.append(_claimed(connection, row, owner))
        return claimed


def renew(db: Database, *, owner: str, now: float, lease_seconds: float) -> None:
    """Prolong all leases of ``owner``."""
    with db.write() as connection:
        connection.execute(
            update(study)
            .where(study.c.state == State.ANALYSING, study.c.lease_owner == owner)
            .values(lease_until=now + lease_seconds)
        )


def finish(
    db: Database,
    claimed: ClaimedStudy,
    new: NewAnalysis,
    *,
    header: StudyHeader | None,
    destinations: Mapping[str, frozenset[str]],
    reason: Reason | None,
    now: float,
) -> bool:
    """Store a result and queue its reports, or do nothing when the lease was lost.

    ``destinations`` maps each name to the kinds of report it gets. A result whose key is known
    (a late duplicate, a requeue without change) is queued for new destinations only. In shadow
    mode nothing that the network took part in is queued. Returns whether it was ours to finish.
    """
    uid = claimed.study_instance_uid
    with db.write() as connection:
        if not _owned(connection, claimed):
            return False
        if header is not None:
            save_header(connection, uid, header)
        save_observations(connection, uid, new.observations)
        newest = connection.execute(
            select(func.max(analysis.c.id)).where(analysis.c.study_instance_uid == uid)
        ).scalar()
        known = connection.execute(same_result(uid, new.result_key)).scalar()
        repeated = known is not None and known == newest
        if known is not None and discard_quarantined(connection, known):
            known = None
        if known is None:
            created = connection.execute(
                insert(analysis)
                .values(
                    study_instance_uid=uid,
                    result_key=new.result_key,
                    revision=claimed.revision,
                    created_at=now,
                    result=new.result,
                )
                .returning(analysis.c.id)
            ).scalar_one()
            insert_reports(connection, created, uid, new.reports)
            known = created
        withheld = new.inferred and mode_now(connection) is Mode.SHADOW
        if not withheld:
            queue_missing(db, connection, known, uid, destinations, now=now)
        faulty = any(report.quarantined for report in new.reports)
        if new.proposals is not None and not faulty:
            record_proposals(
                connection,
                uid,
                new.proposals,
                auto_accept=new.auto_accept,
                repeated=repeated,
                now=now,
            )
        if faulty:
            event = Event.GIVE_UP
        elif has_reports(connection, known):
            event, reason = (Event.NOTHING, WITHHELD) if withheld else (Event.RESULT, reason)
        else:
            event = Event.NOTHING
        apply_event(connection, uid, event, now=now, reason=reason, flagged=new.flagged)
        settle(connection, uid, now=now)
        return True


def skip(db: Database, claimed: ClaimedStudy, reason: Reason, *, now: float) -> bool:
    """End a study in which there is nothing to analyse."""
    with db.write() as connection:
        if not _owned(connection, claimed):
            return False
        apply_event(connection, claimed.study_instance_uid, Event.NOTHING, now=now, reason=reason)
        settle(connection, claimed.study_instance_uid, now=now)
        return True


def fail(
    db: Database, claimed: ClaimedStudy, reason: Reason, *, retry_at: float | None, now: float
) -> bool:
    """Give a study back after an error; without ``retry_at`` it is failed for good."""
    with db.write() as connection:
        if not _owned(connection, claimed):
            return False
        uid = claimed.study_instance_uid
        if retry_at is None:
            apply_event(connection, uid, Event.GIVE_UP, now=now, reason=reason)
        else:
            apply_event(connection, uid, Event.ERROR, now=now, reason=reason, not_before=retry_at)
        return True


def hand_back(db: Database, *, owner: str, now: float) -> None:
    """Return all studies of ``owner`` to the queue, as a worker does that is told to stop."""
    held = select(study).where(study.c.state == State.ANALYSING, study.c.lease_owner == owner)
    with db.write() as connection:
        for row in connection.execute(held.with_for_update()).all():
            apply_event(
                connection,
                row.study_instance_uid,
                Event.LEASE_EXPIRED,
                now=now,
                attempts=row.attempts - 1,
                reason=Reason("stopped", "the analyser was asked to stop"),
            )


def requeue(db: Database, uid: str, *, now: float) -> State | None:
    """Ask for a study's analysis to be done again; return its state, None when unknown."""
    with db.write() as connection:
        lock_study(connection, uid)
        known = connection.execute(
            select(study.c.state).where(study.c.study_instance_uid == uid)
        ).scalar()
        if known is None:
            return None
        forget_unanswered(connection, uid)
        reason = Reason("requeued", "a person asked for it")
        return apply_event(connection, uid, Event.REQUEUE, now=now, reason=reason)


def requeue_withheld(db: Database, *, now: float) -> tuple[int, int]:
    """Have every study analysed again whose report was withheld, and that has its images still.

    An unchanged result is sent as it was kept. Returns how many there are, and how many others have
    lost their images to retention and stay as they are.
    """
    held = study.c.reason_code == WITHHELD.code
    kept = exists().where(
        instance.c.study_instance_uid == study.c.study_instance_uid,
        instance.c.analysable,
        instance.c.dropped_at.is_(None),
    )
    with db.write() as connection:
        # Whatever became of its images since, where they are forwarded.
        query = select(study.c.study_instance_uid, kept).where(held)
        rows = connection.execute(query.with_for_update(of=study)).all()
        reason = Reason("requeued", "a person asked for what was withheld")
        for uid, there in rows:
            if there:
                apply_event(connection, uid, Event.REQUEUE, now=now, reason=reason)
    count = sum(there for _, there in rows)
    return count, len(rows) - count


def _together(rows: Sequence[Row[Any]]) -> Sequence[Row[Any]]:
    """Return the rows to lease in one go: first attempts in a batch, a second attempt alone."""
    if rows and rows[0].attempts:
        return rows[:1]
    return [row for row in rows if not row.attempts]


def _take_back(
    connection: Connection, lost: ColumnElement[bool], max_attempts: int, now: float
) -> None:
    expired = select(study).where(lost).with_for_update(skip_locked=True)
    for row in connection.execute(expired).all():
        final = row.attempts >= max_attempts
        reason = Reason("analyser_died", f"the analyser died or hung on it, attempt {row.attempts}")
        event = Event.GIVE_UP if final else Event.LEASE_EXPIRED
        apply_event(connection, row.study_instance_uid, event, now=now, reason=reason)


def _owned(connection: Connection, claimed: ClaimedStudy) -> bool:
    lock_study(connection, claimed.study_instance_uid)
    row = connection.execute(
        select(study).where(study.c.study_instance_uid == claimed.study_instance_uid)
    ).one()
    return (row.state, row.lease_owner, row.revision) == (
        State.ANALYSING,
        claimed.owner,
        claimed.revision,
    )


def _claimed(connection: Connection, row: Row[Any], owner: str) -> ClaimedStudy:
    uid = row.study_instance_uid
    query = select(instance).where(instance.c.study_instance_uid == uid).order_by(instance.c.id)
    newest = {one.sop_instance_uid: one for one in connection.execute(query)}
    analysed = [one for one in newest.values() if one.analysable and one.dropped_at is None]
    return ClaimedStudy(
        study_instance_uid=uid,
        revision=row.revision,
        attempts=row.attempts + 1,
        owner=owner,
        instances=tuple(_stored(one) for one in analysed),
        others=sum(not one.analysable for one in newest.values()),
    )


def _stored(row: Row[Any]) -> StoredInstance:
    return StoredInstance(
        image=ImageRef(
            sop_class_uid=row.sop_class_uid,
            sop_instance_uid=row.sop_instance_uid,
            series_instance_uid=row.series_instance_uid,
        ),
        transfer_syntax_uid=row.transfer_syntax_uid,
        path=row.path,
        digest=row.digest,
        size=row.size,
        version=row.version,
        calling_ae=row.calling_ae,
        association=row.association,
    )
