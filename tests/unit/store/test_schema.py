"""The schema of a database: made, upgraded, refused; and what is said of one that fails."""

import stat
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import insert

from dicom_ai_node.errors import StorageError
from dicom_ai_node.store import Database, engines
from dicom_ai_node.store.migrate import alembic_config, known_revisions, newest_revision
from dicom_ai_node.store.tables import metadata, quarantine
from dicom_ai_node.study import State
from tests.builders.databases import copy_rows, opened
from tests.builders.rows import (
    analysed_study,
    deliver_all,
    state_of,
)


def test_the_migration_makes_the_tables_of_the_program(db: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    with db.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    db.check_schema()


def upgraded_to(db: Database, revision: str) -> None:
    with db.write() as connection:
        command.upgrade(alembic_config(connection), revision)


def test_a_database_of_the_first_schema_goes_on_with_all_that_it_holds(
    empty_db: Database, sqlite_db: Database
) -> None:
    old = empty_db
    upgraded_to(old, "0007")
    analysed_study(sqlite_db, "1.1")
    copy_rows(sqlite_db, old)
    old.upgrade()
    old.check_schema()
    deliver_all(old, "pacs", now=101)
    assert state_of(old, "1.1") is State.DELIVERED
    with pytest.raises(StorageError, match=r"(?i)foreign key"), old.write() as connection:
        connection.exec_driver_sql("DELETE FROM report")


@pytest.mark.parametrize(
    ("revision", "says"),
    [
        ("0004", "its schema is 0004, older than 0007, the first that can be upgraded: move it aw"),
        ("9999", "its schema is 9999, newer than .*: run the program that made it"),
    ],
)
def test_a_schema_that_is_not_known_is_left_alone_with_what_to_do(
    empty_db: Database, revision: str, says: str
) -> None:
    upgraded_to(empty_db, "0007")
    with empty_db.write() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")
    with pytest.raises(StorageError, match=says):
        empty_db.upgrade()
    assert empty_db.revision() == revision


def test_the_files_of_the_migrations_bear_their_revisions(db: Database) -> None:
    from alembic.script import ScriptDirectory

    with db.read() as connection:
        script = ScriptDirectory.from_config(alembic_config(connection))
    assert script.get_heads() == [newest_revision()]
    walked = [migration.revision for migration in script.walk_revisions()]
    assert walked[::-1] == known_revisions()


def test_upgrade_is_idempotent(db: Database) -> None:
    assert db.upgrade() == db.revision()


def test_an_empty_database_is_refused_with_what_to_do(tmp_path: Path) -> None:
    empty = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(StorageError, match="db upgrade"):
        empty.check_schema()
    empty.close()


@pytest.mark.parametrize("name", ["node.db", "a b?%23.db"])
def test_who_only_looks_makes_no_database(tmp_path: Path, name: str) -> None:
    path = tmp_path / "var" / name.partition("?")[0]
    absent = Database(f"sqlite:///{path}")
    for folder_is_there in (False, True):
        with pytest.raises(StorageError, match=r"no database at .*/var/.* 'dicom-ai-node db upg"):
            absent.check_schema()
        with pytest.raises(StorageError, match="no database at"), absent.write():
            pass
        assert not path.exists()
        if not folder_is_there:
            path.parent.mkdir()
    absent.upgrade()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    absent.check_schema()
    absent.close()


def test_an_error_says_which_database(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(StorageError, match=f"database {path}: file is not a database"):
        Database(f"sqlite:///{path}").check_schema()
    (tmp_path / "taken").touch()
    with pytest.raises(StorageError, match=f"database {tmp_path}/taken/node.db: cannot be made"):
        Database(f"sqlite:///{tmp_path}/taken/node.db").upgrade()


def test_no_error_holds_a_password() -> None:
    url = "postgresql+psycopg://node:geheim@127.0.0.1:1/node?password=secret&connect_timeout=1"
    with pytest.raises(StorageError) as caught:
        Database(url).check_schema()
    assert "database postgresql+psycopg://node@127.0.0.1:1/node: " in str(caught.value)
    assert "geheim" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_waiting_in_vain_for_a_connection_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "node.db").touch()
    database = Database(f"sqlite:///{tmp_path / 'node.db'}")
    monkeypatch.setattr(database._engine.pool, "_timeout", 0.05)
    with ExitStack() as held:
        for _ in range(15):  # the pool and its overflow
            held.enter_context(database.read())
        with pytest.raises(StorageError, match="no connection"), database.read():
            pass
    database.close()


_ASIDE = {"at": 1.0, "path": "quarantine/a.dcm", "calling_ae": "CR", "reason": "no UID"}


def test_who_waits_to_write_on_sqlite_begins_when_the_other_has_ended(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'node.db'}"
    opened(url).close()
    first, second = Database(url), Database(url)
    with ThreadPoolExecutor(1) as pool:
        with first.write() as connection:
            connection.execute(insert(quarantine).values(_ASIDE))
            waits = pool.submit(second.change, insert(quarantine).values(_ASIDE))
            time.sleep(0.2)
            assert not waits.done()
        assert waits.result(30) == 1
    with second.write() as connection:
        # What else may be busy, a checkpoint for example, is waited for as before.
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() == 10_000


def test_who_waits_in_vain_to_write_on_sqlite_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_BUSY_SECONDS", 0.1)
    url = f"sqlite:///{tmp_path / 'node.db'}"
    opened(url).close()
    first, second = Database(url), Database(url)
    with first.write(), pytest.raises(StorageError, match="locked"), second.write():
        pass
    with second.write():
        pass
