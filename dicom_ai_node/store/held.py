"""Which images the node holds, for who wants to read them again. Read only."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import select

from dicom_ai_node.store.database import Database
from dicom_ai_node.store.tables import instance

_PAGE = 500


@dataclass(frozen=True, slots=True)
class HeldInstance:
    """The newest version of one analysable instance."""

    sop_instance_uid: str
    path: str
    """Below the spool."""
    dropped: bool
    """Whether retention has removed the file."""


def studies(db: Database) -> Iterator[str]:
    """Return the studies that have files, by UID; no transaction is open between two of them."""
    after = ""
    while True:
        query = (
            select(instance.c.study_instance_uid)
            .where(instance.c.study_instance_uid > after)
            .where(instance.c.analysable, instance.c.dropped_at.is_(None))
            .distinct()
            .order_by(instance.c.study_instance_uid)
            .limit(_PAGE)
        )
        with db.read() as connection:
            page = list(connection.execute(query).scalars())
        if not page:
            return
        yield from page
        after = page[-1]


def instances(db: Database, study_instance_uid: str) -> list[HeldInstance]:
    """Return the analysable instances of a study, by SOP Instance UID."""
    query = (
        select(
            instance.c.sop_instance_uid, instance.c.path, instance.c.dropped_at, instance.c.version
        )
        .where(instance.c.study_instance_uid == study_instance_uid, instance.c.analysable)
        .order_by(instance.c.sop_instance_uid, instance.c.version)
    )
    with db.read() as connection:
        newest = {row.sop_instance_uid: row for row in connection.execute(query)}
    return [HeldInstance(uid, row.path, row.dropped_at is not None) for uid, row in newest.items()]
