"""What the node's processes tell each other of the node itself, and which of them are alive."""

import math
import secrets
from dataclasses import dataclass

from sqlalchemy import Connection, case, delete, select

from dicom_ai_node.store.database import AnyRow, Database, upsert
from dicom_ai_node.store.tables import node_value, worker

SLACK = 5.0
"""Seconds that the clocks of two machines may differ."""
_JUMPS = "clock_jumps"
_PROBE_BYTES = 32 * 1024
"""More than the rows of an image take: a log that has room for this has room for them."""
_COUNTS = "spool_files"


def value_of(connection: Connection, name: str) -> AnyRow | None:
    """Return the row of what was last written under ``name``: its ``value``, and ``at``."""
    return connection.execute(select(node_value).where(node_value.c.name == name)).first()


@dataclass(frozen=True, slots=True)
class ClockJumps:
    """How often the clock was set, and by how much last."""

    count: int = 0
    seconds: float = 0.0
    at: float = 0.0


def note_jump(db: Database, seconds: float, *, now: float) -> None:
    """Count a jump of the clock."""
    with db.write() as connection:
        text = f"{_jumps(connection).count + 1} {seconds:.3f}"
        upsert(connection, node_value, name=_JUMPS, value=text, at=now)


def clock_jumps(db: Database) -> ClockJumps:
    """Return what :func:`note_jump` has counted."""
    with db.read() as connection:
        return _jumps(connection)


def _jumps(connection: Connection) -> ClockJumps:
    found = value_of(connection, _JUMPS)
    if found is None:
        return ClockJumps()
    count, seconds = found.value.split()
    return ClockJumps(int(count), float(seconds), found.at)


def write_probe(db: Database, *, now: float) -> None:
    """Commit a change, as filing an image does; two who do it at once both succeed.

    Raises StorageError: the database cannot be written.
    """
    # On a server this shows that the session may write; its disk is its administrator's.
    size = _PROBE_BYTES if db.is_sqlite else 16
    with db.write() as connection:
        upsert(connection, node_value, name="probe", value=secrets.token_hex(size // 2), at=now)


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


def count_files(db: Database, found: FileCounts, *, now: float) -> FileCounts:
    """Write down what a look through the spool found; return it with the totals."""
    with db.write() as connection:
        before = _file_counts(connection)
        registered, damaged = before.registered + found.registered, before.damaged + found.damaged
        text = f"{registered} {damaged} {found.missing} {found.waiting}"
        upsert(connection, node_value, name=_COUNTS, value=text, at=now)
        return _file_counts(connection)


def file_counts(db: Database) -> FileCounts:
    """Return what was found when the spool was last looked through."""
    with db.read() as connection:
        return _file_counts(connection)


def _file_counts(connection: Connection) -> FileCounts:
    found = value_of(connection, _COUNTS)
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
    """When it began to work; 0 while it is starting."""
    alive_at: float


def beat(
    db: Database, name: str, *, role: str, pid: int, now: float, starting: bool = False
) -> None:
    """Say that the process is alive; a new process under a known name starts a new life."""
    began = 0.0 if starting else now
    known = (worker.c.pid == pid) & (worker.c.started_at > 0)
    started_at = case((known, worker.c.started_at), else_=began)
    process = {"name": name, "role": role, "pid": pid, "alive_at": now}
    with db.write() as connection:
        upsert(connection, worker, {"started_at": started_at}, started_at=began, **process)


def forget(db: Database, name: str, *, pid: int) -> None:
    """Remove the row of a process that ends; not that of its successor under the same name."""
    db.change(delete(worker).where(worker.c.name == name, worker.c.pid == pid))


def forget_silent(db: Database, *, before: float) -> int:
    """Remove the rows of processes that were last heard of before ``before``."""
    return db.change(delete(worker).where(worker.c.alive_at < before))


def alive(db: Database, *, since: float = 0.0, until: float = math.inf) -> list[Worker]:
    """Return the processes that were heard of last between ``since`` and ``until``, by name.

    A sign of life from the future is one from before the clock went back: of no use.
    """
    query = select(worker).where(worker.c.alive_at.between(since, until)).order_by(worker.c.name)
    return [Worker(**row._mapping) for row in db.rows(query)]
