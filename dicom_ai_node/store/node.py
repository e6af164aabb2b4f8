"""What the node's processes tell each other of the node itself, and which of them are alive."""

import math
import secrets
from dataclasses import dataclass

from sqlalchemy import Connection, case, delete, select, update

from dicom_ai_node.store import node
from dicom_ai_node.store.database import Database
from dicom_ai_node.store.tables import instance, node_value, worker

_JUMPS = "clock_jumps"
_PROBE_BYTES = 32 * 1024
"""More than the rows of an image take: a log that has room for this has room for them."""
_COUNTS = "spool_files"


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

    Raises StorageError: the database cannot be written.
    """
    # On a server this shows that the session may write; its disk is its administrator's.
    size = _PROBE_BYTES if db.is_sqlite else 16
    put(db, "probe", secrets.token_hex(size // 2), now=now)


@dataclass(frozen=True, slots=True)
class FileCounts:
    """What came of holding the spool against the database."""

    registered: int = 0
    """Files without a row that were filed again, since the beginning."""
    damaged: int = 0
    """Files without a row that could not be read and were put into quarantine, likewise."""
    missing: int = 0
    """Rows whose file is not there, when last looked."""
    waiting: int = 0
    """Files without a row that are too young to tell, when last looked."""
    at: float = 0.0
    """When the spool was last looked through; 0: not yet."""


def filed_in(db: Database, prefix: str) -> dict[str, str]:
    """Return digest and path of the instances whose digest begins so and whose file is kept."""
    query = (
        select(instance.c.digest, instance.c.path)
        .where(instance.c.digest >= prefix, instance.c.digest < f"{prefix}g")
        .where(instance.c.dropped_at.is_(None))
    )
    with db.read() as connection:
        return {row.digest: row.path for row in connection.execute(query)}


def count_files(db: Database, found: FileCounts, *, now: float) -> FileCounts:
    """Write down what a look through the spool found; return it with the totals."""
    with db.write() as connection:
        before = _parsed(node.get_now(connection, _COUNTS))
        total = FileCounts(
            before.registered + found.registered,
            before.damaged + found.damaged,
            found.missing,
            found.waiting,
            now,
        )
        text = f"{total.registered} {total.damaged} {total.missing} {total.waiting}"
        node.put_now(db, connection, _COUNTS, text, now=now)
        return total


def file_counts(db: Database) -> FileCounts:
    """Return what was found when the spool was last looked through."""
    return _parsed(node.get(db, _COUNTS))


def _parsed(found: node.NodeValue | None) -> FileCounts:
    if found is None:
        return FileCounts()
    registered, damaged, missing, waiting = map(int, found.value.split())
    return FileCounts(registered, damaged, missing, waiting, found.at)


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that has been heard of."""

    name: str
    """``receive-1``, ``analyse``, ...: the place, which outlives the process that fills it."""
    role: str
    pid: int
    started_at: float
    alive_at: float


def beat(db: Database, name: str, *, role: str, pid: int, now: float) -> None:
    """Say that the process is alive; a new process under a known name starts a new life."""
    with db.write() as connection:
        connection.execute(
            db.insert_missing(worker).values(
                name=name, role=role, pid=pid, started_at=now, alive_at=now
            )
        )
        started = case((worker.c.pid == pid, worker.c.started_at), else_=now)
        connection.execute(
            update(worker)
            .where(worker.c.name == name)
            .values(role=role, pid=pid, started_at=started, alive_at=now)
        )


def forget(db: Database, name: str, *, pid: int) -> None:
    """Remove the row of a process that ends; not that of its successor under the same name."""
    with db.write() as connection:
        connection.execute(delete(worker).where(worker.c.name == name, worker.c.pid == pid))


def forget_silent(db: Database, *, before: float) -> int:
    """Remove the rows of processes that were last heard of before ``before``."""
    with db.write() as connection:
        return connection.execute(delete(worker).where(worker.c.alive_at < before)).rowcount


def alive(db: Database, *, since: float = 0.0, until: float = math.inf) -> list[Worker]:
    """Return the processes that were heard of last between ``since`` and ``until``, by name.

    A sign of life from the future is one from before the clock went back: of no use.
    """
    heard = worker.c.alive_at >= since
    if until < math.inf:
        heard &= worker.c.alive_at <= until
    query = select(worker).where(heard).order_by(worker.c.name)
    with db.read() as connection:
        return [
            Worker(row.name, row.role, row.pid, row.started_at, row.alive_at)
            for row in connection.execute(query)
        ]
