"""What the triggers count is what is there, whatever becomes of it."""

from collections import Counter

from sqlalchemy import case, func, literal, select

from dicom_ai_node.store import Database, study_queue
from dicom_ai_node.store.deliveries import give_up, requeue_dead
from dicom_ai_node.store.instances import record_quarantine
from dicom_ai_node.store.queries import overview
from dicom_ai_node.store.results import NewAnalysis, finish
from dicom_ai_node.store.retention import drop_expired, drop_reports, forget_studies
from dicom_ai_node.store.tables import (
    delivery,
    instance,
    observation,
    quarantine,
    report,
    study,
    tally,
)
from dicom_ai_node.store.tallies import fold, tallies
from dicom_ai_node.study import DeliveryState, State
from tests.builders.databases import copy_rows
from tests.builders.observations import seen
from tests.builders.rows import (
    TIMING,
    analysed_study,
    claim_deliveries,
    claim_one,
    deliver_all,
    file_instance,
    finish_one,
)
from tests.unit.store.test_schema import upgraded_to

COLUMNS = {
    "study": (literal(""), study.c.state),
    "delivery": (delivery.c.destination, delivery.c.state),
    "instance": (literal(""), case((instance.c.dropped_at.is_(None), "kept"), else_="dropped")),
    "report": (report.c.kind, case((report.c.quarantined == "", "valid"), else_="invalid")),
    "observation": (observation.c.model_sha256, observation.c.role),
    "quarantine": (literal(""), literal("")),
}
TABLES = (study, delivery, instance, report, observation, quarantine)


def counted(db: Database) -> dict[str, dict[tuple[str, str], int]]:
    """Count by reading everything."""
    found = {}
    with db.read() as connection:
        for table in TABLES:
            rows = connection.execute(select(*COLUMNS[table.name]).select_from(table))
            found[table.name] = dict(Counter((name, state) for name, state in rows))
    return found


def agrees(db: Database) -> bool:
    with db.read() as connection:
        return tallies(connection, *COLUMNS) == counted(db)


def observed(db: Database, uid: str, *, now: float) -> None:
    file_instance(db, uid, f"{uid}.9", now=now - 50)
    study_queue.close_due(db, now=now, settings=TIMING)
    new = NewAnalysis("k9", {}, False, (), observations=(seen(uid),))
    assert finish(
        db, claim_one(db, now=now), new, header=None, destinations={}, reason=None, now=now
    )


def test_what_is_counted_is_what_is_there(db: Database) -> None:
    assert agrees(db)
    for uid in ("1.1", "1.2", "1.3"):
        analysed_study(db, uid, destinations=("pacs", "other"))
        assert agrees(db)
    deliver_all(db, "pacs", now=150)
    assert agrees(db)
    for claimed in claim_deliveries(db, "other", now=150):
        give_up(db, claimed, status=None, error="refused", now=150)
        assert agrees(db)
    assert overview(db, now=150).studies[State.UNDELIVERED] == 3
    requeue_dead(db, study_uid="1.1", now=160)
    assert agrees(db)
    deliver_all(db, "other", now=200)
    assert overview(db, now=200).deliveries["other", DeliveryState.DELIVERED] == 1
    study_queue.requeue(db, "1.2", now=210)
    assert finish_one(db, claim_one(db, now=210), key="k2", now=210)
    observed(db, "1.4", now=300)
    record_quarantine(db, path="p", calling_ae="A", reason="odd", now=300)
    assert agrees(db)
    drop_expired(db, before=999, now=999, limit=9, remove=lambda _: True)
    drop_reports(db, before=999, limit=9, remove=lambda _: True)
    assert agrees(db)
    before = overview(db, now=999)
    assert forget_studies(db, before=999, now=999, limit=9) == 1
    assert agrees(db)
    after = overview(db, now=999)
    assert (after.instances, after.reports) == (before.instances, before.reports)


def test_sessions_that_count_apart_are_brought_together(db: Database) -> None:
    analysed_study(db, "1.1")
    deliver_all(db, "pacs", now=150)
    with db.read() as connection:
        before = tallies(connection, *COLUMNS)
    for _ in range(2):
        fold(db)
        with db.read() as connection:
            assert tallies(connection, *COLUMNS) == before
            assert connection.scalar(select(func.max(tally.c.shard))) == 0
    analysed_study(db, "1.2")
    assert agrees(db)


def test_what_was_there_before_is_counted_by_the_migration(
    sqlite_db: Database, empty_db: Database
) -> None:
    analysed_study(sqlite_db, "1.1")
    file_instance(sqlite_db, "1.2", now=500)
    observed(sqlite_db, "1.3", now=700)
    upgraded_to(empty_db, "0013")
    copy_rows(sqlite_db, empty_db)
    empty_db.upgrade()
    assert agrees(empty_db)
    assert sum(counted(empty_db)["study"].values()) == 3
    deliver_all(empty_db, "pacs", now=750)
    assert agrees(empty_db)
