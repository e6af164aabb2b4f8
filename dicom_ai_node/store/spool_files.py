"""Which files of the spool have a row, and what came of holding both against each other."""

from dataclasses import dataclass

from sqlalchemy import select

from dicom_ai_node.store import node_values
from dicom_ai_node.store.database import Database
from dicom_ai_node.store.tables import instance

_COUNTS = "spool_files"


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
        before = _parsed(node_values.get_now(connection, _COUNTS))
        total = FileCounts(
            before.registered + found.registered,
            before.damaged + found.damaged,
            found.missing,
            found.waiting,
            now,
        )
        text = f"{total.registered} {total.damaged} {total.missing} {total.waiting}"
        node_values.put_now(db, connection, _COUNTS, text, now=now)
        return total


def file_counts(db: Database) -> FileCounts:
    """Return what was found when the spool was last looked through."""
    return _parsed(node_values.get(db, _COUNTS))


def _parsed(found: node_values.NodeValue | None) -> FileCounts:
    if found is None:
        return FileCounts()
    registered, damaged, missing, waiting = map(int, found.value.split())
    return FileCounts(registered, damaged, missing, waiting, found.at)
