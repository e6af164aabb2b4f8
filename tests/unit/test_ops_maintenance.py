"""The periodic jobs."""

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from dicom_ai_node.audit.study import folder_of
from dicom_ai_node.config import Config, parse_config
from dicom_ai_node.errors import StorageError
from dicom_ai_node.ops import machine, maintenance, retention
from dicom_ai_node.ops.machine import SpaceLeft
from dicom_ai_node.ops.maintenance import Maintenance
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database, audits
from dicom_ai_node.store.deliveries import claim, delivered, give_up
from dicom_ai_node.store.instances import open_association
from dicom_ai_node.store.node import alive, beat
from dicom_ai_node.store.queries import overview
from dicom_ai_node.store.study_queue import close_due
from dicom_ai_node.study import AuditEvent, State
from tests.builders.rows import TIMING, analysed_study, claim_one, file_instance

LONG_AGO = time.time() - 30 * 86400


def config(tmp_path: Path, **storage: Any) -> Config:
    return parse_config(
        {
            "storage": {
                "spool": tmp_path / "spool",
                "database": f"sqlite:///{tmp_path / 'node.db'}",
                "min_free_mb": 0,
                "warn_free_mb": 0,
                "retention_days": 7,
                **storage,
            },
            "study": {"quiet_seconds": 10, "max_wait_seconds": 100},
        }
    )


@pytest.fixture
def kept(tmp_path: Path, db: Database) -> Maintenance:
    spool = Spool(tmp_path / "spool")
    spool.create()
    return Maintenance(config(tmp_path), db, spool)


def image(kept: Maintenance, sop: str, *, written_at: float = LONG_AGO) -> Path:
    """Put the file of the builders' instance into the spool."""
    path = kept.spool.path(f"instances/{sop}-a.dcm")
    path.write_bytes(b"pixels")
    os.utime(path, (written_at, written_at))
    return path


def deliver(db: Database, *, now: float) -> None:
    for one in claim(db, "pacs", owner="w", now=now, lease_seconds=60, limit=9):
        delivered(db, one, one.files[0], status=0, now=now)


def drop(kept: Maintenance) -> int:
    return kept.retention.drop_images(threading.Event())


def state(db: Database, wanted: State) -> int:
    return overview(db, now=0).studies[wanted]


def test_images_go_when_their_study_was_delivered_long_ago(kept: Maintenance) -> None:
    analysed_study(kept.db, "1.1", now=LONG_AGO)
    path = image(kept, "1.1.1")
    report = kept.spool.reports / "1.1.dcm"
    report.write_bytes(b"report")
    deliver(kept.db, now=LONG_AGO + 1)
    assert drop(kept) == 1
    assert not path.exists()
    assert report.exists()
    assert overview(kept.db, now=0).dropped == 1
    assert drop(kept) == 0


@pytest.mark.parametrize("settled", [State.REPORTED, State.UNDELIVERED, State.FAILED])
def test_what_is_unsent_or_failed_keeps_its_images(settled: State, kept: Maintenance) -> None:
    if settled is State.FAILED:
        file_instance(kept.db, "1.1", "1.1.1", now=LONG_AGO)
        close_due(kept.db, now=LONG_AGO + 50, settings=TIMING)
        for attempt in range(4):  # its analyser dies each time
            at = LONG_AGO + 100 * (attempt + 1)
            if attempt < 3:
                claim_one(kept.db, now=at)
            else:
                assert not claim_nothing(kept.db, now=at)
    else:
        analysed_study(kept.db, "1.1", now=LONG_AGO)
    if settled is State.UNDELIVERED:
        (claimed,) = claim(kept.db, "pacs", owner="w", now=LONG_AGO, lease_seconds=60, limit=9)
        give_up(kept.db, claimed, status=0xA700, error="refused", now=LONG_AGO)
    assert state(kept.db, settled) == 1
    path = image(kept, "1.1.1")
    assert drop(kept) == 0
    assert path.exists()


def claim_nothing(db: Database, *, now: float) -> list[Any]:
    from dicom_ai_node.store.study_queue import claim as claim_studies

    return claim_studies(db, owner="w", now=now, lease_seconds=60, limit=1, max_attempts=3)


def test_a_study_delivered_lately_keeps_its_images(kept: Maintenance) -> None:
    analysed_study(kept.db, "1.1", now=LONG_AGO)
    path = image(kept, "1.1.1")
    deliver(kept.db, now=time.time() - 86400)
    assert drop(kept) == 0
    assert path.exists()


def test_a_file_that_is_being_received_again_stays(kept: Maintenance) -> None:
    analysed_study(kept.db, "1.1", now=LONG_AGO)
    deliver(kept.db, now=LONG_AGO + 1)
    path = image(kept, "1.1.1", written_at=time.time())
    assert drop(kept) == 0
    assert path.exists()


def test_a_file_that_a_killed_run_removed_is_written_down(kept: Maintenance) -> None:
    analysed_study(kept.db, "1.1", now=LONG_AGO)
    deliver(kept.db, now=LONG_AGO + 1)
    assert drop(kept) == 1
    assert overview(kept.db, now=0).dropped == 1


@pytest.mark.parametrize(
    ("event", "owner", "stays"),
    [
        (AuditEvent.CANCEL, "", False),
        (AuditEvent.PAUSE, "", False),
        (AuditEvent.FAIL, "", False),
        (AuditEvent.CANCEL, "cli", True),
        (None, "", True),
    ],
)
def test_what_a_killed_audit_left_goes_unless_somebody_works_on_it(
    kept: Maintenance, event: AuditEvent | None, owner: str, stays: bool
) -> None:
    now = time.time()
    lease = {"owner": "cli", "now": now if owner else now - 3600, "lease_seconds": 60.0}
    number = audits.create(kept.db, {}, **lease)  # type: ignore[arg-type]
    if event:
        audits.apply(kept.db, number, event, now=now)
    left = folder_of(kept.spool.root, number) / "tmp1" / "1.2.3.dcm"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"pixels")
    assert kept.drop_leftovers() == (not stays)
    assert left.exists() is stays
    assert folder_of(kept.spool.root, number).exists() is stays
    assert kept.drop_leftovers() == 0


def test_many_images_go_in_bounded_bites(
    kept: Maintenance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_FILES_A_TRANSACTION", 1)
    for study in ("1.1", "1.2", "1.3"):
        analysed_study(kept.db, study, now=LONG_AGO)
        image(kept, f"{study}.1")
    deliver(kept.db, now=LONG_AGO + 1)
    stopped = threading.Event()
    stopped.set()
    assert kept.retention.drop_images(stopped) == 1
    assert drop(kept) == 2


def test_quiet_studies_are_closed(kept: Maintenance) -> None:
    file_instance(kept.db, "1.1", now=LONG_AGO)
    file_instance(kept.db, "1.2", "1.2.1", now=time.time() + 3600)
    assert kept.close_studies() == 1
    assert kept.close_studies() == 0
    assert state(kept.db, State.READY) == state(kept.db, State.COLLECTING) == 1


def test_dead_associations_are_forgotten(kept: Maintenance) -> None:
    now = time.time()
    for key, until in (("dead", now - 1), ("live", now + 60)):
        open_association(
            kept.db, key, calling_ae="CT", address="192.0.2.1", now=0, alive_until=until
        )
    assert kept.forget_associations() == 1
    assert kept.forget_associations() == 0


def test_workers_of_an_earlier_set_up_are_forgotten(kept: Maintenance) -> None:
    beat(kept.db, "receive-9", role="receive", pid=1, now=LONG_AGO)
    beat(kept.db, "web", role="web", pid=2, now=time.time())
    assert kept.forget_workers() == 1
    assert [one.name for one in alive(kept.db)] == ["web"]


def test_low_space_is_said_once_and_again_when_it_is_over(
    tmp_path: Path, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 0
    monkeypatch.setattr(maintenance, "room", lambda _: machine.FreeSpace(free, 10**10, None))
    settings = config(tmp_path, min_free_mb=10, warn_free_mb=100, database_warn_free_mb=50)
    kept = Maintenance(settings, db, Spool(settings.storage.spool))
    with capture_logs() as logged:
        for megabytes in (500, 60, 40, 5, 500):
            free = megabytes * machine.MEGABYTE
            kept.watch_space()
    assert [(line["event"], line["where"]) for line in logged] == [
        ("space_low", "spool"),
        ("space_low", "database"),
        ("space_out", "spool"),
        ("space_enough", "spool"),
        ("space_enough", "database"),
    ]


def test_free_space_is_told_for_a_spool_that_is_not_there_yet(tmp_path: Path) -> None:
    assert machine.room(tmp_path / "not" / "yet").free > 0
    assert (
        machine.spool_space(machine.FreeSpace(0, 0, None), config(tmp_path).storage)
        is SpaceLeft.ENOUGH
    )


def test_the_role_does_its_jobs_until_it_is_stopped(tmp_path: Path, db: Database) -> None:
    analysed_study(db, "1.1", now=LONG_AGO)
    deliver(db, now=LONG_AGO + 1)
    file_instance(db, "1.2", "1.2.1", now=LONG_AGO)
    stop = threading.Event()
    role = threading.Thread(target=maintenance.run, args=(config(tmp_path),), kwargs={"stop": stop})
    role.start()
    try:
        deadline = time.monotonic() + 60
        while not (state(db, State.READY) and overview(db, now=0).dropped):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        stop.set()
        role.join(60)
    assert not role.is_alive()


def test_a_database_that_fails_is_said_once_and_tried_again(
    kept: Maintenance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_AFTER_A_FAILURE_SECONDS", 0.001)
    monkeypatch.setattr(maintenance, "_CLOSE_SECONDS", 0.001)
    stop = threading.Event()
    calls = 0

    def close(*_: Any, **__: Any) -> list[str]:
        nonlocal calls
        calls += 1
        if calls == 4:
            stop.set()
            return []
        raise StorageError("database: is away")

    monkeypatch.setattr(maintenance, "close_due", close)
    with capture_logs() as logged:
        kept._close_studies_until(stop)
    assert [line["event"] for line in logged] == ["closing_failed"]
