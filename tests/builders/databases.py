"""Databases with the newest schema, which is migrated to once and copied from then on.

The migrations themselves are tests/unit/test_store.py's.
"""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import MetaData, insert, select

from dicom_ai_node.store import Database
from dicom_ai_node.store.tables import metadata


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


def copy_rows(source: Database, target: Database) -> None:
    """Put the rows of a database into an empty one of an older schema, as far as that goes."""
    old = MetaData()
    with source.read() as rows, target.write() as connection:
        old.reflect(connection)
        for table in (old.tables[name] for name in metadata_order() if name in old.tables):
            known = metadata.tables[table.name]
            names = [column.name for column in known.columns if column.name in table.columns]
            found = rows.execute(select(*known.c[tuple(names)])).mappings().all()
            if found:
                connection.execute(insert(table), [dict(row) for row in found])
                if not target.is_sqlite and "id" in names and known.c.id.type.python_type is int:
                    number = f"(SELECT max(id) FROM {table.name})"
                    connection.exec_driver_sql(f"SELECT setval('{table.name}_id_seq', {number})")


def metadata_order() -> list[str]:
    """Return the names of the tables, none before one that it points to."""
    return [table.name for table in metadata.sorted_tables]


@cache
def _migrated() -> bytes:
    """The file of an empty database; closing the last connection leaves all of it in there."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "node.db"
        database = Database(f"sqlite:///{file}")
        database.upgrade()
        database.close()
        return file.read_bytes()
