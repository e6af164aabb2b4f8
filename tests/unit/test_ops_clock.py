"""A clock that is set, back or forward: nothing waits for the hour that never comes."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, func, insert, select, update
from structlog.testing import capture_logs

from dicom_ai_node.answers import Reason
from dicom_ai_node.audit.pacing import Pacing
from dicom_ai_node.config import parse_config
from dicom_ai_node.config.stages import AuditSettings
from dicom_ai_node.errors import StorageError
from dicom_ai_node.ops.health import readiness
from dicom_ai_node.ops.machine import ClockWatch, Jump, bounds_of
from dicom_ai_node.ops.maintenance import Maintenance, run_jobs
from dicom_ai_node.ops.role import heard_of
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database, audits, tables
from dicom_ai_node.store.clock import bring_back, count_ahead, move_along
from dicom_ai_node.store.deliveries import hold, postpone
from dicom_ai_node.store.fills import record_stuck
from dicom_ai_node.store.instances import open_association
from dicom_ai_node.store.node import SLACK, beat, clock_jumps
from dicom_ai_node.store.study_queue import close_due, fail
from dicom_ai_node.study import State
from tests.builders.rows import (
    TIMING,
    analysed_study,
    claim_deliveries,
    claim_one,
    file_instance,
    state_of,
)

HOUR = 3600.0
NOW = 1_800_000_000.0
CONFIG = parse_config(
    {
        "study": TIMING.model_dump(),
        "destinations": {"pacs": {"host": "pacs.example", "port": 104, "ae_title": "PACS"}},
    }
)
BOUNDS = replace(bounds_of(CONFIG), delivery_lease=60)  # as the builders lease


@pytest.fixture
def db(any_db: Database) -> Database:
    return any_db


def busy_node(db: Database, now: float) -> None:
    """Make a row of each kind that waits for a time, all of them written at ``now``."""
    for uid in ("1.1", "1.2", "1.3"):
        file_instance(db, uid, f"{uid}.1", now=now - 20)
    close_due(db, now=now, settings=TIMING)
    claim_one(db, now=now)
    failing = claim_one(db, now=now, owner="other")
    fail(db, failing, Reason("x", "x"), retry_at=now + 600, now=now)
    file_instance(db, "1.4", "1.4.1", now=now, association="a1")
    open_association(db, "a1", calling_ae="CT", address="::1", now=now, alive_until=now + 30)
    for uid in ("1.5", "1.6"):
        analysed_study(db, uid, now=now - 3000)
    one, other = claim_deliveries(db, "pacs", now=now)
    postpone(db, one, until=now + 3600, status=0xA700, error="")
    hold(db, "pacs", [], until=now + 3600, error="away")
    record_stuck(db, "1.5", "why", now=now)
    audits.create(db, {}, owner="cli", now=now, lease_seconds=60)
    with db.write() as connection:
        connection.execute(
            insert(tables.forward).values(
                sop_instance_uid="1.4.1", study_instance_uid="1.4", received_at=now
            )
        )
        connection.execute(
            insert(tables.audit_study).values(
                audit_id=1, study_key="k", position=1, state="waiting", listed={},
                not_before=now + 600,
            )
        )  # fmt: skip
    assert other.attempts == 1


def latest(db: Database, column: Column[float], *where: Any) -> float:
    with db.read() as connection:
        return float(connection.execute(select(func.max(column)).where(*where)).scalar_one())


def test_what_a_node_writes_never_lies_ahead(db: Database) -> None:
    busy_node(db, NOW)
    assert count_ahead(db, BOUNDS, now=NOW) == 0
    assert bring_back(db, BOUNDS, now=NOW) == 0


def test_after_the_clock_went_back_nothing_waits_longer_than_it_ever_would(db: Database) -> None:
    busy_node(db, NOW)
    now = NOW - 24 * HOUR
    assert count_ahead(db, BOUNDS, now=now) >= 12
    bring_back(db, BOUNDS, now=now)
    assert count_ahead(db, BOUNDS, now=now) == 0
    study, delivery, forward = tables.study, tables.delivery, tables.forward
    assert latest(db, study.c.closes_at, study.c.state == "collecting") == now + 10
    assert latest(db, study.c.lease_until, study.c.state == "analysing") == now + 60
    assert latest(db, study.c.not_before, study.c.state == "ready") == now + 600
    assert latest(db, tables.association.c.alive_until) <= now + 60
    assert latest(db, delivery.c.lease_until, delivery.c.state == "sending") == now + 60
    assert latest(db, delivery.c.not_before, delivery.c.state == "queued") <= now + 7200
    assert latest(db, tables.destination.c.not_before) == now + 3600
    assert latest(db, forward.c.received_at) == now
    assert latest(db, tables.stuck_fill.c.not_before) <= now + 3600
    assert latest(db, tables.audit.c.lease_until) == now + 60
    assert latest(db, tables.audit_study.c.not_before) == now + 600


def test_an_hour_back_an_open_study_waits_no_longer_than_its_quiet_time(db: Database) -> None:
    file_instance(db, "1.1", "1.1.1", now=NOW)
    back = NOW - HOUR
    assert close_due(db, now=back + 60, settings=TIMING) == []
    bring_back(db, BOUNDS, now=back + 60)
    assert close_due(db, now=back + 60 + 10, settings=TIMING) == ["1.1"]


def test_a_small_difference_of_two_clocks_is_left_alone(db: Database) -> None:
    file_instance(db, "1.1", "1.1.1", now=NOW)
    assert bring_back(db, BOUNDS, now=NOW - SLACK) == 0


@pytest.mark.parametrize("jump", [HOUR, -HOUR, 30 * 24 * HOUR, -7.0])
def test_a_jump_that_was_seen_changes_nothing_for_an_open_study(db: Database, jump: float) -> None:
    file_instance(db, "1.1", "1.1.1", now=NOW)
    file_instance(db, "1.2", "1.2.1", now=NOW + 4 + jump)  # after the clock was set
    move_along(db, BOUNDS, jump=jump, since=NOW + 3 + jump, now=NOW + 5 + jump)
    assert close_due(db, now=NOW + 9 + jump, settings=TIMING) == []
    assert close_due(db, now=NOW + 10 + jump, settings=TIMING) == ["1.1"]
    assert close_due(db, now=NOW + 14 + jump, settings=TIMING) == ["1.2"]


def test_after_a_jump_forward_a_study_still_waits_for_its_association(db: Database) -> None:
    open_association(db, "a", calling_ae="CT", address="::1", now=NOW, alive_until=NOW + 30)
    open_association(db, "dead", calling_ae="CT", address="::1", now=NOW, alive_until=NOW - 1)
    file_instance(db, "1.1", "1.1.1", now=NOW, association="a")
    file_instance(db, "1.2", "1.2.1", now=NOW, association="dead")
    move_along(db, BOUNDS, jump=HOUR, since=NOW + HOUR, now=NOW + HOUR)
    assert close_due(db, now=NOW + HOUR + 20, settings=TIMING) == ["1.2"]


class Clocks:
    """Two clocks that are wound by hand."""

    def __init__(self) -> None:
        self.wall, self.steady = NOW, 50.0

    def watch(self) -> ClockWatch:
        return ClockWatch(lambda: self.wall, lambda: self.steady)

    def run(self, seconds: float, *, jump: float = 0.0) -> None:
        self.steady += seconds
        self.wall += seconds + jump


def test_a_jump_is_told_from_the_passing_of_time() -> None:
    clocks = Clocks()
    watch = clocks.watch()
    for seconds in (0.25, 5.0, HOUR):  # an hour: the machine slept
        clocks.run(seconds)
        assert watch.look() is None
    clocks.run(0.25, jump=0.01)  # a clock that is slewed
    assert watch.look() is None
    for jump in (-HOUR, HOUR):
        clocks.run(1.0, jump=jump)
        assert watch.look() == Jump(jump, since=clocks.wall - 1.0, now=clocks.wall)
        assert watch.look() is None


def maintenance_with(clocks: Clocks, db: Database, tmp_path: Path) -> Maintenance:
    config = parse_config({"storage": {"spool": tmp_path / "spool"}, "study": TIMING.model_dump()})
    maintenance = Maintenance(config, db, Spool(config.storage.spool))
    maintenance._clock = clocks.watch()
    return maintenance


def test_maintenance_says_that_the_clock_was_set_and_removes_nothing(
    sqlite_db: Database, tmp_path: Path
) -> None:
    clocks = Clocks()
    maintenance = maintenance_with(clocks, sqlite_db, tmp_path)
    file_instance(sqlite_db, "1.1", "1.1.1", now=clocks.wall)
    clocks.run(0.2, jump=40 * 24 * HOUR)
    with capture_logs() as logged:
        assert maintenance.watch_clock()
        assert maintenance.watch_clock() is None
    assert [line["event"] for line in logged] == ["clock_jumped", "retention_paused"]
    assert clock_jumps(sqlite_db).count == 1
    assert clock_jumps(sqlite_db).seconds == pytest.approx(40 * 24 * HOUR)
    assert close_due(sqlite_db, now=clocks.wall + 5, settings=TIMING) == []
    analysed_study(sqlite_db, "1.2", now=NOW - 30 * 24 * HOUR)
    with sqlite_db.write() as connection:
        connection.execute(update(tables.study).values(state=State.DELIVERED))
    assert maintenance.retention.drop_images(threading.Event()) == 0


def test_health_says_that_times_lie_ahead_until_they_are_brought_back(
    sqlite_db: Database, tmp_path: Path
) -> None:
    import time

    maintenance = maintenance_with(Clocks(), sqlite_db, tmp_path)
    file_instance(sqlite_db, "1.1", "1.1.1", now=time.time() + HOUR)
    beat(sqlite_db, "analyse", role="analyse", pid=1, now=time.time() + HOUR)

    def clock() -> str:
        found = {one.name: one for one in readiness(maintenance.config, sqlite_db).checks}
        return "" if found["clock"].ok else found["clock"].text

    assert "times in the database lie ahead" in clock()
    assert heard_of(sqlite_db, now=time.time()) == {}
    assert maintenance.bring_times_back() == 3
    assert clock() == ""


def test_jobs_go_on_when_one_fails_and_it_is_said_once(sqlite_db: Database) -> None:
    stop = threading.Event()
    runs: list[str] = []

    def failing() -> None:
        runs.append("failing")
        raise StorageError("database: is away")

    def good() -> None:
        runs.append("good")
        if runs.count("good") >= 4 and runs.count("failing") >= 3:
            stop.set()

    with capture_logs() as logged:
        run_jobs([("failing", failing, 0.001), ("good", good, 0.001)], stop)
    assert [(line["event"], line["job"]) for line in logged] == [("job_failed", "failing")]


def test_jobs_stop_at_once() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=run_jobs, args=([("rare", lambda: None, 1e6)], stop))
    thread.start()
    stop.set()
    thread.join(60)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    "ask", [lambda one: one.asked(NOW), lambda one: one.unreachable(NOW, "away")]
)
def test_an_audit_does_not_wait_for_the_hour_either(ask: Callable[[Pacing], None]) -> None:
    settings = AuditSettings(studies_per_minute=6, retry_seconds=20, retry_max_seconds=20)
    pacing = Pacing(settings, live=lambda: 0, chance=lambda: 0.5)
    ask(pacing)
    held = pacing.hold(NOW - HOUR, paced=True)
    assert held is not None
    assert held.seconds <= 20
    assert pacing.hold(NOW - HOUR + 20, paced=True) is None


def test_a_jump_leaves_what_is_settled_alone(db: Database) -> None:
    analysed_study(db, "1.1", now=NOW)
    with db.write() as connection:
        connection.execute(update(tables.study).values(state=State.DELIVERED))
    bring_back(db, BOUNDS, now=NOW - HOUR)
    assert state_of(db, "1.1") is State.DELIVERED
