"""The listing of an audit: the studies that it is about, saved slice by slice."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from dicom_ai_node.store.audits import is_leased_to
from dicom_ai_node.store.database import Database
from dicom_ai_node.store.tables import audit, audit_study
from dicom_ai_node.study import AuditedState

_KEYS_A_QUERY = 500


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
    with db.write() as connection:
        if not is_leased_to(connection, audit_id, owner):
            return None
        count, last = connection.execute(
            select(func.count(), func.max(audit_study.c.position)).where(
                audit_study.c.audit_id == audit_id
            )
        ).one()
        known = _known(connection, audit_id, [one.key for one in found])
        new = {one.key: one for one in found if one.key not in known}
        room = len(new) if limit is None else max(0, limit - count)
        first = 0 if last is None else last + 1
        rows = [
            _new_row(audit_id, one, position=first + number, now=now)
            for number, one in enumerate(list(new.values())[:room])
        ]
        if rows:
            connection.execute(insert(audit_study), rows)
        done: dict[str, Any] = {} if slices_done is None else {"slices_done": slices_done}
        if not_audited:
            done["not_audited"] = _sum(connection, audit_id, not_audited)
        full = limit is not None and count + len(rows) >= limit
        connection.execute(
            update(audit)
            .where(audit.c.id == audit_id)
            .values(updated_at=now, listing_done=listing_done or full, **done)
        )
        return len(rows)


def _sum(connection: Connection, audit_id: int, more: Mapping[str, int]) -> dict[str, int]:
    before = connection.execute(select(audit.c.not_audited).where(audit.c.id == audit_id)).scalar()
    return dict(Counter(before or {}) + Counter(more))


def _known(connection: Connection, audit_id: int, keys: Sequence[str]) -> set[str]:
    known: set[str] = set()
    for start in range(0, len(keys), _KEYS_A_QUERY):
        some = keys[start : start + _KEYS_A_QUERY]
        query = select(audit_study.c.study_key).where(
            audit_study.c.audit_id == audit_id, audit_study.c.study_key.in_(some)
        )
        known.update(connection.execute(query).scalars())
    return known


def _new_row(audit_id: int, one: NewListed, *, position: int, now: float) -> dict[str, Any]:
    settled = bool(one.fault)
    return {
        "audit_id": audit_id,
        "study_key": one.key,
        "position": position,
        "state": AuditedState.SETTLED if settled else AuditedState.WAITING,
        "listed": one.listed,
        "fault": one.fault,
        "settled_at": now if settled else None,
    }
