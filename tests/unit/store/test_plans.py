"""No claim, list or count reads through a table that grows with what is done, on either database.

The plans are those of the statements that the functions execute. On SQLite they follow from the
schema alone, as there are no statistics; PostgreSQL is kept from reading small tables whole.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
from sqlalchemy import event

from benchmarks.history import MODEL, NOW, fill
from dicom_ai_node.config import parse_config
from dicom_ai_node.monitor.observation import Role
from dicom_ai_node.ops.machine import bounds_of
from dicom_ai_node.store import Database, clock, deliveries, fills, forwards, queries, retention
from dicom_ai_node.store.instances import forget_dead_associations
from dicom_ai_node.store.monitor import Mode, further_bundles, mode, newest_bundle
from dicom_ai_node.store.patients import priors
from dicom_ai_node.store.study_queue import claim, close_due
from dicom_ai_node.study import State
from tests.builders.databases import opened
from tests.builders.postgres import fresh_database
from tests.builders.rows import TIMING, claim_one, file_instance, finish_one

GROWS = (
    "study", "transition", "instance", "study_header", "analysis", "report", "report_file",
    "delivery", "forward", "proposal", "observation",
)  # fmt: skip
FEW = (
    "ix_study_closing", "ix_study_claim", "ix_study_lease", "ix_delivery_open",
    "ix_delivery_lease", "ix_forward_waiting", "ix_proposal_accepted",
)  # fmt: skip
"""Indices of what is open, which may be read whole."""
KEPT = ("ix_instance_kept", "ix_report_file_kept")
"""Indices of what retention has still to remove."""
STUDIES = 400
_number = count()


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)]
)
def full(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Database]:
    """A database with a history."""
    if request.param == "postgresql":
        with fresh_database(request.getfixturevalue("postgres")) as database:
            fill(database, STUDIES)
            yield database
        return
    database = opened(f"sqlite:///{tmp_path_factory.mktemp('plans') / 'node.db'}")
    fill(database, STUDIES)
    yield database
    database.close()


def claim_studies(db: Database) -> Any:
    return claim(db, owner="a", now=NOW, lease_seconds=60, limit=8, max_attempts=3)


def file(db: Database) -> str:
    uid = f"1.{next(_number)}"
    file_instance(db, uid, f"{uid}.1", now=NOW - 99, association="a")
    return uid


def finish(db: Database) -> None:
    file(db)
    close_due(db, now=NOW, settings=TIMING)
    finish_one(db, claim_one(db, now=NOW), now=NOW)


def send(db: Database) -> None:
    finish(db)
    found, *_ = deliveries.claim(db, "pacs", owner="a", now=NOW, lease_seconds=60, limit=9)
    assert deliveries.delivered(db, found, found.files[0], status=0, now=NOW)


def look_ahead(db: Database) -> None:
    config = parse_config({"destinations": {"pacs": {"ae_title": "A", "host": "h", "port": 1}}})
    clock.count_ahead(db, bounds_of(config), now=NOW)


def list_all(db: Database) -> None:
    file(db)
    page = queries.find(db, limit=9)
    after = queries.place_of(db, page[-1].study_instance_uid)
    rest = queries.find(db, limit=9, after=after)
    assert not {row.study_instance_uid for row in page} & {row.study_instance_uid for row in rest}


def retain(db: Database) -> None:
    before = NOW - 7 * 86400
    gone: Any = {"before": before, "limit": 50, "remove": lambda _: True}
    retention.drop_expired(db, now=NOW, **gone)
    retention.drop_sent(db, **gone)
    retention.drop_reports(db, **gone)


ASKED: dict[str, tuple[Callable[[Database], Any], tuple[str, ...]]] = {
    "claim": (claim_studies, FEW),
    "file": (file, FEW),
    "finish": (finish, FEW),
    "send": (send, FEW),
    "close": (lambda db: close_due(db, now=NOW, settings=TIMING), FEW),
    "newest": (list_all, ("ix_study_newest",)),
    "failed": (lambda db: queries.find(db, states=[State.FAILED, State.READY]), FEW),
    "flagged": (lambda db: queries.find(db, flagged=True, since=NOW - 1e6), FEW),
    "count": (lambda db: queries.overview(db, now=NOW), FEW),
    "ahead": (look_ahead, FEW),
    "due": (lambda db: fills.due(db, now=NOW, limit=9), FEW),
    "forward": (lambda db: forwards.studies_due(db, before=NOW, limit=9), FEW),
    "already": (lambda db: forwards.already_queued(db, "1.1"), FEW),
    "priors": (lambda db: priors(db, patient_key="k", except_study="1.1"), FEW),
    "mode": (lambda db: mode(db) is Mode.LIVE, FEW),
    "bundle": (lambda db: newest_bundle(db, Role.LIVE), FEW),
    "further": (further_bundles, FEW),
    "model": (queries.newest_model, ("analysis",)),
    "dead peers": (lambda db: forget_dead_associations(db, now=NOW), FEW),
    "retention": (retain, KEPT),
    "forget": (
        lambda db: retention.forget_studies(db, before=NOW - 2e7, now=NOW, limit=50),
        (*FEW, "ix_study_done"),
    ),
}


@contextmanager
def executed(db: Database) -> Iterator[list[tuple[str, Any]]]:
    """Collect the statements that the block executes, with their parameters."""
    found: list[tuple[str, Any]] = []

    def seen(
        _connection: Any, _cursor: Any, statement: str, values: Any, _context: Any, many: bool
    ) -> None:
        if statement.split()[0] in ("SELECT", "UPDATE", "DELETE", "WITH"):
            found.append((statement, values[0] if many else values))

    event.listen(db._engine, "before_cursor_execute", seen)
    yield found
    event.remove(db._engine, "before_cursor_execute", seen)


def plan(db: Database, statement: str, values: Any) -> list[str]:
    """Return what the database would do, a line a step."""
    with db.read() as connection:
        if db.is_sqlite:
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        else:
            # Of a small table all is read at once, unless there is another way.
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            rows = connection.exec_driver_sql(f"EXPLAIN {statement}", values)
        return [row[-1] for row in rows]


def reads_through(line: str, allowed: tuple[str, ...]) -> bool:
    """Whether a step of a plan reads a table that grows from end to end."""
    scan = re.search(r"SCAN (\w+)|Seq Scan on (\w+)", line)
    table = scan and (scan[1] or scan[2])
    return table in GROWS and not any(
        f"INDEX {name}" in line or line == f"SCAN {name}" for name in allowed
    )


@pytest.mark.parametrize("asked", ASKED)
def test_nothing_reads_through_what_is_done(full: Database, asked: str) -> None:
    do, allowed = ASKED[asked]
    with executed(full) as statements:
        do(full)
    assert statements
    lines = {
        line: statement
        for statement, values in statements
        for line in plan(full, statement, values)
        if reads_through(line, allowed)
    }
    assert not lines


def test_a_history_is_as_long_as_it_says(sqlite_db: Database) -> None:
    fill(sqlite_db, STUDIES)
    seen = queries.overview(sqlite_db, now=NOW)
    assert sum(seen.studies.values()) == STUDIES
    assert seen.instances == 2 * STUDIES
    assert newest_bundle(sqlite_db, Role.LIVE)[0] == MODEL


def test_plans_of_sqlite_follow_from_the_schema(sqlite_db: Database) -> None:
    fill(sqlite_db, STUDIES)
    sqlite_db.tidy()
    with sqlite_db.read() as connection:
        tables = connection.exec_driver_sql("SELECT name FROM sqlite_schema").scalars()
        assert not [name for name in tables if name.startswith("sqlite_stat")]
