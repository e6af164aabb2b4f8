"""Rows of processes, and the counts that health and metrics show."""

import threading
from concurrent.futures import ThreadPoolExecutor

from dicom_ai_node.store import Database
from dicom_ai_node.store.node import (
    Worker,
    alive,
    beat,
    forget,
    forget_silent,
    value_of,
    write_probe,
)
from dicom_ai_node.store.queries import newest_model, overview
from dicom_ai_node.study import State
from tests.builders.rows import analysed_study, file_instance


def test_a_worker_lives_as_long_as_it_beats(db: Database) -> None:
    beat(db, "analyse", role="analyse", pid=7, now=10)
    beat(db, "analyse", role="analyse", pid=7, now=20)
    assert alive(db, since=15) == [Worker("analyse", "analyse", 7, 10.0, 20.0)]
    assert alive(db, since=21) == []


def test_a_new_process_under_a_known_name_begins_anew(db: Database) -> None:
    beat(db, "web", role="web", pid=7, now=10)
    beat(db, "web", role="web", pid=8, now=30)
    forget(db, "web", pid=7)
    assert alive(db) == [Worker("web", "web", 8, 30.0, 30.0)]
    forget(db, "web", pid=8)
    assert alive(db) == []


def test_a_process_that_is_starting_has_not_begun_to_work(db: Database) -> None:
    beat(db, "analyse", role="analyse", pid=7, now=10, starting=True)
    beat(db, "analyse", role="analyse", pid=7, now=20, starting=True)
    assert [(one.started_at, one.alive_at) for one in alive(db)] == [(0, 20)]
    beat(db, "analyse", role="analyse", pid=7, now=30)
    beat(db, "analyse", role="analyse", pid=7, now=40)
    assert [(one.started_at, one.alive_at) for one in alive(db)] == [(30, 40)]
    beat(db, "analyse", role="analyse", pid=8, now=50, starting=True)
    assert [(one.started_at, one.alive_at) for one in alive(db)] == [(0, 50)]


def test_silent_workers_are_forgotten(db: Database) -> None:
    beat(db, "receive-3", role="receive", pid=1, now=10)
    beat(db, "receive-1", role="receive", pid=2, now=90)
    assert forget_silent(db, before=50) == 1
    assert [one.name for one in alive(db)] == ["receive-1"]


def test_two_who_probe_at_once_both_succeed(db: Database) -> None:
    """Such as ``status`` while the web process is asked."""
    together = threading.Barrier(2)

    def probe(number: int) -> int:
        for _ in range(20):
            together.wait(60)
            write_probe(db, now=number)
        return number

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(probe, range(2))) == [0, 1]
    with db.read() as connection:
        found = value_of(connection, "probe")
    assert found is not None
    assert found.at in (0.0, 1.0)


def test_an_empty_node_counts_nothing(db: Database) -> None:
    seen = overview(db, now=0)
    assert set(seen.studies) == set(State)
    assert sum(seen.studies.values()) == seen.instances == seen.quarantined == 0
    assert (seen.oldest_study, seen.oldest_delivery, seen.deliveries) == ({}, {}, {})
    assert newest_model(db) == {}


def test_counts_and_the_oldest_of_each_queue(db: Database) -> None:
    analysed_study(db, "1.1", now=100)
    file_instance(db, "1.2", "1.2.1", now=200)
    file_instance(db, "1.3", "1.3.1", now=205)
    seen = overview(db, now=210)
    assert seen.studies[State.REPORTED] == 1
    assert seen.studies[State.COLLECTING] == 2
    assert seen.deliveries == {("pacs", "queued"): 1}
    assert seen.oldest_study == {State.COLLECTING: 200.0}
    assert seen.oldest_delivery == {"pacs": 100.0}
    assert (seen.instances, seen.dropped, seen.reports, seen.invalid_reports) == (3, 0, 1, 0)


def test_tidying_leaves_the_database_usable(db: Database) -> None:
    file_instance(db, "1.2", "1.2.1")
    db.tidy()
    assert overview(db, now=0).instances == 1
