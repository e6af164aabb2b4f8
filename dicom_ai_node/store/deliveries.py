"""One queue of deliveries per destination: claim by lease, settle, wait, give up, requeue.

A destination that cannot be reached waits as a whole (:func:`hold`); an object that it refuses
waits alone (:func:`postpone`), so that neither blocks anything else. What is remembered of a
destination, how long it waits and which SOP class it accepted, is kept here, too.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, func, select, update

from dicom_ai_node.store.database import Database
from dicom_ai_node.store.leases import Queue, lease
from dicom_ai_node.store.lifecycles import apply_event, lock_study, move_deliveries, settle
from dicom_ai_node.store.reports import StoredFile, files_of
from dicom_ai_node.store.tables import delivery, destination, report
from dicom_ai_node.study import DeliveryEvent, DeliveryState, Event

DELIVERIES = Queue(
    delivery,
    waits=delivery.c.state == DeliveryState.QUEUED,
    works=delivery.c.state == DeliveryState.SENDING,
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
    with db.read() as connection:
        held_until = select(destination.c.not_before).where(destination.c.name == name)
        if (connection.execute(held_until).scalar() or 0.0) > now:
            return []
        if not DELIVERIES.has(connection, lost | due):
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
        move_deliveries(
            connection,
            delivery.c.id.in_([row.id for row in rows]),
            DeliveryEvent.CLAIM,
            attempts=delivery.c.attempts + 1,
            **lease(owner, now=now, seconds=lease_seconds),
        )
        return [
            ClaimedDelivery(
                id=row.id,
                study_uid=row.study_instance_uid,
                destination=row.destination,
                kind=row.kind,
                attempts=row.attempts + 1,
                created_at=row.created_at,
                owner=owner,
                files=files_of(connection, row.report_id),
            )
            for row in rows
        ]


def delivered(
    db: Database, claimed: ClaimedDelivery, file: StoredFile, *, status: int | None, now: float
) -> bool:
    """Record the acknowledgement of ``file``, and what SOP class the destination accepts."""
    with db.write() as connection:
        lock_study(connection, claimed.study_uid)
        moved = move_deliveries(
            connection,
            _under_lease(claimed),
            DeliveryEvent.STORED,
            settled_at=now,
            sop_class_uid=file.sop_class_uid,
            sop_instance_uid=file.sop_instance_uid,
            status=status,
            error="",
        )
        if moved:
            settle(connection, claimed.study_uid, now=now)
        accepted = {"sop_class_uid": file.sop_class_uid} if claimed.kind == "sr" else {}
        _remember(
            db,
            connection,
            claimed.destination,
            {"failures": 0, "not_before": 0.0, "contacted_at": now, "error": "", **accepted},
        )
        return bool(moved)


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
    with db.write() as connection:
        lock_study(connection, claimed.study_uid)
        changes = {"settled_at": now, "status": status, "error": error}
        if move_deliveries(connection, _under_lease(claimed), DeliveryEvent.GIVE_UP, **changes):
            settle(connection, claimed.study_uid, now=now)
        if status is not None:
            _forget_failures(connection, claimed.destination)


def hold(
    db: Database, name: str, unsent: list[ClaimedDelivery], *, until: float, error: str
) -> None:
    """Let the whole destination wait, and take back attempts that never reached it."""
    with db.write() as connection:
        failures = destination.c.failures + 1
        _remember(db, connection, name, {"failures": failures, "not_before": until, "error": error})
        for claimed in unsent:
            changes = {"attempts": claimed.attempts - 1, "error": error}
            move_deliveries(connection, _under_lease(claimed), DeliveryEvent.RELEASE, **changes)


def hand_back(db: Database, *, owner: str) -> None:
    """Return all deliveries of ``owner`` to their queues, as a worker does when asked to stop."""
    with db.write() as connection:
        attempts = delivery.c.attempts - 1
        held = DELIVERIES.held_by(owner)
        move_deliveries(connection, held, DeliveryEvent.RELEASE, attempts=attempts)


def requeue_dead(db: Database, *, study_uid: str | None, now: float) -> int:
    """Put dead letters (of one study, or all) back in their queues; return how many."""
    dead = delivery.c.state == DeliveryState.DEAD
    if study_uid is not None:
        dead &= delivery.c.study_instance_uid == study_uid
    with db.write() as connection:
        uids = set(connection.execute(select(delivery.c.study_instance_uid).where(dead)).scalars())
        for uid in sorted(uids):  # before their deliveries, as everywhere
            lock_study(connection, uid)
        anew = {"attempts": 0, "not_before": 0.0, "created_at": now, "settled_at": None}
        count = move_deliveries(connection, dead, DeliveryEvent.RESEND, **anew)
        for uid in sorted(uids):
            apply_event(connection, uid, Event.RESEND, now=now)
        return count


def count_deliveries(connection: Connection) -> dict[tuple[str, str], int]:
    """Return how many deliveries there are by (destination, state)."""
    by = delivery.c.destination, delivery.c.state
    query = select(*by, func.count()).group_by(*by)
    return {(name, state): count for name, state, count in connection.execute(query)}


def state_of_destination(db: Database, name: str) -> DestinationState:
    """Return what is remembered of a destination."""
    with db.read() as connection:
        row = connection.execute(select(destination).where(destination.c.name == name)).first()
    if row is None:
        return DestinationState()
    return DestinationState(row.sop_class_uid, row.failures, row.not_before, row.error)


def start_over(db: Database) -> None:
    """Try every destination now, and with the best SOP class of a report first again."""
    with db.write() as connection:
        connection.execute(update(destination).values(not_before=0.0, sop_class_uid=""))


def _under_lease(claimed: ClaimedDelivery) -> ColumnElement[bool]:
    return (delivery.c.id == claimed.id) & DELIVERIES.held_by(claimed.owner)


def _remember(db: Database, connection: Connection, name: str, values: dict[str, object]) -> None:
    connection.execute(db.insert_missing(destination).values(name=name))
    connection.execute(update(destination).where(destination.c.name == name).values(values))


def _forget_failures(connection: Connection, name: str) -> None:
    """Of one that never failed there need not be a row."""
    connection.execute(
        update(destination).where(destination.c.name == name).values(failures=0, error="")
    )
