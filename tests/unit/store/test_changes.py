"""Who waits for work is woken by whoever makes some, and looks by itself where that gets lost."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import make_url

from dicom_ai_node.store import Database
from dicom_ai_node.store.changes import Changes, _Counter, _Listener
from dicom_ai_node.store.reports import QUEUED
from dicom_ai_node.store.study_queue import READY, close_due, requeue
from tests.builders.postgres import fresh_database
from tests.builders.rows import TIMING, analysed_study, claim_one, file_instance, finish_one

FOR_EVER = 3600.0
PATIENCE = 60.0


@contextmanager
def waiting(db: Database, channel: str) -> Iterator[threading.Thread]:
    """Wait for a change in a thread, for ever unless one comes."""
    stop, changes = threading.Event(), Changes(db, channel)
    changes.wait(stop, FOR_EVER)  # the first looks at what there is
    thread = threading.Thread(target=changes.wait, args=(stop, FOR_EVER))
    thread.start()
    yield thread
    stop.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    changes.close()


@contextmanager
def another(db: Database) -> Iterator[Database]:
    """The same database as another process has it."""
    found = Database(db.url.render_as_string(hide_password=False))
    yield found
    found.close()


def test_a_study_that_closes_wakes_the_analyser(db: Database) -> None:
    file_instance(db, "1.1", now=0)
    with another(db) as keep, waiting(db, READY) as thread:
        assert close_due(keep, now=50, settings=TIMING) == ["1.1"]
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_a_result_wakes_the_deliverer(db: Database) -> None:
    file_instance(db, "1.1", now=0)
    close_due(db, now=50, settings=TIMING)
    claimed = claim_one(db, now=50)
    with another(db) as analyse, waiting(db, QUEUED) as thread:
        assert finish_one(analyse, claimed, now=51)
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_work_of_the_same_process_wakes_too(db: Database) -> None:
    analysed_study(db, "1.1")
    with waiting(db, READY) as thread:
        requeue(db, "1.1", now=200)
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_who_is_asked_to_stop_waits_no_longer(db: Database) -> None:
    with waiting(db, READY) as thread:
        assert thread.is_alive()


def test_nobody_who_only_reads_is_a_change(sqlite_db: Database) -> None:
    counter = _Counter(sqlite_db)
    before = counter._count()
    assert sqlite_db.revision()
    assert counter._count() == before
    file_instance(sqlite_db, "1.1")
    assert counter._count() != before
    counter.close()


def test_a_restored_backup_is_a_change(sqlite_db: Database, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    sqlite_db.tidy()
    assert sqlite_db.file is not None
    shutil.copy(sqlite_db.file, copy)
    with waiting(sqlite_db, READY) as thread:
        copy.replace(sqlite_db.file)
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_who_looks_in_vain_for_the_file_waits_for_it(tmp_path: Path) -> None:
    absent = Database(f"sqlite:///{tmp_path / 'node.db'}")
    counter = _Counter(absent)
    assert counter._count() is None
    absent.upgrade()
    assert counter._count() is not None
    counter.close()
    absent.close()


@pytest.mark.peers
def test_a_listener_whose_session_ends_listens_again(postgres: str) -> None:
    with fresh_database(postgres) as db:
        stop, listener = threading.Event(), _Listener(db, READY)
        listener.wait(stop, FOR_EVER)
        assert listener._connection is not None
        with db.write() as connection:
            number = listener._connection.info.backend_pid
            connection.exec_driver_sql(f"SELECT pg_terminate_backend({number})")
        listener.wait(stop, 1.0)
        assert listener._connection is None
        listener.wait(stop, FOR_EVER)
        db.announce(READY)
        listener.wait(stop, FOR_EVER)
        listener.close()


@pytest.mark.peers
def test_what_cannot_be_announced_is_no_fault(postgres: str) -> None:
    gone = make_url(postgres).set(database="gone")
    Database(gone.render_as_string(hide_password=False)).announce(READY)
