"""Schema revisions: which one a database has, which one this program expects, and the way there.

Looking needs no Alembic, which a process loads only to migrate: that takes a third of a second and
ten megabytes, in each of a node's processes.
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, inspect

from dicom_ai_node.errors import StorageError

if TYPE_CHECKING:
    from alembic.config import Config

_FOLDER: Final = Path(__file__).with_name("migrations")
_TABLE: Final = "alembic_version"


@cache
def newest_revision() -> str:
    """Return the revision that this program expects: the last number of the migrations."""
    return known_revisions()[-1]


def known_revisions() -> list[str]:
    """Return the revisions that can be migrated from or to, the oldest first.

    They are the numbers that the files of the migrations begin with: each follows the one before.

    Raises StorageError: there are none.
    """
    files = (_FOLDER / "versions").glob("[0-9]*_*.py")
    if revisions := sorted(file.name.partition("_")[0] for file in files):
        return revisions
    raise StorageError("the package carries no migrations")


def found_revision(connection: Connection) -> str | None:
    """Return the revision of a database; None when it is empty."""
    if not inspect(connection).has_table(_TABLE):
        return None
    found = connection.exec_driver_sql(f"SELECT version_num FROM {_TABLE}").scalar()
    return None if found is None else str(found)


def alembic_config(connection: Connection) -> "Config":
    """Return what Alembic's commands need to migrate on that connection."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.attributes["connection"] = connection
    return config


def migrate(connection: Connection, *, place: str) -> None:
    """Bring a database to the newest revision, in the transaction of ``connection``.

    Raises StorageError: its revision is one that this program does not know; names ``place``.
    """
    found, known = found_revision(connection), known_revisions()
    if found == known[-1]:
        return
    if found is not None and found not in known:
        if found > known[-1]:
            advice = f"newer than {known[-1]}: run the program that made it"
        else:
            advice = (
                f"older than {known[0]}, the first that can be upgraded: move it away; the new"
                " one that is made then files the images of the spool again"
            )
        raise StorageError(f"database {place}: its schema is {found}, {advice}")
    from alembic import command

    command.upgrade(alembic_config(connection), "head")
    if connection.dialect.name == "sqlite":
        orphan = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
        if orphan is not None:
            raise StorageError(f"database: migrating would orphan a row of {orphan[0]}")
