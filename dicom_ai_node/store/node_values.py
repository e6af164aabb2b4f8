"""What the node's processes tell each other of the node itself, one row a name."""

import secrets
from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from dicom_ai_node.store.database import Database
from dicom_ai_node.store.tables import node_value

_JUMPS = "clock_jumps"
_PROBE_BYTES = 32 * 1024
"""More than the rows of an image take: a log that has room for this has room for them."""


@dataclass(frozen=True, slots=True)
class NodeValue:
    """A value and when it was written."""

    value: str
    at: float


def put(db: Database, name: str, value: str, *, now: float) -> None:
    """Write a value in place of the one before."""
    with db.write() as connection:
        put_now(db, connection, name, value, now=now)


def put_now(db: Database, connection: Connection, name: str, value: str, *, now: float) -> None:
    """Do what :func:`put` does, in the caller's transaction; two who do it at once both succeed."""
    connection.execute(db.insert_missing(node_value).values(name=name, value=value, at=now))
    mine = update(node_value).where(node_value.c.name == name)
    connection.execute(mine.values(value=value, at=now))


def get(db: Database, name: str) -> NodeValue | None:
    """Return what was last written under ``name``."""
    with db.read() as connection:
        return get_now(connection, name)


def get_now(connection: Connection, name: str) -> NodeValue | None:
    """Do what :func:`get` does, in the caller's transaction."""
    query = select(node_value.c.value, node_value.c.at).where(node_value.c.name == name)
    row = connection.execute(query).first()
    return NodeValue(row.value, row.at) if row else None


@dataclass(frozen=True, slots=True)
class ClockJumps:
    """How often the clock was set, and by how much last."""

    count: int = 0
    seconds: float = 0.0
    at: float = 0.0


def note_jump(db: Database, seconds: float, *, now: float) -> None:
    """Count a jump of the clock."""
    with db.write() as connection:
        count = _jumps(get_now(connection, _JUMPS)).count + 1
        put_now(db, connection, _JUMPS, f"{count} {seconds:.3f}", now=now)


def clock_jumps(db: Database) -> ClockJumps:
    """Return what :func:`note_jump` has counted."""
    return _jumps(get(db, _JUMPS))


def _jumps(found: NodeValue | None) -> ClockJumps:
    if found is None:
        return ClockJumps()
    count, seconds = found.value.split()
    return ClockJumps(int(count), float(seconds), found.at)


def write_probe(db: Database, *, now: float) -> None:
    """Commit a change, as filing an image does.

    Raises
    ------
    StorageError
        The database cannot be written.
    """
    # On a server this shows that the session may write; its disk is its administrator's.
    size = _PROBE_BYTES if db.is_sqlite else 16
    put(db, "probe", secrets.token_hex(size // 2), now=now)
