"""The queue of studies: closed, claimed under a lease, tried again, handed back, taken back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    exists,
    or_,
    select,
    update,
)

from dicom_ai_node.config.stages import StudySettings
from dicom_ai_node.store.database import Database
from dicom_ai_node.store.lifecycles import apply_event, lock_study
from dicom_ai_node.store.patients import forget_unanswered
from dicom_ai_node.store.reports import (
    settle,
)
from dicom_ai_node.store.tables import (
    association,
    association_study,
    instance,
    study,
)
from dicom_ai_node.study import Event, State
from dicom_ai_node.types import ImageRef, Reason, StoredInstance


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


def holds(connection: Connection, claimed: ClaimedStudy) -> bool:
    """Lock a study; return whether it is still under that lease and at that revision."""
    lock_study(connection, claimed.study_instance_uid)
    row = connection.execute(
        select(study).where(study.c.study_instance_uid == claimed.study_instance_uid)
    ).one()
    return (row.state, row.lease_owner, row.revision) == (
        State.ANALYSING,
        claimed.owner,
        claimed.revision,
    )


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


def skip(db: Database, claimed: ClaimedStudy, reason: Reason, *, now: float) -> bool:
    """End a study in which there is nothing to analyse."""
    with db.write() as connection:
        if not holds(connection, claimed):
            return False
        apply_event(connection, claimed.study_instance_uid, Event.NOTHING, now=now, reason=reason)
        settle(connection, claimed.study_instance_uid, now=now)
        return True


def fail(
    db: Database, claimed: ClaimedStudy, reason: Reason, *, retry_at: float | None, now: float
) -> bool:
    """Give a study back after an error; without ``retry_at`` it is failed for good."""
    with db.write() as connection:
        if not holds(connection, claimed):
            return False
        uid = claimed.study_instance_uid
        if retry_at is None:
            apply_event(connection, uid, Event.GIVE_UP, now=now, reason=reason)
        else:
            apply_event(connection, uid, Event.ERROR, now=now, reason=reason, not_before=retry_at)
        return True


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
