"""The running processes: each keeps a row of its own fresh while it lives."""

import math
from dataclasses import dataclass

from sqlalchemy import case, delete, select, update

from dicom_ai_node.store.database import Database
from dicom_ai_node.store.tables import worker


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
