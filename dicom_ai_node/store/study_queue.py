"""The queue of studies: closed, claimed under a lease, tried again, handed back, taken back."""

from dataclasses import dataclass

from sqlalchemy import Connection, exists, func, or_, select

from dicom_ai_node.answers import ImageRef, Reason
from dicom_ai_node.config.stages import StudySettings
from dicom_ai_node.store.database import AnyRow, Database, as_record
from dicom_ai_node.store.instances import StoredInstance, newest_of_each
from dicom_ai_node.store.leases import Queue, lease
from dicom_ai_node.store.lifecycles import apply_event, apply_to_all, lock_study, settle
from dicom_ai_node.store.patients import forget_unanswered
from dicom_ai_node.store.tables import association, association_study, study, word
from dicom_ai_node.study import Event, State

STUDIES = Queue(
    study,
    waits=study.c.state == word(State.READY),
    works=study.c.state == word(State.ANALYSING),
)

READY = "dicom_ai_node_ready"
"""The channel on which studies are announced that wait for their analysis."""


@dataclass(frozen=True, slots=True)
class ClaimedStudy:
    """A study under this worker's lease."""

    study_uid: str
    revision: int
    attempts: int
    """This attempt included: 1 at first."""
    owner: str
    instances: tuple[StoredInstance, ...]
    """The newest version of each SOP Instance UID of the classes that are analysed, less those
    whose files retention has removed."""
    others: int
    """How many instances of other classes the study has."""


def claim(
    db: Database,
    *,
    owner: str,
    now: float,
    lease_seconds: float,
    limit: int,
    max_attempts: int,
    backfill: int | None = None,
) -> list[ClaimedStudy]:
    """Lease up to ``limit`` studies that are ready, oldest first.

    A study of which the analysis is done again (:func:`requeue`) waits for all that come in live,
    and no more than ``backfill`` of these are leased together (None: ``limit``), so that what
    comes in meanwhile waits for few. Studies whose analyser died are taken back first; one that
    has used up its attempts (it may be what kills the analyser) is failed instead. A study that is
    tried again is leased alone, so that a poisonous one takes no other down with it.
    """
    ready = STUDIES.due(now)
    if not db.scalar(STUDIES.any(ready | STUDIES.lost(now))):
        return []
    with db.write() as connection:
        _take_back(connection, max_attempts, now)
        live = select(study).where(ready, study.c.not_before == 0.0).order_by(study.c.last_at)
        rows = connection.execute(STUDIES.locked(live.limit(limit))).all()
        if not rows:  # what failed just now comes before what was asked for again earlier
            latest = (study.c.not_before.desc(), study.c.last_at.desc())
            later = select(study).where(ready).order_by(*latest)
            rows = connection.execute(STUDIES.locked(later.limit(backfill or limit))).all()
        first_attempts = [row for row in rows if not row.attempts]
        claimed = rows[:1] if rows and rows[0].attempts else first_attempts
        uids = [row.study_instance_uid for row in claimed]
        values = lease(owner, now=now, seconds=lease_seconds)
        values["attempts"] = study.c.attempts + 1
        apply_to_all(connection, uids, State.READY, Event.CLAIM, now=now, **values)
        images = newest_of_each(connection, uids)
        return [_claimed(row, images.get(row.study_instance_uid, []), owner) for row in claimed]


def hand_back(db: Database, *, owner: str, now: float) -> None:
    """Return all studies of ``owner`` to the queue, as a worker does when asked to stop."""
    held = select(study).where(STUDIES.held_by(owner)).with_for_update()
    event, reason = Event.LEASE_EXPIRED, Reason("stopped", "the analyser was asked to stop")
    with db.write() as connection:
        for row in connection.execute(held).all():
            study_uid, attempts = row.study_instance_uid, row.attempts - 1
            apply_event(connection, study_uid, event, now=now, attempts=attempts, reason=reason)


def hold(connection: Connection, claimed: ClaimedStudy) -> AnyRow | None:
    """Lock a study and return its row, None unless it is still under that lease and revision."""
    row = lock_study(connection, claimed.study_uid)
    if row is None or (row.state, row.lease_owner) != (State.ANALYSING, claimed.owner):
        return None
    return row if row.revision == claimed.revision else None


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
        .where(study.c.state == word(State.COLLECTING), study.c.closes_at <= now)
        .where(or_(study.c.opened_at <= now - settings.max_wait_seconds, ~sending))
    )
    if not db.scalar(select(due.exists())):
        return []
    with db.write() as connection:
        study_uids = list(connection.scalars(due.with_for_update(skip_locked=True)))
        apply_to_all(connection, study_uids, State.COLLECTING, Event.QUIET, now=now)
    db.announce(READY)
    return study_uids


def next_closing(db: Database) -> float | None:
    """Return when the first study closes that collects, None where none does."""
    collecting = study.c.state == word(State.COLLECTING)
    return db.scalar(select(func.min(study.c.closes_at)).where(collecting))


def skip(db: Database, claimed: ClaimedStudy, reason: Reason, *, now: float) -> bool:
    """End a study in which there is nothing to analyse."""
    with db.write() as connection:
        held = hold(connection, claimed)
        if held is None:
            return False
        event = Event.NOTHING
        apply_event(connection, claimed.study_uid, event, now=now, reason=reason, held=held)
        settle(connection, claimed.study_uid, now=now)
        return True


def fail(
    db: Database, claimed: ClaimedStudy, reason: Reason, *, retry_at: float | None, now: float
) -> bool:
    """Give a study back after an error; without ``retry_at`` it is failed for good."""
    with db.write() as connection:
        if hold(connection, claimed) is None:
            return False
        study_uid = claimed.study_uid
        if retry_at is None:
            apply_event(connection, study_uid, Event.GIVE_UP, now=now, reason=reason)
        else:
            apply_event(
                connection, study_uid, Event.ERROR, now=now, reason=reason, not_before=retry_at
            )
        return True


def requeue(db: Database, study_uid: str, *, now: float) -> State | None:
    """Ask for a study's analysis to be done again; return its state, None when unknown."""
    with db.write() as connection:
        row = lock_study(connection, study_uid)
        if row is None:
            return None
        forget_unanswered(connection, study_uid)
        reason = Reason("requeued", "a person asked for it")
        # One that is still coming in is live, and waits for nothing.
        not_before = 0.0 if row.state == State.COLLECTING else now
        event = Event.REQUEUE
        state = apply_event(
            connection, study_uid, event, now=now, reason=reason, held=row, not_before=not_before
        )
    db.announce(READY)
    return state


def _take_back(connection: Connection, max_attempts: int, now: float) -> None:
    lost = select(study).where(STUDIES.lost(now))
    for row in connection.execute(STUDIES.locked(lost)).all():
        final = row.attempts >= max_attempts
        reason = Reason("analyser_died", f"the analyser died or hung on it, attempt {row.attempts}")
        event = Event.GIVE_UP if final else Event.LEASE_EXPIRED
        apply_event(connection, row.study_instance_uid, event, now=now, reason=reason)


def _claimed(row: AnyRow, newest: list[AnyRow], owner: str) -> ClaimedStudy:
    analysed = [version for version in newest if version.analysable and version.dropped_at is None]
    return ClaimedStudy(
        study_uid=row.study_instance_uid,
        revision=row.revision,
        attempts=row.attempts + 1,
        owner=owner,
        instances=tuple(
            as_record(StoredInstance, version, image=as_record(ImageRef, version))
            for version in analysed
        ),
        others=sum(not version.analysable for version in newest),
    )
