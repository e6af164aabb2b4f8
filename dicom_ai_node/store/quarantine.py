"""What was received and could not be filed, with its reason."""

from dataclasses import dataclass

from sqlalchemy import func, select

from dicom_ai_node.store.database import Database
from dicom_ai_node.store.tables import quarantine


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One object that was put aside; the same content sent again is the same object."""

    at: float
    path: str
    """Relative to the spool; a person may have removed the file since."""
    calling_ae: str
    reason: str


def quarantined(db: Database, *, limit: int) -> list[Quarantined]:
    """Return what was put aside, the newest first."""
    columns = (quarantine.c.at, quarantine.c.path, quarantine.c.calling_ae, quarantine.c.reason)
    query = select(*columns).order_by(quarantine.c.id.desc()).limit(limit)
    with db.read() as connection:
        return [Quarantined(**row._mapping) for row in connection.execute(query)]


def reasons_of_quarantine(db: Database) -> list[tuple[str, int]]:
    """Return each reason and how many objects were put aside for it, the most frequent first."""
    count = func.count()
    query = select(quarantine.c.reason, count).group_by(quarantine.c.reason).order_by(count.desc())
    with db.read() as connection:
        return [(reason, number) for reason, number in connection.execute(query)]
