"""What is removed when its time is over, and what never is."""

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from dicom_ai_node.config import parse_config
from dicom_ai_node.config.processes import StorageSettings
from dicom_ai_node.ops.retention import Retention
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database, tables
from dicom_ai_node.store.deliveries import claim, give_up
from dicom_ai_node.store.forwards import is_coerced, studies_due
from dicom_ai_node.store.instances import Filed, record
from dicom_ai_node.store.queries import overview
from dicom_ai_node.store.reports import (
    COERCED,
    RECEIVED,
    NewReport,
    StoredFile,
    has_result,
    insert_report,
    newest_report,
    queue_report,
)
from dicom_ai_node.store.retention import drop_expired, drop_reports, forget_studies
from dicom_ai_node.store.study_queue import requeue
from dicom_ai_node.study import State
from dicom_ai_node.study.proposals import ProposalState
from tests.builders.rows import (
    CR,
    TIMING,
    analysed_study,
    claim_deliveries,
    claim_one,
    deliver_all,
    finish_one,
    instance,
    state_of,
)

DONE, LATER = 200.0, 1000.0


def drop(db: Database, *, before: float = LATER) -> list[str]:
    gone: list[str] = []

    def remove(path: str) -> bool:
        gone.append(path)
        return True

    assert drop_reports(db, before=before, limit=50, remove=remove) == len(gone)
    return gone


def delivered_study(db: Database, uid: str = "1.1") -> None:
    analysed_study(db, uid)
    deliver_all(db, "pacs", now=DONE)


def drop_images(db: Database) -> int:
    return drop_expired(db, before=LATER, now=LATER, limit=50, remove=lambda _: True)


def column(db: Database, wanted: Any) -> list[Any]:
    with db.read() as connection:
        return list(connection.execute(select(wanted)).scalars())


def propose(db: Database, state: ProposalState, uid: str = "1.1") -> None:
    with db.write() as connection:
        connection.execute(
            insert(tables.proposal).values(
                study_instance_uid=uid, keyword="PatientAge", value="063Y", source="dates",
                rules=[], state=state, created_at=DONE, updated_at=DONE,
            )
        )  # fmt: skip


@pytest.mark.parametrize("state", list(ProposalState))
def test_images_stay_while_a_proposal_may_still_need_them(
    db: Database, state: ProposalState
) -> None:
    delivered_study(db)
    propose(db, state)
    kept = state in (ProposalState.OPEN, ProposalState.ACCEPTED)
    assert drop_images(db) == (not kept)
    with db.write() as connection:
        connection.execute(update(tables.proposal).values(state=ProposalState.REJECTED))
    assert drop_images(db) == kept


def test_a_proposal_keeps_no_images_of_other_studies(db: Database) -> None:
    for uid in ("1.1", "1.2"):
        delivered_study(db, uid)
    propose(db, ProposalState.OPEN)
    assert drop_images(db) == 1


def test_report_files_go_when_every_destination_had_them_long_enough(db: Database) -> None:
    delivered_study(db)
    assert drop(db, before=DONE) == []
    assert drop(db) == ["reports/1.1-k1.dcm"]
    assert drop(db) == []
    assert column(db, tables.report_file.c.path) == [""]
    assert column(db, tables.delivery.c.state) == ["delivered"]


def test_what_is_unsent_or_was_never_sent_stays(db: Database) -> None:
    analysed_study(db, "1.1")  # queued
    analysed_study(db, "1.2", destinations=())  # nobody gets it
    assert state_of(db, "1.2") is State.DELIVERED
    assert drop(db) == []
    claim_deliveries(db, "pacs", now=150)  # sending
    assert drop(db) == []


def test_a_dead_letter_keeps_the_report_for_whom_it_is(db: Database) -> None:
    analysed_study(db, "1.1", destinations=("pacs", "other"))
    deliver_all(db, "pacs", now=DONE)
    (claimed,) = claim(db, "other", owner="w", now=DONE, lease_seconds=60, limit=9)
    give_up(db, claimed, status=0xC000, error="refused", now=DONE)
    assert drop(db) == []
    assert forget(db) == 0


def test_an_old_report_is_made_again_for_a_destination_that_is_new(db: Database) -> None:
    delivered_study(db)
    assert has_result(db, "1.1", "k1")
    drop(db)
    assert not has_result(db, "1.1", "k1")
    requeue(db, "1.1", now=LATER)
    claimed = claim_one(db, now=LATER)
    assert finish_one(db, claimed, destinations=("pacs", "new"), now=LATER)
    assert column(db, tables.report_file.c.path) == ["reports/1.1-k1.dcm"]
    assert has_result(db, "1.1", "k1")
    assert claim_deliveries(db, "pacs", now=LATER) == []
    assert [one.files[0].path for one in claim_deliveries(db, "new", now=LATER)] == [
        "reports/1.1-k1.dcm"
    ]


def test_a_report_that_is_made_again_does_not_replace_itself(db: Database) -> None:
    delivered_study(db)
    for key, now in (("k2", 300.0), ("k3", 400.0)):
        requeue(db, "1.1", now=now)
        assert finish_one(db, claim_one(db, now=now), key=key, now=now)
    replaced = {
        key: found and found.files[0].sop_instance_uid
        for key in ("k1", "k2", "k3", "k4")
        for found in [newest_report(db, "1.1", kind="sr", before_result=key)]
    }
    assert replaced == {"k1": None, "k2": "1.1.1", "k3": "1.1.2", "k4": "1.1.3"}


def forgettable(db: Database, uid: str = "1.1") -> None:
    delivered_study(db, uid)
    drop_images(db)
    drop(db)


def test_a_study_is_forgotten_with_all_its_rows_and_still_counted(db: Database) -> None:
    forgettable(db)
    delivered_study(db, "1.2")
    before = overview(db, now=LATER)
    assert forget_studies(db, before=DONE, now=LATER, limit=9) == 0
    assert forget(db) == 1
    assert forget(db) == 0
    after = overview(db, now=LATER)
    assert (after.instances, after.dropped, after.reports) == (
        before.instances, before.dropped, before.reports,
    )  # fmt: skip
    assert after.studies[State.DELIVERED] == before.studies[State.DELIVERED] - 1
    for table in (tables.study, tables.instance, tables.report, tables.delivery, tables.analysis):
        assert column(db, table.c.study_instance_uid) == ["1.2"]


def forget(db: Database) -> int:
    return forget_studies(db, before=LATER, now=LATER, limit=9)


@pytest.mark.parametrize("state", list(ProposalState))
def test_where_a_value_was_proposed_the_decision_stays_for_good(
    db: Database, state: ProposalState
) -> None:
    forgettable(db)
    propose(db, state)
    is_decided = state not in (ProposalState.OPEN, ProposalState.ACCEPTED)
    assert forget(db) == is_decided
    assert forget(db) == 0
    assert column(db, tables.proposal.c.state) == [state]
    assert column(db, tables.study.c.trimmed_at) == [LATER if is_decided else None]
    for table in (tables.instance, tables.report, tables.delivery, tables.analysis):
        assert len(column(db, table.c.study_instance_uid)) == (not is_decided)


def test_an_estimate_whose_network_only_the_result_names_keeps_it(db: Database) -> None:
    forgettable(db)
    propose(db, ProposalState.REJECTED)
    with db.write() as connection:
        connection.execute(update(tables.proposal).values(source="inference"))
    assert forget(db) == 0
    with db.write() as connection:
        connection.execute(update(tables.proposal).values(model={"name": "n"}))
    assert forget(db) == 1


def forwarded_study(db: Database, kind: str) -> None:
    """A study whose image went on, and whose files are gone."""
    forgettable(db)
    with db.write() as connection:
        new = NewReport(kind, (StoredFile(CR, "1.1.9", "" if kind == COERCED else "kept"),))
        number = insert_report(connection, "1.1", new, analysis_id=None)
        queue_report(connection, number, "1.1", "archive", now=DONE)
        connection.execute(
            update(tables.delivery)
            .where(tables.delivery.c.report_id == number)
            .values(state="delivered", settled_at=DONE)
        )
        connection.execute(
            insert(tables.forward).values(
                sop_instance_uid="1.1.9", study_instance_uid="1.1", received_at=1.0,
                report_id=number,
            )
        )  # fmt: skip


@pytest.mark.parametrize("kind", [RECEIVED, COERCED])
def test_an_image_that_went_on_never_goes_on_again(db: Database, kind: str) -> None:
    forwarded_study(db, kind)
    assert forget(db) == 1
    assert column(db, tables.report.c.kind) == [kind]
    assert column(db, tables.delivery.c.destination) == (["archive"] if kind == COERCED else [])
    file_again = record(
        db, instance("1.1.9"), study_instance_uid="1.1", analysable=True, settings=TIMING,
        now=LATER, forward=True,
    )  # fmt: skip
    assert file_again is Filed.NEW
    assert is_coerced(db, "1.1.9") == (kind == COERCED)
    assert studies_due(db, before=2 * LATER, limit=9) == []
    assert column(db, tables.study.c.trimmed_at) == [None]


def test_a_study_that_comes_again_gets_the_report_it_had(db: Database) -> None:
    """Its UID follows from its content, so who has it gets no second one."""
    forgettable(db)
    assert forget(db) == 1
    delivered_study(db)
    assert column(db, tables.report_file.c.sop_instance_uid) == ["1.1.1"]
    assert state_of(db, "1.1") is State.DELIVERED


def test_a_database_whose_studies_come_and_go_does_not_grow(sqlite_db: Database) -> None:
    def pages(count: int) -> int:
        for number in range(count):
            forgettable(sqlite_db, f"1.{number}")
            assert forget(sqlite_db) == 1
        with sqlite_db.read() as connection:
            return int(connection.exec_driver_sql("PRAGMA page_count").scalar_one())

    assert pages(20) == pages(20)


def retention(tmp_path: Path, db: Database, **storage: Any) -> Retention:
    config = parse_config({"storage": {"spool": tmp_path / "spool", **storage}})
    spool = Spool(config.storage.spool)
    spool.create()
    return Retention(config, db, spool)


def made(job: Retention, name: str, *, days: float = 0.0) -> Path:
    path = job.spool.reports / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"report")
    at = time.time() - days * 86400
    os.utime(path, (at, at))
    return path


def test_maintenance_removes_old_reports_by_its_settings(
    sqlite_db: Database, tmp_path: Path
) -> None:
    job = retention(tmp_path, sqlite_db, report_retention_days=30)
    delivered_study(sqlite_db)
    file = made(job, "1.1-k1.dcm", days=100)
    assert job.drop_reports(threading.Event()) == 1
    assert not file.exists()
    for_good = retention(tmp_path, sqlite_db, report_retention_days=0, row_retention_days=0)
    assert for_good.drop_reports(threading.Event()) == 0
    assert for_good.forget_studies(threading.Event()) == 0
    drop_images(sqlite_db)
    assert job.forget_studies(threading.Event()) == 1


def test_made_files_that_no_row_names_go_when_they_are_as_old_as_reports_get(
    sqlite_db: Database, tmp_path: Path
) -> None:
    job = retention(tmp_path, sqlite_db, report_retention_days=30)
    delivered_study(sqlite_db)
    with sqlite_db.write() as connection:
        connection.execute(update(tables.report_file).values(path="reports/k1/named.dcm"))
    named, young = made(job, "k1/named.dcm", days=100), made(job, "k1/young.dcm", days=20)
    stray, part = made(job, "k1/stray.dcm", days=31), made(job, "killed.part", days=1)
    assert job.drop_strays() == 2
    assert [path.exists() for path in (named, young, stray, part)] == [True, True, False, False]


def test_a_file_that_is_written_again_is_young_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.create()
    path = spool.report_path("1.2.3")
    spool.write(path, b"first")
    os.utime(path, (0, 0))
    spool.write(path, b"second")
    assert path.read_bytes() == b"first"
    assert path.stat().st_mtime > time.time() - 3600


def test_rows_must_outlive_files() -> None:
    with pytest.raises(ValueError, match="row_retention_days must be at least"):
        StorageSettings(report_retention_days=100, row_retention_days=99)
    StorageSettings(report_retention_days=100, row_retention_days=0)
