"""A process goes on by itself when the database can be used again, whatever was wrong with it."""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from dicom_ai_node.errors import StorageError
from dicom_ai_node.store import Database
from dicom_ai_node.store.node import alive, beat
from tests.builders.databases import opened
from tests.builders.postgres import fresh_database

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of a user whom file permissions bind, which root is not."""
    path = Path(tempfile.mkdtemp(prefix="node-recovery-"))
    opened(f"sqlite:///{path}/node.db").close()
    root = os.geteuid() == 0
    if root:
        for one in (path, *path.iterdir()):
            os.chown(one, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield path
    finally:
        if root:
            os.seteuid(0)
        shutil.rmtree(path)


@pytest.fixture
def fragile(folder: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{folder}/node.db")
    yield database
    database.close()


def write(db: Database, name: str = "web") -> None:
    beat(db, name, role="web", pid=1, now=1.0)


def names(db: Database) -> list[str]:
    return [one.name for one in alive(db)]


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nobody write the database, its log or its index, which another process has open."""
    other = sqlite3.connect(folder / "node.db")
    other.execute("SELECT * FROM worker").fetchall()
    with ExitStack() as stack:
        for one in sorted(folder.iterdir()):
            stack.enter_context(mode(one, 0o444))
        yield
    other.close()


@contextmanager
def mode(path: Path, wanted: int) -> Iterator[None]:
    before = path.stat().st_mode
    path.chmod(wanted)
    try:
        yield
    finally:
        path.chmod(before)


def test_a_database_opened_read_only_is_written_once_it_can_be(
    folder: Path, fragile: Database
) -> None:
    with read_only(folder):
        assert names(fragile) == []
        for _ in range(3):
            with pytest.raises(StorageError, match="readonly"):
                write(fragile)
    write(fragile)
    assert names(fragile) == ["web"]


def test_every_connection_of_the_pool_is_opened_again(folder: Path, fragile: Database) -> None:
    with read_only(folder):
        with fragile.read(), fragile.read(), fragile.read():
            pass  # three connections that cannot write
        with pytest.raises(StorageError, match="readonly"):
            write(fragile)
    with fragile.write(), fragile.read() as second:
        assert second.execute(text("PRAGMA query_only")).scalar() == 0
    for number in range(4):
        write(fragile, f"receive-{number}")
    assert len(names(fragile)) == 4


def test_a_folder_that_cannot_be_written_is_no_lasting_harm(
    folder: Path, fragile: Database
) -> None:
    with mode(folder, 0o555):
        for _ in range(2):
            with pytest.raises(StorageError):
                write(fragile)
    write(fragile)
    assert names(fragile) == ["web"]


def test_tidying_fails_in_the_same_way(folder: Path, fragile: Database) -> None:
    with mode(folder, 0o555), pytest.raises(StorageError):
        fragile.tidy()
    fragile.tidy()
    write(fragile)


def test_a_file_that_is_gone_is_an_error_and_not_made_anew(folder: Path, fragile: Database) -> None:
    write(fragile)
    moved = folder / "moved.db"
    fragile.tidy()
    (folder / "node.db").rename(moved)
    with pytest.raises(StorageError, match="no database at"):
        write(fragile, "keep")
    assert not (folder / "node.db").exists()
    moved.rename(folder / "node.db")
    write(fragile, "keep")
    assert names(fragile) == ["keep", "web"]


def test_a_restored_backup_is_used_at_once(folder: Path, fragile: Database) -> None:
    """The old file lives on, nameless, for who has it open: what is written there is lost."""
    write(fragile)
    fragile.tidy()
    shutil.copy(folder / "node.db", folder / "backup.db")
    write(fragile, "keep")
    fragile.tidy()
    for leftover in folder.glob("node.db-*"):
        leftover.unlink()
    (folder / "backup.db").replace(folder / "node.db")
    assert names(fragile) == ["web"]
    write(fragile, "deliver")
    other = Database(str(fragile.url))
    assert names(other) == ["deliver", "web"]
    other.close()


@pytest.mark.peers
def test_a_server_that_was_read_only_is_written_once_it_can_be(postgres: str) -> None:
    with fresh_database(postgres) as admin:
        name = admin.url.database
        with admin.write() as connection:
            connection.execute(
                text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
            )
        db = Database(admin.url.render_as_string(hide_password=False))
        assert names(db) == []
        for _ in range(2):
            with pytest.raises(StorageError, match="read-only"):
                write(db)
        with admin.write() as connection:
            connection.execute(text(f'ALTER DATABASE "{name}" RESET default_transaction_read_only'))
        write(db)
        assert names(db) == ["web"]
        db.close()


@pytest.mark.peers
def test_a_connection_that_the_server_ends_is_replaced(postgres: str) -> None:
    with fresh_database(postgres) as admin:
        db = Database(admin.url.render_as_string(hide_password=False))
        end = text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        write(db)
        with pytest.raises(StorageError), db.write() as connection:  # noqa: PT012
            with admin.write() as other:
                other.execute(end)
            connection.execute(text("SELECT 1"))
        write(db, "keep")
        assert names(db) == ["keep", "web"]
        db.close()
