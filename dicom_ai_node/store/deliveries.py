"""One queue of deliveries per destination: claim by lease, settle, wait, give up, requeue.

A destination that cannot be reached waits as a whole (:func:`hold`); an object that it refuses
waits alone (:func:`postpone`), so that neither blocks anything else. What is remembered of a
destination, how long it waits and which SOP class it accepted, is kept here, too.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, exists, select, update

from dicom_ai_node.store.database import Database, as_record, upsert
from dicom_ai_node.store.leases import Queue, lease
from dicom_ai_node.store.lifecycles import apply_event, lock_study, move_deliveries, settle
from dicom_ai_node.store.reports import StoredFile, files_of_each
from dicom_ai_node.store.tables import delivery, destination, report, word
from dicom_ai_node.study import DeliveryEvent, DeliveryState, Event

DELIVERIES = Queue(
    delivery,
    waits=delivery.c.state == word(DeliveryState.QUEUED),
    works=delivery.c.state == word(DeliveryState.SENDING),
)


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery under this worker's lease."""

    id: int
    study_uid: str
    destination: str
    kind: str
    """As in :class:`.reports.NewReport`."""
    attempts: int
    """This attempt included."""
    created_at: float
    owner: str
    files: tuple[StoredFile, ...]
    """The same report in each SOP class that it may travel as, best first."""


@dataclass(frozen=True, slots=True)
class DestinationState:
    """What is remembered of a destination."""

    sop_class_uid: str = ""
    """SOP class of the last report that it accepted."""
    failures: int = 0
    """Associations that failed in a row."""
    not_before: float = 0.0
    error: str = ""


def claim(
    db: Database, name: str, *, owner: str, now: float, lease_seconds: float, limit: int
) -> list[ClaimedDelivery]:
    """Lease up to ``limit`` due deliveries to ``name``; none while it is held.

    Those that were never postponed come first, oldest first: an object that breaks the peer each
    time must not come before the others each time.

    A lease that ran out (its worker died) is open again: the peer may get the object twice, with
    the same UID, and stores it once.
    """
    mine = delivery.c.destination == name
    due, lost = mine & DELIVERIES.due(now), mine & DELIVERIES.lost(now)
    held = exists().where(destination.c.name == name, destination.c.not_before > now)
    if not db.scalar(DELIVERIES.any(lost | due).where(~held)):
        return []
    with db.write() as connection:
        move_deliveries(connection, lost, DeliveryEvent.LEASE_EXPIRED)
        query = (
            select(delivery, report.c.kind)
            .join(report, report.c.id == delivery.c.report_id)
            .where(due)
            .order_by(delivery.c.not_before, delivery.c.id)
            .limit(limit)
        )
        rows = connection.execute(DELIVERIES.locked(query)).all()
        claimed = delivery.c.id.in_([row.id for row in rows])
        values = lease(owner, now=now, seconds=lease_seconds)
        values["attempts"] = delivery.c.attempts + 1
        move_deliveries(connection, claimed, DeliveryEvent.CLAIM, **values)
        files = files_of_each(connection, [row.report_id for row in rows])
        return [
            as_record(
                ClaimedDelivery,
                row,
                study_uid=row.study_instance_uid,
                attempts=row.attempts + 1,
                owner=owner,
                files=files.get(row.report_id, ()),
            )
            for row in rows
        ]


def delivered(
    db: Database, claimed: ClaimedDelivery, file: StoredFile, *, status: int | None, now: float
) -> bool:
    """Record the acknowledgement of ``file``, and what SOP class the destination accepts."""
    stored = {"sop_class_uid": file.sop_class_uid, "sop_instance_uid": file.sop_instance_uid}
    changes = {"settled_at": now, "status": status, "error": "", **stored}
    reached: dict[str, Any] = {"failures": 0, "not_before": 0.0, "contacted_at": now, "error": ""}
    if claimed.kind == "sr":
        reached["sop_class_uid"] = file.sop_class_uid
    with db.write() as connection:
        mine = _settle(connection, claimed, DeliveryEvent.STORED, now, changes)
        upsert(connection, destination, name=claimed.destination, **reached)
        return mine


def postpone(
    db: Database, claimed: ClaimedDelivery, *, until: float, status: int | None, error: str
) -> None:
    """Put one delivery back in the queue, not before ``until``.

    A ``status`` means that the destination answered: its failures in a row are over.
    """
    with db.write() as connection:
        changes = {"not_before": until, "status": status, "error": error}
        move_deliveries(connection, _under_lease(claimed), DeliveryEvent.POSTPONE, **changes)
        if status is not None:
            _forget_failures(connection, claimed.destination)


def give_up(
    db: Database, claimed: ClaimedDelivery, *, status: int | None, error: str, now: float
) -> None:
    """Make a delivery a dead letter: only a person requeues it.

    ``status`` as in :func:`postpone`.
    """
    changes = {"settled_at": now, "status": status, "error": error}
    with db.write() as connection:
        _settle(connection, claimed, DeliveryEvent.GIVE_UP, now, changes)
        if status is not None:
            _forget_failures(connection, claimed.destination)


def hold(
    db: Database, name: str, unsent: list[ClaimedDelivery], *, until: float, error: str
) -> None:
    """Let the whole destination wait, and take back attempts that never reached it."""
    with db.write() as connection:
        failures = {"failures": destination.c.failures + 1}
        held = {"name": name, "failures": 1, "not_before": until, "error": error}
        upsert(connection, destination, failures, **held)
        for claimed in unsent:
            changes = {"attempts": claimed.attempts - 1, "error": error}
            move_deliveries(connection, _under_lease(claimed), DeliveryEvent.RELEASE, **changes)


def hand_back(db: Database, *, owner: str) -> None:
    """Return all deliveries of ``owner`` to their queues, as a worker does when asked to stop."""
    held, attempts = DELIVERIES.held_by(owner), delivery.c.attempts - 1
    with db.write() as connection:
        move_deliveries(connection, held, DeliveryEvent.RELEASE, attempts=attempts)


def requeue_dead(db: Database, *, study_uid: str | None, now: float) -> int:
    """Put dead letters (of one study, or all) back in their queues; return how many."""
    dead = delivery.c.state == word(DeliveryState.DEAD)
    if study_uid is not None:
        dead &= delivery.c.study_instance_uid == study_uid
    with db.write() as connection:
        studies = select(delivery.c.study_instance_uid).where(dead).distinct()
        study_uids = sorted(connection.scalars(studies))
        for study_uid in study_uids:  # before their deliveries, as everywhere
            lock_study(connection, study_uid)
        anew = {"attempts": 0, "not_before": 0.0, "created_at": now, "settled_at": None}
        count = move_deliveries(connection, dead, DeliveryEvent.RESEND, **anew)
        for study_uid in study_uids:
            apply_event(connection, study_uid, Event.RESEND, now=now)
        return count


def state_of_destination(db: Database, name: str) -> DestinationState:
    """Return what is remembered of a destination."""
    row = db.first(select(destination).where(destination.c.name == name))
    return as_record(DestinationState, row) if row else DestinationState()


def start_over(db: Database) -> None:
    """Try every destination now, and with the best SOP class of a report first again."""
    db.change(update(destination).values(not_before=0.0, sop_class_uid=""))


def _under_lease(claimed: ClaimedDelivery) -> ColumnElement[bool]:
    return (delivery.c.id == claimed.id) & DELIVERIES.held_by(claimed.owner)


def _settle(
    connection: Connection,
    claimed: ClaimedDelivery,
    event: DeliveryEvent,
    now: float,
    changes: dict[str, Any],
) -> bool:
    """End a delivery, and with its last one the study; return whether it was still under lease."""
    held = lock_study(connection, claimed.study_uid)
    moved = move_deliveries(connection, _under_lease(claimed), event, **changes)
    if moved:
        settle(connection, claimed.study_uid, now=now, held=held)
    return bool(moved)


def _forget_failures(connection: Connection, name: str) -> None:
    """Of one that never failed there need not be a row."""
    connection.execute(
        update(destination).where(destination.c.name == name).values(failures=0, error="")
    )
