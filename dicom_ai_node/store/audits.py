"""Audits: made, leased by the one process that works on them, paused and ended by a person."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, case, func, insert, select, update

from dicom_ai_node.store.database import Database
from dicom_ai_node.store.leases import NO_LEASE, Queue, lease
from dicom_ai_node.store.studies import STUDIES
from dicom_ai_node.store.tables import audit, audit_study
from dicom_ai_node.study import AuditedState, AuditEvent, AuditState, audit_step

_RUNS = audit.c.state == AuditState.RUNNING
AUDITS = Queue(audit, waits=_RUNS, works=_RUNS)
"""An audit that runs and that nobody works on has a lease that is long over."""


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One audit and its counts."""

    id: int
    spec: dict[str, Any]
    """The AuditSpec as JSON."""
    state: AuditState
    slices_done: int
    """How many parts of the listing are saved whole."""
    listing_done: bool
    created_at: float
    updated_at: float
    finished_at: float | None
    note: str
    """Why it failed, or what it waits for; '' otherwise."""
    owner: str
    """Who works on it, or did when it died."""
    lease_until: float
    listed: int
    settled: int
    faults: int
    """Settled studies of which something could not be retrieved."""
    not_audited: dict[str, int]
    """Why, and how many of what the source answered are left out."""


def create(
    db: Database, spec: dict[str, Any], *, now: float, owner: str = "", lease_seconds: float = 0.0
) -> int:
    """Make a running audit and return its number; with ``owner`` it is leased at once."""
    values = lease(owner, now=now, seconds=lease_seconds) if owner else NO_LEASE
    with db.write() as connection:
        created: int = connection.execute(
            insert(audit)
            .values(spec=spec, state=AuditState.RUNNING, created_at=now, updated_at=now, **values)
            .returning(audit.c.id)
        ).scalar_one()
        return created


def find(db: Database, *, limit: int = 100) -> list[AuditRow]:
    """Return the audits, newest first."""
    with db.read() as connection:
        return [_row(row) for row in connection.execute(_rows().limit(limit))]


def show(db: Database, audit_id: int) -> AuditRow | None:
    """Return one audit, None when it is unknown."""
    with db.read() as connection:
        row = connection.execute(_rows().where(audit.c.id == audit_id)).first()
        return _row(row) if row else None


def take(
    db: Database, *, owner: str, now: float, lease_seconds: float, audit_id: int | None = None
) -> int | None:
    """Lease the oldest running audit that nobody works on, or that very one; return its number.

    None when there is none: it is another's, or not running.
    """
    free = AUDITS.lost(now)
    if audit_id is not None:
        free &= audit.c.id == audit_id
    with db.read() as connection:
        if not AUDITS.has(connection, free):
            return None
    query = select(audit.c.id).where(free).order_by(audit.c.id).limit(1)
    with db.write() as connection:
        found = connection.execute(AUDITS.locked(query)).scalar()
        if found is not None:
            _set(connection, found, now, **lease(owner, now=now, seconds=lease_seconds))
        return found


def renew(
    db: Database, audit_id: int, *, owner: str, now: float, lease_seconds: float
) -> AuditState | None:
    """Prolong the lease; return the audit's state, None when another process has it."""
    with db.write() as connection:
        row = _locked(connection, audit_id)
        if row is None or row.lease_owner != owner:
            return None
        _set(connection, audit_id, row.updated_at, lease_until=now + lease_seconds)
        return AuditState(row.state)


def standing(db: Database, audit_id: int, *, owner: str) -> AuditState | None:
    """Return the audit's state, None when ``owner`` does not have its lease."""
    query = select(audit.c.state).where(audit.c.id == audit_id, audit.c.lease_owner == owner)
    with db.read() as connection:
        state = connection.execute(query).scalar()
        return AuditState(state) if state else None


def in_use(db: Database, *, now: float) -> set[int]:
    """Return the audits that run, and those that a process still is at work on."""
    used = AUDITS.works | (audit.c.lease_until >= now)
    with db.read() as connection:
        return set(connection.execute(select(audit.c.id).where(used)).scalars())


def release(db: Database, audit_id: int, *, owner: str, now: float) -> None:
    """Let another process take the audit; does nothing when one already has."""
    with db.write() as connection:
        row = _locked(connection, audit_id)
        if row is not None and row.lease_owner == owner:
            _set(connection, audit_id, now, **NO_LEASE)


def apply(
    db: Database, audit_id: int, event: AuditEvent, *, now: float, owner: str = "", note: str = ""
) -> tuple[AuditState, AuditState | None] | None:
    """Let ``event`` happen; return the state before and after, None for an unknown audit.

    After is None, and nothing changed, where the event means nothing in that state, or where
    ``owner`` is given and has lost its lease.
    """
    with db.write() as connection:
        row = _locked(connection, audit_id)
        if row is None:
            return None
        before = AuditState(row.state)
        after = audit_step(before, event)
        if after is None or (owner and row.lease_owner != owner):
            return before, None
        ended = after in (AuditState.DONE, AuditState.CANCELLED, AuditState.FAILED)
        changes = {"state": after, "error": note, "finished_at": now if ended else None}
        _set(connection, audit_id, now, **changes)
        return before, after


def resume(
    db: Database, audit_id: int, *, now: float, owner: str = "", lease_seconds: float = 0.0
) -> AuditState | None:
    """Let an audit run again and return its state before; with ``owner`` it is leased at once.

    None, and nothing changed, where it has ended for good or is unknown, or where ``owner`` would
    take it from a process that works on it.
    """
    with db.write() as connection:
        row = _locked(connection, audit_id)
        if row is None or (owner and row.lease_owner and row.lease_until >= now):
            return None
        before = AuditState(row.state)
        after = audit_step(before, AuditEvent.RESUME)
        if after is None:
            return None
        leased = lease(owner, now=now, seconds=lease_seconds) if owner else {}
        _set(connection, audit_id, now, state=after, error="", finished_at=None, **leased)
        return before


def note(db: Database, audit_id: int, text: str, *, owner: str, now: float) -> None:
    """Say what the audit waits for, '' for nothing."""
    with db.write() as connection:
        row = _locked(connection, audit_id)
        if row is not None and row.lease_owner == owner and row.error != text:
            _set(connection, audit_id, now, error=text)


def live_studies(db: Database, *, now: float) -> int:
    """Return how many received studies wait for their analysis or are in it."""
    query = select(func.count()).where(STUDIES.due(now) | STUDIES.works)
    with db.read() as connection:
        return connection.execute(query).scalar_one()


def is_leased_to(connection: Connection, audit_id: int, owner: str) -> bool:
    """Return whether ``owner`` has the audit's lease, and nobody takes it in this transaction."""
    query = select(audit.c.lease_owner).where(audit.c.id == audit_id).with_for_update()
    return connection.execute(query).scalar() == owner


def _locked(connection: Connection, audit_id: int) -> Row[Any] | None:
    return connection.execute(
        select(audit).where(audit.c.id == audit_id).with_for_update()
    ).one_or_none()


def _set(connection: Connection, audit_id: int, now: float, **values: Any) -> None:
    connection.execute(update(audit).where(audit.c.id == audit_id).values(updated_at=now, **values))


def _rows() -> Select[Any]:
    """Return the query of audits with their counts, newest first."""
    settled = audit_study.c.state == AuditedState.SETTLED
    faulty = settled & (audit_study.c.fault != "")
    counted = (
        select(
            audit_study.c.audit_id,
            func.count().label("listed"),
            func.sum(case((settled, 1), else_=0)).label("settled"),
            func.sum(case((faulty, 1), else_=0)).label("faults"),
        )
        .group_by(audit_study.c.audit_id)
        .subquery()
    )
    return (
        select(audit, counted.c.listed, counted.c.settled, counted.c.faults)
        .outerjoin(counted, counted.c.audit_id == audit.c.id)
        .order_by(audit.c.id.desc())
    )


def _row(row: Row[Any]) -> AuditRow:
    return AuditRow(
        id=row.id,
        spec=row.spec,
        state=AuditState(row.state),
        slices_done=row.slices_done,
        listing_done=row.listing_done,
        created_at=row.created_at,
        updated_at=row.updated_at,
        finished_at=row.finished_at,
        note=row.error,
        owner=row.lease_owner,
        lease_until=row.lease_until,
        listed=row.listed or 0,
        settled=int(row.settled or 0),
        faults=int(row.faults or 0),
        not_audited=dict(row.not_audited or {}),
    )
