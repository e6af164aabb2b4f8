"""One queue of deliveries per destination: claim by lease, settle, wait, give up, requeue.

A destination that cannot be reached waits as a whole (:func:`hold`); an object that it refuses
waits alone (:func:`postpone`), so that neither blocks anything else.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Update, func, select, update

from dicom_ai_node.store.database import Database
from dicom_ai_node.store.lifecycles import apply_event, lock_study
from dicom_ai_node.store.reports import StoredFile, files_of, settle
from dicom_ai_node.store.tables import delivery, destination, report
from dicom_ai_node.study import Event


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery under this worker's lease."""

    id: int
    study_instance_uid: str
    destination: str
    kind: str
    """As in :class:`.reports.NewReport`."""
    attempts: int
    """This attempt included."""
    created_at: float
    owner: str
    files: tuple[StoredFile, ...]
    """The same report in each SOP class that it may travel as, best first."""


def claim(
    db: Database, name: str, *, owner: str, now: float, lease_seconds: float, limit: int
) -> list[ClaimedDelivery]:
    """Lease up to ``limit`` due deliveries to ``name``; none while it is held.

    Those that were never postponed come first, oldest first: an object that breaks the peer each
    time must not come before the others each time.

    A lease that ran out (its worker died) is open again: the peer may get the object twice, with
    the same UID, and stores it once.
    """
    lost = (delivery.c.state == "sending") & (delivery.c.lease_until < now)
    due = (delivery.c.state == "queued") & (delivery.c.not_before <= now)
    mine = delivery.c.destination == name
    with db.read() as connection:
        if _is_held(connection, name, now=now):
            return []
        if not connection.execute(select(delivery.c.id).where(mine, lost | due).limit(1)).first():
            return []
    with db.write() as connection:
        connection.execute(update(delivery).where(mine, lost).values(state="queued"))
        query = (
            select(delivery, report.c.kind)
            .join(report, report.c.id == delivery.c.report_id)
            .where(mine, due)
            .order_by(delivery.c.not_before, delivery.c.id)
            .limit(limit)
            .with_for_update(of=delivery, skip_locked=True)
        )
        claimed = []
        for row in connection.execute(query).all():
            connection.execute(
                update(delivery)
                .where(delivery.c.id == row.id)
                .values(
                    state="sending",
                    lease_owner=owner,
                    lease_until=now + lease_seconds,
                    attempts=row.attempts + 1,
                )
            )
            claimed.append(_claimed(row, owner, files_of(connection, row.report_id)))
        return claimed


def renew(db: Database, *, owner: str, now: float, lease_seconds: float) -> None:
    """Prolong all leases of ``owner``."""
    with db.write() as connection:
        connection.execute(
            update(delivery)
            .where(delivery.c.state == "sending", delivery.c.lease_owner == owner)
            .values(lease_until=now + lease_seconds)
        )


def delivered(
    db: Database, claimed: ClaimedDelivery, file: StoredFile, *, status: int, now: float
) -> bool:
    """Record the acknowledgement of ``file``, and what SOP class the destination accepts."""
    with db.write() as connection:
        lock_study(connection, claimed.study_instance_uid)
        changed = connection.execute(
            _mine(claimed).values(
                state="delivered",
                settled_at=now,
                sop_class_uid=file.sop_class_uid,
                sop_instance_uid=file.sop_instance_uid,
                status=status,
                error="",
            )
        ).rowcount
        if changed:
            settle(connection, claimed.study_instance_uid, now=now)
        report_class = file.sop_class_uid if claimed.kind == "sr" else None
        _destination_accepted(
            db, connection, claimed.destination, report_class=report_class, now=now
        )
        return bool(changed)


def postpone(
    db: Database, claimed: ClaimedDelivery, *, until: float, status: int | None, error: str
) -> None:
    """Put one delivery back in the queue, not before ``until``.

    A ``status`` means that the destination answered: its failures in a row are over.
    """
    with db.write() as connection:
        connection.execute(
            _mine(claimed).values(state="queued", not_before=until, status=status, error=error)
        )
        if status is not None:
            _destination_answered(connection, claimed.destination)


def give_up(
    db: Database, claimed: ClaimedDelivery, *, status: int | None, error: str, now: float
) -> None:
    """Make a delivery a dead letter: only a person requeues it.

    ``status`` as in :func:`postpone`.
    """
    with db.write() as connection:
        lock_study(connection, claimed.study_instance_uid)
        values = _mine(claimed).values(state="dead", settled_at=now, status=status, error=error)
        if connection.execute(values).rowcount:
            settle(connection, claimed.study_instance_uid, now=now)
        if status is not None:
            _destination_answered(connection, claimed.destination)


def hold(
    db: Database,
    name: str,
    unsent: list[ClaimedDelivery],
    *,
    until: float,
    error: str,
) -> None:
    """Let the whole destination wait, and take back attempts that never reached it."""
    with db.write() as connection:
        _hold_destination(db, connection, name, until=until, error=error)
        for claimed in unsent:
            connection.execute(
                _mine(claimed).values(state="queued", attempts=claimed.attempts - 1, error=error)
            )


def hand_back(db: Database, *, owner: str) -> None:
    """Return all deliveries of ``owner`` to their queues, as a worker does that is told to stop."""
    with db.write() as connection:
        connection.execute(
            update(delivery)
            .where(delivery.c.state == "sending", delivery.c.lease_owner == owner)
            .values(state="queued", attempts=delivery.c.attempts - 1)
        )


def requeue_dead(db: Database, *, study_instance_uid: str | None, now: float) -> int:
    """Put dead letters (of one study, or all) back in their queues; return how many."""
    dead = delivery.c.state == "dead"
    if study_instance_uid is not None:
        dead &= delivery.c.study_instance_uid == study_instance_uid
    with db.write() as connection:
        uids = set(connection.execute(select(delivery.c.study_instance_uid).where(dead)).scalars())
        for uid in sorted(uids):  # before their deliveries, as everywhere
            lock_study(connection, uid)
        count = connection.execute(
            update(delivery)
            .where(dead)
            .values(state="queued", attempts=0, not_before=0.0, created_at=now, settled_at=None)
        ).rowcount
        for uid in sorted(uids):
            apply_event(connection, uid, Event.RESEND, now=now)
        return count


def open_count(db: Database) -> dict[tuple[str, str], int]:
    """Return how many deliveries there are by (destination, state)."""
    query = select(delivery.c.destination, delivery.c.state, func.count()).group_by(
        delivery.c.destination, delivery.c.state
    )
    with db.read() as connection:
        return {(name, state): count for name, state, count in connection.execute(query)}


def _mine(claimed: ClaimedDelivery) -> Update:
    return update(delivery).where(
        delivery.c.id == claimed.id,
        delivery.c.state == "sending",
        delivery.c.lease_owner == claimed.owner,
    )


def _claimed(row: Row[Any], owner: str, files: tuple[StoredFile, ...]) -> ClaimedDelivery:
    return ClaimedDelivery(
        id=row.id,
        study_instance_uid=row.study_instance_uid,
        destination=row.destination,
        kind=row.kind,
        attempts=row.attempts + 1,
        created_at=row.created_at,
        owner=owner,
        files=files,
    )


@dataclass(frozen=True, slots=True)
class DestinationState:
    """What is remembered of a destination."""

    sop_class_uid: str = ""
    """SOP class of the last report that it accepted."""
    failures: int = 0
    """Associations that failed in a row."""
    not_before: float = 0.0
    error: str = ""


def state_of_destination(db: Database, name: str) -> DestinationState:
    """Return what is remembered of a destination."""
    query = select(destination).where(destination.c.name == name)
    with db.read() as connection:
        row = connection.execute(query).first()
    if row is None:
        return DestinationState()
    return DestinationState(row.sop_class_uid, row.failures, row.not_before, row.error)


def start_over(db: Database) -> None:
    """Try every destination now, and with the best SOP class of a report first again."""
    with db.write() as connection:
        connection.execute(update(destination).values(not_before=0.0, sop_class_uid=""))


def _is_held(connection: Connection, name: str, *, now: float) -> bool:
    """Return whether a destination is to be left alone."""
    held = select(destination.c.not_before).where(destination.c.name == name)
    return (connection.execute(held).scalar() or 0.0) > now


def _hold_destination(
    db: Database, connection: Connection, name: str, *, until: float, error: str
) -> None:
    """Leave a destination alone after an association that failed."""
    connection.execute(db.insert_missing(destination).values(name=name))
    connection.execute(
        update(destination)
        .where(destination.c.name == name)
        .values(failures=destination.c.failures + 1, not_before=until, error=error)
    )


def _destination_answered(connection: Connection, name: str) -> None:
    """Forget the failures of a destination; one that never failed needs no row for that."""
    connection.execute(
        update(destination).where(destination.c.name == name).values(failures=0, error="")
    )


def _destination_accepted(
    db: Database, connection: Connection, name: str, *, report_class: str | None, now: float
) -> None:
    """Note that a destination stored an object; of a report, in which SOP class."""
    values: dict[str, Any] = {
        "failures": 0,
        "not_before": 0.0,
        "contacted_at": now,
        "error": "",
    }
    if report_class is not None:
        values["sop_class_uid"] = report_class
    connection.execute(db.insert_missing(destination).values(name=name))
    connection.execute(update(destination).where(destination.c.name == name).values(values))
