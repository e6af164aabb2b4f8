"""Ready means that an image would be filed: on file systems that are full, or read-only."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from dicom_ai_node.config import Config, parse_config
from dicom_ai_node.errors import StorageError, StorageFull
from dicom_ai_node.ops.health import Check, Prober, Readiness, readiness
from dicom_ai_node.ops.role import places
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database
from dicom_ai_node.store.node import beat
from tests.builders.databases import opened
from tests.builders.mounts import fill, remount, small_disk, use_up_inodes
from tests.builders.postgres import fresh_database
from tests.builders.rows import file_instance


def config(spool: Path, database: str, **storage: Any) -> Config:
    found = parse_config(
        {
            "storage": {
                "spool": spool, "database": database, "min_free_mb": 0, "warn_free_mb": 0,
                **storage,
            }
        }
    )  # fmt: skip
    Spool(found.storage.spool).create()
    return found


def failed(settings: Config, db: Database) -> dict[str, str]:
    return {one.name: one.text for one in readiness(settings, db).checks if not one.ok}


def file_many(db: Database) -> None:
    for number in range(1000):
        file_instance(db, f"1.1.{number}", f"1.1.{number}.1", now=time.time())


def all_alive(settings: Config, db: Database) -> None:
    for place in places(settings):
        beat(db, place.worker, role=place.role, pid=1, now=time.time())


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as folder:
        yield folder


@pytest.fixture
def on_disk(disk: Path, tmp_path: Path) -> Iterator[tuple[Config, Database]]:
    """A node whose database alone lies on the small disk."""
    url = f"sqlite:///{disk}/node.db"
    db = opened(url)
    settings = config(tmp_path / "spool", url)
    all_alive(settings, db)
    yield settings, db
    db.close()


def test_it_is_not_ready_while_the_disk_of_the_database_is_full(
    on_disk: tuple[Config, Database], disk: Path
) -> None:
    settings, db = on_disk
    assert failed(settings, db) == {}
    filler = fill(disk)
    with pytest.raises(StorageFull):
        file_many(db)  # until the log has to grow
    found = failed(settings, db)
    assert found["database"] == "cannot be written: database or disk is full"
    assert found["database_space"] == "0.0 MB free where the database lies, wanted are 0.4 MB"
    filler.unlink()
    assert failed(settings, db) == {}
    file_instance(db, "1.2", "1.2.1", now=time.time())


def test_it_is_not_ready_before_the_disk_of_the_database_is_full(
    on_disk: tuple[Config, Database], disk: Path
) -> None:
    settings, db = on_disk
    fill(disk)  # the log has room left in itself: writing goes on for a while
    assert "database_space" in failed(settings, db)


def test_the_mark_of_the_database_is_a_twentieth_of_a_small_disk_at_most(
    tmp_path: Path, db: Database
) -> None:
    most = config(tmp_path / "spool", str(db.url), database_warn_free_mb=10**9)
    all_alive(most, db)
    assert failed(most, db) == {}


def test_it_is_not_ready_while_the_spool_is_full(disk: Path, db: Database) -> None:
    settings = config(disk / "spool", str(db.url))
    all_alive(settings, db)
    filler = fill(disk)
    assert failed(settings, db) == {"spool": f"{disk}/spool: No space left on device"}
    filler.unlink()
    assert failed(settings, db) == {}
    assert not [one for one in (disk / "spool").rglob("*") if one.is_file()]


def test_it_is_not_ready_without_inodes(tmp_path: Path, db: Database) -> None:
    with small_disk(tmp_path / "few", inodes=60) as folder:
        settings = config(folder / "spool", str(db.url))
        all_alive(settings, db)
        assert failed(settings, db) == {}
        use_up_inodes(folder)
        found = failed(settings, db)
        assert set(found) == {"spool", "space"}
        assert "MB free, 0 more files" in found["space"]


@pytest.mark.parametrize("folder", ["incoming", "instances", "reports"])
def test_every_folder_of_the_spool_must_be_writable(
    folder: str, tmp_path: Path, db: Database
) -> None:
    settings = config(tmp_path / "spool", str(db.url))
    all_alive(settings, db)
    with small_disk(tmp_path / "spool" / folder) as disk:
        remount(disk, "ro")
        assert set(failed(settings, db)) == {"spool"}


def test_a_database_that_was_read_only_is_ready_again_by_itself(disk: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{disk}/node.db"
    opened(url).close()
    settings = config(tmp_path / "spool", url)
    remount(disk, "ro")
    db = Database(url)
    for _ in range(2):
        assert "database" in failed(settings, db)
        with pytest.raises(StorageError):
            beat(db, "web", role="web", pid=1, now=time.time())
    remount(disk, "rw")
    all_alive(settings, db)
    assert failed(settings, db) == {}
    db.close()


@pytest.mark.peers
def test_a_server_that_is_read_only_is_not_ready(postgres: str, tmp_path: Path) -> None:
    with fresh_database(postgres) as admin:
        url = admin.url.render_as_string(hide_password=False)
        name, setting = admin.url.database, "default_transaction_read_only"
        settings = config(tmp_path / "spool", url)
        all_alive(settings, admin)
        assert failed(settings, admin) == {}
        with admin.write() as connection:
            connection.execute(text(f'ALTER DATABASE "{name}" SET {setting} = on'))
        db = Database(url)
        wrong = "cannot be written: cannot execute INSERT in a read-only transaction"
        assert failed(settings, db) == {"database": wrong}
        with admin.write() as connection:
            connection.execute(text(f'ALTER DATABASE "{name}" RESET {setting}'))
        assert failed(settings, db) == {}
        db.close()


def answer(*, ok: bool = True) -> Readiness:
    return Readiness((Check("spool", ok, ""),))


def test_a_check_that_hangs_is_named_and_nobody_hangs_with_it() -> None:
    go_on = threading.Event()
    runs = []

    def look(begin: Callable[[str], None]) -> Readiness:
        runs.append(1)
        begin("spool")
        go_on.wait(60)
        return answer()

    prober = Prober(look, patience=0.2)
    for _ in range(3):
        found = prober.readiness()
        assert (found.ready, found.stuck) == (False, True)
        assert found.checks[0].name == "spool"
        assert "no answer for" in found.checks[0].text
    assert len(runs) == 1
    go_on.set()
    deadline = time.monotonic() + 60
    while not prober.readiness().ready:
        assert time.monotonic() < deadline
    assert len(runs) == 1


def test_many_who_ask_at_once_share_one_answer() -> None:
    runs = []

    def look(_begin: Callable[[str], None]) -> Readiness:
        runs.append(1)
        time.sleep(0.2)
        return answer()

    prober = Prober(look, fresh=60, patience=60)
    found: list[bool] = []
    threads = [
        threading.Thread(target=lambda: found.append(prober.readiness().ready)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8
    assert len(runs) == 1


def test_an_answer_grows_old_and_a_fault_of_the_checks_is_an_answer() -> None:
    outcomes = [answer(ok=False), answer()]

    def look(_begin: Callable[[str], None]) -> Readiness:
        return outcomes.pop(0)

    prober = Prober(look, fresh=0, patience=60)
    assert [prober.readiness().ready for _ in range(3)] == [False, True, False]
