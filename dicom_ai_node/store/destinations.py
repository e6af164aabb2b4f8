"""What is remembered of a destination: how long it waits, and which SOP class it accepted."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, update

from dicom_ai_node.store.database import Database
from dicom_ai_node.store.tables import destination


@dataclass(frozen=True, slots=True)
class DestinationState:
    """What is remembered of a destination."""

    sop_class_uid: str = ""
    """SOP class of the last report that it accepted."""
    failures: int = 0
    """Associations that failed in a row."""
    not_before: float = 0.0
    error: str = ""


def state_of(db: Database, name: str) -> DestinationState:
    """Return what is remembered of a destination."""
    query = select(destination).where(destination.c.name == name)
    with db.read() as connection:
        row = connection.execute(query).first()
    if row is None:
        return DestinationState()
    return DestinationState(row.sop_class_uid, row.failures, row.not_before, row.error)


def start_over(db: Database) -> None:
    """Try every destination now, and with the best SOP class of a report first again."""
    with db.write() as connection:
        connection.execute(update(destination).values(not_before=0.0, sop_class_uid=""))


def is_held(connection: Connection, name: str, *, now: float) -> bool:
    """Return whether a destination is to be left alone."""
    held = select(destination.c.not_before).where(destination.c.name == name)
    return (connection.execute(held).scalar() or 0.0) > now


def hold(db: Database, connection: Connection, name: str, *, until: float, error: str) -> None:
    """Leave a destination alone after an association that failed."""
    connection.execute(db.insert_missing(destination).values(name=name))
    connection.execute(
        update(destination)
        .where(destination.c.name == name)
        .values(failures=destination.c.failures + 1, not_before=until, error=error)
    )


def answered(connection: Connection, name: str) -> None:
    """Forget the failures of a destination; one that never failed needs no row for that."""
    connection.execute(
        update(destination).where(destination.c.name == name).values(failures=0, error="")
    )


def accepted(
    db: Database, connection: Connection, name: str, *, report_class: str | None, now: float
) -> None:
    """Note that a destination stored an object; of a report, in which SOP class."""
    values: dict[str, Any] = {
        "failures": 0,
        "not_before": 0.0,
        "contacted_at": now,
        "error": "",
    }
    if report_class is not None:
        values["sop_class_uid"] = report_class
    connection.execute(db.insert_missing(destination).values(name=name))
    connection.execute(update(destination).where(destination.c.name == name).values(values))
