"""Databases with the newest schema, which is migrated to once and copied from then on.

The migrations themselves are tests/unit/test_store.py's.
"""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from dicom_ai_node.store import Database


def opened(url: str) -> Database:
    """The database at that URL: the one that is there, or an empty one."""
    database = Database(url)
    file = Path(database.url.database or "")
    if database.is_sqlite and not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_migrated())
    else:
        database.upgrade()
    return database


@cache
def _migrated() -> bytes:
    """The file of an empty database; closing the last connection leaves all of it in there."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "node.db"
        database = Database(f"sqlite:///{file}")
        database.upgrade()
        database.close()
        return file.read_bytes()
