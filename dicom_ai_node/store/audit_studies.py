"""The studies of an audit: listed slice by slice, claimed a few at a time, settled for good.

Who writes must hold the audit's lease; what a process does that has lost it is discarded.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice, takewhile
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, insert, select, update

from dicom_ai_node.store.audits import is_leased_to
from dicom_ai_node.store.database import Database, as_record
from dicom_ai_node.store.tables import audit, audit_study, word
from dicom_ai_node.study import AuditedState

_ROWS_A_READ = 500
_WAITING = audit_study.c.state == word(AuditedState.WAITING)
_KEYS_A_QUERY = 500


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
    embedding: dict[str, Any] | None = field(default=None, repr=False)
    """Of the chest, as JSON; None unless the configuration asks for it."""


def claim(
    db: Database, audit_id: int, *, owner: str, now: float, limit: int = 1
) -> list[ClaimedListed]:
    """Begin an attempt at the next studies that are due; at none without the lease.

    Only first attempts are begun together: a study over which a process died may be why, and is
    tried alone.
    """
    due = (
        select(audit_study)
        .where(audit_study.c.audit_id == audit_id, _WAITING, audit_study.c.not_before <= now)
        .order_by(audit_study.c.not_before, audit_study.c.position)
        .limit(limit)
    )
    with db.write() as connection:
        if not is_leased_to(connection, audit_id, owner):
            return []
        rows = connection.execute(due).all()
        together = [*takewhile(lambda row: row.attempts == 0, rows)] or rows[:1]
        claimed = [ClaimedListed(row.study_key, row.listed, row.attempts + 1) for row in together]
        if claimed:
            keys = [study.key for study in claimed]
            _change(connection, audit_id, keys, attempts=claimed[0].attempts)
        return claimed


def settle(
    db: Database, audit_id: int, settled: Sequence[SettledStudy], *, owner: str, now: float
) -> bool:
    """Keep what was collected of studies; return False, and keep nothing, without the lease."""
    with db.write() as connection:
        if not is_leased_to(connection, audit_id, owner):
            return False
        rows = [
            {name: getattr(study, name) for name in _COLLECTED}
            | {_OWN_KEY.key: study.key, "settled_at": now}
            for study in settled
        ]
        one = (audit_study.c.audit_id == audit_id) & (audit_study.c.study_key == _OWN_KEY)
        change = update(audit_study).where(one, _WAITING).values(state=AuditedState.SETTLED)
        connection.execute(change, rows)
        return True


def hand_back(db: Database, audit_id: int, claimed: Sequence[ClaimedListed], *, owner: str) -> bool:
    """Put back studies that were claimed and not asked for; False without the lease."""
    with db.write() as connection:
        if not is_leased_to(connection, audit_id, owner):
            return False
        keys = [study.key for study in claimed]
        _change(connection, audit_id, keys, attempts=claimed[0].attempts - 1)
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
        if not is_leased_to(connection, audit_id, owner):
            return False
        attempts = claimed.attempts if counted else claimed.attempts - 1
        changes = {"attempts": attempts, "not_before": not_before, "fault": fault}
        _change(connection, audit_id, [claimed.key], **changes)
        return True


def next_due(db: Database, audit_id: int) -> float | None:
    """Return when the first waiting study may be asked for, None when all are settled."""
    first: Select[float] = select(func.min(audit_study.c.not_before))
    return db.scalar(first.where(audit_study.c.audit_id == audit_id, _WAITING))


def settled_since(db: Database, audit_id: int, *, since: float) -> int:
    """Return how many studies were settled from ``since`` on."""
    late = audit_study.c.settled_at >= since
    return db.count(select(func.count()).where(audit_study.c.audit_id == audit_id, late))


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
    return [(fault, number) for fault, number in db.rows(query)]


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
        rows = db.rows(query)
        if not rows:
            return
        after = rows[-1].position
        for row in rows:
            if row.state == AuditedState.SETTLED:
                yield as_record(SettledStudy, row, key=row.study_key)


_COLLECTED = tuple(each.name for each in fields(SettledStudy) if each.name != "key")
_OWN_KEY = bindparam("own_key", type_=audit_study.c.study_key.type)


@dataclass(frozen=True, slots=True)
class NewListed:
    """A study as it was listed, ready to be stored."""

    key: str
    """At most 80 characters; the same key is the same study."""
    listed: dict[str, Any]
    fault: str = ""
    """Of a study, or a part of the listing, that cannot be retrieved: it is settled at once."""


def save_slice(
    db: Database,
    audit_id: int,
    found: Sequence[NewListed],
    *,
    owner: str,
    now: float,
    slices_done: int | None,
    listing_done: bool = False,
    limit: int | None = None,
    not_audited: Mapping[str, int] = MappingProxyType({}),
) -> int | None:
    """Store a part of the listing; return how many of its studies are new, None without the lease.

    A study that is known is left alone. ``slices_done`` is None for a part that has more to come;
    ``limit`` bounds the studies of the whole audit. ``not_audited`` counts by reason what the
    source answered in this part and the audit leaves out.
    """
    mine = audit_study.c.audit_id == audit_id
    standing = select(func.count(), func.max(audit_study.c.position)).where(mine)
    with db.write() as connection:
        if not is_leased_to(connection, audit_id, owner):
            return None
        count, last = connection.execute(standing).one()
        new = {listed.key: listed for listed in found}
        keys = list(new)
        for start in range(0, len(keys), _KEYS_A_QUERY):
            some = audit_study.c.study_key.in_(keys[start : start + _KEYS_A_QUERY])
            for key in connection.scalars(select(audit_study.c.study_key).where(mine, some)):
                del new[key]
        room = len(new) if limit is None else max(0, limit - count)
        first = 0 if last is None else last + 1
        rows = [
            {
                "audit_id": audit_id,
                "study_key": listed.key,
                "position": position,
                "state": AuditedState.SETTLED if listed.fault else AuditedState.WAITING,
                "listed": listed.listed,
                "fault": listed.fault,
                "settled_at": now if listed.fault else None,
            }
            for position, listed in enumerate(islice(new.values(), room), first)
        ]
        if rows:
            connection.execute(insert(audit_study), rows)
        full = limit is not None and count + len(rows) >= limit
        done: dict[str, Any] = {"updated_at": now, "listing_done": listing_done or full}
        if slices_done is not None:
            done["slices_done"] = slices_done
        if not_audited:
            before = connection.scalar(select(audit.c.not_audited).where(audit.c.id == audit_id))
            done["not_audited"] = dict(Counter(before or {}) + Counter(not_audited))
        connection.execute(update(audit).where(audit.c.id == audit_id).values(done))
        return len(rows)


def _change(connection: Connection, audit_id: int, keys: Sequence[str], **values: Any) -> None:
    mine = (audit_study.c.audit_id == audit_id) & audit_study.c.study_key.in_(keys)
    connection.execute(update(audit_study).where(mine, _WAITING).values(**values))
