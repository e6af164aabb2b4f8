"""Audits: made, leased by the one process that works on them, paused and ended by a person."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, insert, select, update

from dicom_ai_node.store.database import AnyRow, AnySelect, Database, as_record
from dicom_ai_node.store.leases import NO_LEASE, Queue, lease
from dicom_ai_node.store.study_queue import STUDIES
from dicom_ai_node.store.tables import audit, audit_study
from dicom_ai_node.study import AuditedState, AuditEvent, AuditState, audit_step

_RUNS = audit.c.state == AuditState.RUNNING
AUDITS = Queue(audit, waits=_RUNS, works=_RUNS)
"""An audit that runs and that nobody works on has a lease that is long over."""

_COUNTS = ("listed", "settled", "faults")


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
    new = insert(audit).values(spec=spec, state=AuditState.RUNNING, **values)
    with db.write() as connection:
        made = connection.execute(new.values(created_at=now, updated_at=now).returning(audit.c.id))
        return int(made.scalar_one())


def find(db: Database, *, limit: int = 100) -> list[AuditRow]:
    """Return the audits, newest first."""
    return [_row(row) for row in db.rows(_audits().limit(limit))]


def show(db: Database, audit_id: int) -> AuditRow | None:
    """Return one audit, None when it is unknown."""
    row = db.first(_audits().where(audit.c.id == audit_id))
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
    if not db.scalar(AUDITS.any(free)):
        return None
    query = select(audit.c.id).where(free).order_by(audit.c.id).limit(1)
    with db.write() as connection:
        found: int | None = connection.execute(AUDITS.locked(query)).scalar()
        if found is not None:
            _set(connection, found, now, **lease(owner, now=now, seconds=lease_seconds))
        return found


def renew(
    db: Database, audit_id: int, *, owner: str, now: float, lease_seconds: float
) -> AuditState | None:
    """Prolong the lease; return the audit's state, None when another process has it."""
    renewed = update(audit).where(_leased(audit_id, owner)).values(lease_until=now + lease_seconds)
    with db.write() as connection:
        state = connection.scalar(renewed.returning(audit.c.state))
        return AuditState(state) if state else None


def standing(db: Database, audit_id: int, *, owner: str) -> AuditState | None:
    """Return the audit's state, None when ``owner`` does not have its lease."""
    state = db.scalar(select(audit.c.state).where(_leased(audit_id, owner)))
    return AuditState(state) if state else None


def in_use(db: Database, *, now: float) -> set[int]:
    """Return the audits that run, and those that a process still is at work on."""
    used = AUDITS.works | (audit.c.lease_until >= now)
    return set(db.scalars(select(audit.c.id).where(used)))


def release(db: Database, audit_id: int, *, owner: str, now: float) -> None:
    """Let another process take the audit; does nothing when one already has."""
    db.change(update(audit).where(_leased(audit_id, owner)).values(updated_at=now, **NO_LEASE))


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
    other = _leased(audit_id, owner) & (audit.c.error != text)
    db.change(update(audit).where(other).values(updated_at=now, error=text))


def live_studies(db: Database, *, now: float) -> int:
    """Return how many received studies wait for their analysis or are in it."""
    return db.count(select(func.count()).where(STUDIES.due(now) | STUDIES.works))


def is_leased_to(connection: Connection, audit_id: int, owner: str) -> bool:
    """Return whether ``owner`` has the audit's lease, and nobody takes it in this transaction."""
    query = select(audit.c.id).where(_leased(audit_id, owner)).with_for_update()
    return connection.scalar(query) is not None


def _leased(audit_id: int, owner: str) -> ColumnElement[bool]:
    return (audit.c.id == audit_id) & (audit.c.lease_owner == owner)


def _locked(connection: Connection, audit_id: int) -> AnyRow | None:
    return connection.execute(
        select(audit).where(audit.c.id == audit_id).with_for_update()
    ).one_or_none()


def _set(connection: Connection, audit_id: int, now: float, **values: Any) -> None:
    connection.execute(update(audit).where(audit.c.id == audit_id).values(updated_at=now, **values))


def _audits() -> AnySelect:
    """Return the query of audits with their counts, newest first."""
    settled = audit_study.c.state == AuditedState.SETTLED
    counted = (
        select(
            audit_study.c.audit_id,
            func.count().label("listed"),
            func.count().filter(settled).label("settled"),
            func.count().filter(settled, audit_study.c.fault != "").label("faults"),
        )
        .group_by(audit_study.c.audit_id)
        .subquery()
    )
    counts = [func.coalesce(counted.c[name], 0).label(name) for name in _COUNTS]
    return (
        select(audit, audit.c.error.label("note"), audit.c.lease_owner.label("owner"), *counts)
        .outerjoin(counted, counted.c.audit_id == audit.c.id)
        .order_by(audit.c.id.desc())
    )


def _row(row: AnyRow) -> AuditRow:
    state, not_audited = AuditState(row.state), dict(row.not_audited or {})
    return as_record(AuditRow, row, state=state, not_audited=not_audited)
