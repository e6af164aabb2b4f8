"""One lease for every queue, as expressions over its table.

A row is worked on by the owner of its lease until a moment that the owner moves on as long as it
lives. Who finishes must still hold the lease; otherwise its work is discarded. Each queue has
partial indexes over what waits and what is worked on, so that the cost of a claim does not grow
with the number of finished rows.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, exists, select, update

from dicom_ai_node.store.database import AnySelect, Database

NO_LEASE = {"lease_owner": "", "lease_until": 0.0}
"""The columns of a row that nobody works on."""


def lease(owner: str, *, now: float, seconds: float) -> dict[str, Any]:
    """Return the columns of a row that ``owner`` works on from now on."""
    return {"lease_owner": owner, "lease_until": now + seconds}


@dataclass(frozen=True, slots=True)
class Queue:
    """A table of work, with the conditions for what waits and what is under a lease."""

    table: Table
    waits: ColumnElement[bool]
    works: ColumnElement[bool]

    def due(self, now: float) -> ColumnElement[bool]:
        """Return the condition that a row waits and may be claimed."""
        return self.waits & (self.table.c.not_before <= now)

    def lost(self, now: float) -> ColumnElement[bool]:
        """Return the condition that the owner of a row died or hangs."""
        return self.works & (self.table.c.lease_until < now)

    def held_by(self, owner: str) -> ColumnElement[bool]:
        """Return the condition that ``owner`` works on a row."""
        return self.works & (self.table.c.lease_owner == owner)

    def any(self, which: ColumnElement[bool]) -> Select[bool]:
        """Return the query for whether there is such a row: an idle queue is never locked."""
        return select(exists().where(which))

    def locked(self, query: AnySelect) -> AnySelect:
        """Return ``query`` for rows of the table that no other process is claiming right now."""
        return query.with_for_update(of=self.table, skip_locked=True)

    def renew(self, db: Database, *, owner: str, now: float, lease_seconds: float) -> None:
        """Prolong all leases of ``owner``."""
        mine = update(self.table).where(self.held_by(owner))
        db.change(mine.values(lease_until=now + lease_seconds))
