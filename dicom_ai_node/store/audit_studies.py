"""The studies of an audit: claimed one by one, settled for good.

Who writes must hold the audit's lease; what a process does that has lost it is discarded.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from dicom_ai_node.store import audits
from dicom_ai_node.store.database import Database
from dicom_ai_node.store.tables import audit_study
from dicom_ai_node.study import AuditedState

_ROWS_A_READ = 500
_WAITING = audit_study.c.state == AuditedState.WAITING


@dataclass(frozen=True, slots=True)
class ClaimedListed:
    """A study that is being worked on."""

    key: str
    listed: dict[str, Any]
    attempts: int
    """This attempt included: 1 at first. Counts those in which the process died."""


@dataclass(frozen=True, slots=True)
class SettledStudy:
    """What was collected of a study."""

    key: str
    facts: dict[str, Any] | None = None
    """StudyFacts as JSON."""
    result: dict[str, Any] | None = None
    """StudyResult as JSON."""
    expected: int | None = None
    arrived: int | None = None
    fault: str = ""


def claim(db: Database, audit_id: int, *, owner: str, now: float) -> ClaimedListed | None:
    """Begin an attempt at the next study that is due; None when none is, or without the lease."""
    due = (
        select(audit_study)
        .where(audit_study.c.audit_id == audit_id, _WAITING, audit_study.c.not_before <= now)
        .order_by(audit_study.c.not_before, audit_study.c.position)
        .limit(1)
    )
    with db.write() as connection:
        if not audits.is_leased_to(connection, audit_id, owner):
            return None
        row = connection.execute(due).one_or_none()
        if row is None:
            return None
        _change(connection, audit_id, row.study_key, attempts=row.attempts + 1)
        return ClaimedListed(row.study_key, row.listed, row.attempts + 1)


def settle(db: Database, audit_id: int, settled: SettledStudy, *, owner: str, now: float) -> bool:
    """Keep what was collected of a study; return False, and keep nothing, without the lease."""
    with db.write() as connection:
        if not audits.is_leased_to(connection, audit_id, owner):
            return False
        _change(
            connection,
            audit_id,
            settled.key,
            state=AuditedState.SETTLED,
            facts=settled.facts,
            result=settled.result,
            expected=settled.expected,
            arrived=settled.arrived,
            fault=settled.fault,
            settled_at=now,
        )
        return True


def postpone(
    db: Database,
    audit_id: int,
    claimed: ClaimedListed,
    *,
    owner: str,
    not_before: float,
    counted: bool,
    fault: str = "",
) -> bool:
    """Put a study back; unless ``counted`` the attempt is forgotten. False without the lease."""
    with db.write() as connection:
        if not audits.is_leased_to(connection, audit_id, owner):
            return False
        attempts = claimed.attempts if counted else claimed.attempts - 1
        changes = {"attempts": attempts, "not_before": not_before, "fault": fault}
        _change(connection, audit_id, claimed.key, **changes)
        return True


def next_due(db: Database, audit_id: int) -> float | None:
    """Return when the first waiting study may be asked for, None when all are settled."""
    query = select(func.min(audit_study.c.not_before))
    with db.read() as connection:
        return connection.execute(
            query.where(audit_study.c.audit_id == audit_id, _WAITING)
        ).scalar()


def settled_since(db: Database, audit_id: int, *, since: float) -> int:
    """Return how many studies were settled from ``since`` on."""
    query = select(func.count()).where(
        audit_study.c.audit_id == audit_id, audit_study.c.settled_at >= since
    )
    with db.read() as connection:
        return connection.execute(query).scalar_one()


def faults(db: Database, audit_id: int, *, limit: int = 10) -> list[tuple[str, int]]:
    """Return the most frequent faults of settled studies, each with its count."""
    count = func.count()
    query = (
        select(audit_study.c.fault, count)
        .where(audit_study.c.audit_id == audit_id, ~_WAITING, audit_study.c.fault != "")
        .group_by(audit_study.c.fault)
        .order_by(count.desc(), audit_study.c.fault)
        .limit(limit)
    )
    with db.read() as connection:
        return [(fault, number) for fault, number in connection.execute(query)]


def collected(db: Database, audit_id: int) -> Iterator[SettledStudy]:
    """Return every settled study, in the order of the listing.

    Read in bites, each a transaction of its own: a long report holds up no writer.
    """
    after = -1
    while True:
        query = (
            select(audit_study)
            .where(audit_study.c.audit_id == audit_id, audit_study.c.position > after)
            .order_by(audit_study.c.position)
            .limit(_ROWS_A_READ)
        )
        with db.read() as connection:
            rows = connection.execute(query).all()
        if not rows:
            return
        after = rows[-1].position
        yield from (_settled(row) for row in rows if row.state == AuditedState.SETTLED)


def _change(connection: Connection, audit_id: int, key: str, **values: Any) -> None:
    connection.execute(
        update(audit_study)
        .where(audit_study.c.audit_id == audit_id, audit_study.c.study_key == key, _WAITING)
        .values(**values)
    )


def _settled(row: Row[Any]) -> SettledStudy:
    return SettledStudy(
        key=row.study_key,
        facts=row.facts,
        result=row.result,
        expected=row.expected,
        arrived=row.arrived,
        fault=row.fault,
    )
