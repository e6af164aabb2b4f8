"""The database, on SQLite and, where a server is at hand, on PostgreSQL."""

from contextlib import ExitStack
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import select

from dicom_ai_node.errors import StorageError
from dicom_ai_node.store import Database, deliveries, instances, leases, patients, studies
from dicom_ai_node.store.database import _alembic_config
from dicom_ai_node.store.instances import Filed
from dicom_ai_node.store.reports import NewReport, has_result, newest_report
from dicom_ai_node.store.tables import metadata, study, transition
from dicom_ai_node.study import LatePolicy, State, StudySettings
from dicom_ai_node.types import Reason
from tests.builders.rows import (
    TIMING,
    analysed_study,
    analysis,
    claim_one,
    file_instance,
)


@pytest.fixture
def db(any_db: Database) -> Database:
    return any_db


def state_of(db: Database, uid: str) -> State:
    with db.read() as connection:
        query = select(study.c.state).where(study.c.study_instance_uid == uid)
        return State(connection.execute(query).scalar_one())


def events_of(db: Database, uid: str) -> list[str]:
    with db.read() as connection:
        query = (
            select(transition.c.event)
            .where(transition.c.study_instance_uid == uid)
            .order_by(transition.c.id)
        )
        return list(connection.execute(query).scalars())


def test_the_migration_makes_the_tables_of_the_program(db: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    with db.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    db.check_schema()


def test_an_older_sqlite_database_keeps_its_reports_and_deliveries(tmp_path: Path) -> None:
    """The table of reports is replaced, with rows of other tables pointing to it."""
    old = Database(f"sqlite:///{tmp_path / 'old.db'}")
    with old.write() as connection:
        config = _alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
    analysed_study(old, "1.1")
    old.upgrade()
    old.check_schema()
    deliver_all(old, "pacs", now=101)
    assert state_of(old, "1.1") is State.DELIVERED
    with pytest.raises(StorageError, match="FOREIGN KEY"), old.write() as connection:
        connection.exec_driver_sql("DELETE FROM report")
    old.close()


def test_upgrade_is_idempotent(db: Database) -> None:
    assert db.upgrade() == db.revision()


def test_an_empty_database_is_refused_with_what_to_do(tmp_path: Path) -> None:
    empty = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(StorageError, match="db upgrade"):
        empty.check_schema()
    empty.close()


def test_who_only_looks_makes_no_database(tmp_path: Path) -> None:
    path = tmp_path / "var" / "node.db"
    absent = Database(f"sqlite:///{path}")
    with pytest.raises(StorageError, match=r"schema is empty, .* run 'dicom-ai-node db upgrade'"):
        absent.check_schema()
    assert not path.parent.exists()
    absent.upgrade()
    absent.check_schema()
    absent.close()


def test_same_instance_twice_is_one_and_other_content_is_a_version(db: Database) -> None:
    assert file_instance(db, "1.1") is Filed.NEW
    assert file_instance(db, "1.1") is Filed.DUPLICATE
    assert file_instance(db, "1.1", content="b") is Filed.NEW_VERSION
    studies.close_due(db, now=50, settings=TIMING)
    claimed = claim_one(db, now=50)
    assert [(one.digest, one.version) for one in claimed.instances] == [("1.2.3.1-b", 2)]


def test_a_duplicate_does_not_reopen_a_delivered_study(db: Database) -> None:
    analysed_study(db, "1.1")
    deliver_all(db, "pacs", now=101)
    assert state_of(db, "1.1") is State.DELIVERED
    assert file_instance(db, "1.1", "1.1.1", now=200) is Filed.DUPLICATE
    assert state_of(db, "1.1") is State.DELIVERED


def test_a_study_closes_after_quiet_counted_from_the_last_instance(db: Database) -> None:
    file_instance(db, "1.1", "1.1.1", now=0)
    file_instance(db, "1.1", "1.1.2", now=8)
    assert studies.close_due(db, now=11, settings=TIMING) == []
    assert studies.close_due(db, now=18, settings=TIMING) == ["1.1"]
    assert state_of(db, "1.1") is State.READY


def test_an_open_association_holds_the_study_until_it_ends(db: Database) -> None:
    open_association(db, now=0, alive_until=60)
    file_instance(db, "1.1", association="a1", now=0)
    assert studies.close_due(db, now=30, settings=TIMING) == []
    instances.close_association(db, "a1")
    assert studies.close_due(db, now=30, settings=TIMING) == ["1.1"]


def test_a_dead_receivers_association_does_not_hold_the_study(db: Database) -> None:
    open_association(db, now=0, alive_until=20)
    file_instance(db, "1.1", association="a1", now=0)
    assert studies.close_due(db, now=15, settings=TIMING) == []
    assert studies.close_due(db, now=30, settings=TIMING) == ["1.1"]
    assert instances.forget_dead_associations(db, now=30) == 1


def test_the_cap_closes_a_study_that_is_still_being_sent(db: Database) -> None:
    open_association(db, now=0, alive_until=1000)
    for now in range(0, 100, 5):
        file_instance(db, "1.1", f"1.1.{now + 1}", association="a1", now=now)
    assert studies.close_due(db, now=99, settings=TIMING) == []
    assert studies.close_due(db, now=101, settings=TIMING) == ["1.1"]


def open_association(db: Database, *, now: float, alive_until: float) -> None:
    instances.open_association(
        db, "a1", calling_ae="CT", address="127.0.0.1", now=now, alive_until=alive_until
    )


def test_a_late_image_during_analysis_discards_the_result(db: Database) -> None:
    file_instance(db, "1.1", "1.1.1")
    studies.close_due(db, now=20, settings=TIMING)
    claimed = claim_one(db, now=20)
    file_instance(db, "1.1", "1.1.2", now=21)
    assert not finish(db, claimed, now=22)
    assert state_of(db, "1.1") is State.COLLECTING
    studies.close_due(db, now=40, settings=TIMING)
    again = claim_one(db, now=40)
    assert len(again.instances) == 2
    assert again.attempts == 1
    assert finish(db, again, now=41)


def finish(db: Database, claimed: leases.ClaimedStudy, *, key: str = "k1", now: float) -> bool:
    return studies.finish(
        db,
        claimed,
        analysis(claimed.study_instance_uid, key),
        header=None,
        destinations={"pacs": frozenset({"sr"})},
        reason=None,
        now=now,
    )


def test_late_policy_keep_files_the_image_and_leaves_the_result(db: Database) -> None:
    keep = StudySettings(quiet_seconds=10, max_wait_seconds=100, late_policy=LatePolicy.KEEP)
    analysed_study(db, "1.1")
    assert file_instance(db, "1.1", "1.1.2", now=200, settings=keep) is Filed.NEW
    assert state_of(db, "1.1") is State.REPORTED


def test_an_instance_of_a_kept_class_does_not_reopen(db: Database) -> None:
    analysed_study(db, "1.1")
    file_instance(db, "1.1", "1.1.9", now=200, analysable=False)
    assert state_of(db, "1.1") is State.REPORTED


def test_an_unchanged_result_queues_nothing_again(db: Database) -> None:
    analysed_study(db, "1.1")
    deliver_all(db, "pacs", now=101)
    assert studies.requeue(db, "1.1", now=200) is State.READY
    assert finish(db, claim_one(db, now=200), key="k1", now=201)
    assert state_of(db, "1.1") is State.DELIVERED
    assert claim_deliveries(db, "pacs", now=300) == []


def test_a_changed_result_supersedes_and_is_sent(db: Database) -> None:
    analysed_study(db, "1.1")
    deliver_all(db, "pacs", now=101)
    studies.requeue(db, "1.1", now=200)
    previous = newest_report(db, "1.1", kind="sr")
    assert previous is not None
    assert [one.sop_instance_uid for one in previous.files] == ["1.1.1"]
    assert previous.model_sha256 == "abc"
    assert finish(db, claim_one(db, now=200), key="k2", now=201)
    assert state_of(db, "1.1") is State.REPORTED
    assert len(claim_deliveries(db, "pacs", now=300)) == 1


def test_an_expired_lease_is_taken_over_and_its_late_result_discarded(db: Database) -> None:
    file_instance(db, "1.1")
    studies.close_due(db, now=20, settings=TIMING)
    lost = claim_one(db, now=20, owner="dead")
    assert claim_all(db, now=50) == []
    taken = claim_one(db, now=81, owner="alive")
    assert taken.attempts == 2
    assert not finish(db, lost, now=82)
    assert finish(db, taken, now=82)
    assert events_of(db, "1.1") == ["quiet", "claim", "lease_expired", "claim", "result"]


def test_a_renewed_lease_is_kept(db: Database) -> None:
    file_instance(db, "1.1")
    studies.close_due(db, now=20, settings=TIMING)
    claim_one(db, now=20)
    leases.renew(db, owner="worker", now=70, lease_seconds=60)
    assert claim_all(db, now=100, owner="other") == []


def claim_all(
    db: Database, *, now: float, owner: str = "worker", limit: int = 10
) -> list[leases.ClaimedStudy]:
    return leases.claim(db, owner=owner, now=now, lease_seconds=60, limit=limit, max_attempts=3)


def test_what_kills_its_analyser_fails_alone(db: Database) -> None:
    """Three studies are claimed together and one is poison: the others survive it."""
    for uid in ("1.1", "1.2", "1.3"):
        file_instance(db, uid, f"{uid}.1")
    studies.close_due(db, now=20, settings=TIMING)
    now = 20.0
    assert len(claim_all(db, now=now)) == 3
    for _ in range(20):
        now += 61
        for claimed in claim_all(db, now=now):
            if claimed.study_instance_uid != "1.2":
                assert finish(db, claimed, now=now)
    assert state_of(db, "1.2") is State.FAILED
    assert state_of(db, "1.1") is State.REPORTED
    assert state_of(db, "1.3") is State.REPORTED


def test_a_failed_attempt_waits_and_the_last_one_fails_the_study(db: Database) -> None:
    file_instance(db, "1.1")
    studies.close_due(db, now=20, settings=TIMING)
    reason = Reason("analysis_failed", "why")
    assert studies.fail(db, claim_one(db, now=20), reason, retry_at=30, now=20)
    assert claim_all(db, now=29) == []
    assert studies.fail(db, claim_one(db, now=31), reason, retry_at=None, now=31)
    assert state_of(db, "1.1") is State.FAILED
    assert studies.requeue(db, "1.1", now=40) is State.READY
    assert claim_one(db, now=41).attempts == 1


def test_a_stopped_worker_hands_back_without_using_up_an_attempt(db: Database) -> None:
    file_instance(db, "1.1")
    studies.close_due(db, now=20, settings=TIMING)
    claim_one(db, now=20)
    leases.hand_back(db, owner="worker", now=21)
    assert claim_one(db, now=21).attempts == 1


def test_priors_are_found_by_patient_only(db: Database) -> None:
    for uid, patient in (("1.1", "p"), ("1.2", "p"), ("1.3", ""), ("1.4", "q")):
        file_instance(db, uid, f"{uid}.1")
        studies.close_due(db, now=20, settings=TIMING)
        header = patients.StudyHeader(patient, "20200102", "F", "19600101", 60.0)
        assert studies.finish(
            db, claim_one(db, now=20), analysis(uid), header=header, destinations={},
            reason=None, now=21,
        )  # fmt: skip
    (prior,) = patients.priors(db, patient_key="p", except_study="1.1")
    assert prior.study_instance_uid == "1.2"
    assert prior.study_date is not None
    assert prior.study_date.year == 2020
    assert patients.priors(db, patient_key="", except_study="1.1") == []


def test_without_destinations_a_reported_study_is_done(db: Database) -> None:
    analysed_study(db, "1.1", destinations=())
    assert state_of(db, "1.1") is State.DELIVERED


def claim_deliveries(
    db: Database, name: str, *, now: float, owner: str = "d"
) -> list[deliveries.ClaimedDelivery]:
    return deliveries.claim(db, name, owner=owner, now=now, lease_seconds=60, limit=10)


def deliver_all(db: Database, name: str, *, now: float) -> None:
    for one in claim_deliveries(db, name, now=now):
        assert deliveries.delivered(db, one, one.files[0], status=0, now=now)


def test_a_study_is_delivered_when_its_last_destination_has_it(db: Database) -> None:
    analysed_study(db, "1.1", destinations=("a", "b"))
    deliver_all(db, "a", now=101)
    assert state_of(db, "1.1") is State.REPORTED
    deliver_all(db, "b", now=102)
    assert state_of(db, "1.1") is State.DELIVERED
    assert deliveries.destination_state(db, "a").sop_class_uid.endswith(".88.33")


def test_a_held_destination_waits_as_a_whole_and_no_other(db: Database) -> None:
    analysed_study(db, "1.1", destinations=("down", "up"))
    claimed = claim_deliveries(db, "down", now=101)
    deliveries.hold(db, "down", claimed, until=200, error="connection refused")
    assert claim_deliveries(db, "down", now=150) == []
    assert len(claim_deliveries(db, "up", now=150)) == 1
    (again,) = claim_deliveries(db, "down", now=201)
    assert again.attempts == 1
    assert deliveries.destination_state(db, "down").failures == 1


def test_a_dead_letter_is_named_and_one_call_requeues_it(db: Database) -> None:
    analysed_study(db, "1.1")
    (claimed,) = claim_deliveries(db, "pacs", now=101)
    deliveries.give_up(db, claimed, status=0xC000, error="cannot understand", now=102)
    assert state_of(db, "1.1") is State.UNDELIVERED
    assert deliveries.requeue_dead(db, study_instance_uid=None, now=103) == 1
    assert state_of(db, "1.1") is State.REPORTED
    deliver_all(db, "pacs", now=104)
    assert state_of(db, "1.1") is State.DELIVERED


def test_a_lost_delivery_lease_is_open_again_and_its_late_word_ignored(db: Database) -> None:
    analysed_study(db, "1.1")
    (lost,) = claim_deliveries(db, "pacs", now=101, owner="dead")
    (taken,) = claim_deliveries(db, "pacs", now=200, owner="alive")
    deliveries.postpone(db, lost, until=999, status=None, error="late word")
    assert deliveries.delivered(db, taken, taken.files[0], status=0, now=201)
    assert not deliveries.delivered(db, lost, lost.files[0], status=0, now=202)


def test_retention_takes_only_what_is_settled(db: Database) -> None:
    analysed_study(db, "1.1")
    file_instance(db, "1.2", "1.2.1")
    removed: list[str] = []

    def drop(*, before: float, keep: bool = False) -> int:
        def remove(path: str) -> bool:
            removed.append(path)
            return not keep

        return instances.drop_expired(db, before=before, now=500, limit=10, remove=remove)

    assert drop(before=1e6) == 0
    deliver_all(db, "pacs", now=101)
    assert drop(before=100) == 0
    assert removed == []
    assert drop(before=1e6, keep=True) == 0
    assert drop(before=1e6) == 1
    assert removed == ["instances/1.1.1-a.dcm"] * 2
    assert drop(before=1e6) == 0


def test_a_late_image_after_retention_is_analysed_without_the_files_that_are_gone(
    db: Database,
) -> None:
    analysed_study(db, "1.1")
    deliver_all(db, "pacs", now=101)
    instances.drop_expired(db, before=1e6, now=500, limit=10, remove=lambda path: True)
    file_instance(db, "1.1", "1.1.2", now=600)
    studies.close_due(db, now=700, settings=TIMING)
    (left,) = claim_one(db, now=700).instances
    assert left.image.sop_instance_uid == "1.1.2"


def test_waiting_in_vain_for_a_connection_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'node.db'}")
    monkeypatch.setattr(database._engine.pool, "_timeout", 0.05)
    with ExitStack() as held:
        for _ in range(15):  # the pool and its overflow
            held.enter_context(database.read())
        with pytest.raises(StorageError, match="no connection"), database.read():
            pass
    database.close()


def test_a_quarantined_report_is_made_again_and_never_counts_as_delivered(db: Database) -> None:
    file_instance(db, "1.1")
    studies.close_due(db, now=20, settings=TIMING)
    bad = NewReport("sr", analysis("1.1").reports[0].files, quarantined="no evidence")
    new = studies.NewAnalysis("k1", {"model": None}, True, (bad,))
    assert finish_with(db, claim_one(db, now=20), new, now=21)
    assert state_of(db, "1.1") is State.FAILED
    assert not has_result(db, "1.1", "k1")
    studies.requeue(db, "1.1", now=30)
    assert finish_with(db, claim_one(db, now=30), new, now=31)
    assert state_of(db, "1.1") is State.FAILED
    studies.requeue(db, "1.1", now=40)
    assert finish(db, claim_one(db, now=40), key="k1", now=41)
    assert state_of(db, "1.1") is State.REPORTED
    assert len(claim_deliveries(db, "pacs", now=50)) == 1


def finish_with(
    db: Database, claimed: leases.ClaimedStudy, new: studies.NewAnalysis, *, now: float
) -> bool:
    destinations = {"pacs": frozenset({"sr"})}
    return studies.finish(
        db, claimed, new, header=None, destinations=destinations, reason=None, now=now
    )


def test_a_destination_that_is_added_later_gets_the_known_result_on_requeue(db: Database) -> None:
    analysed_study(db, "1.1", destinations=())
    assert has_result(db, "1.1", "k1")
    studies.requeue(db, "1.1", now=200)
    known = studies.NewAnalysis("k1", {"model": None}, True, ())
    assert finish_with(db, claim_one(db, now=200), known, now=201)
    assert state_of(db, "1.1") is State.REPORTED
    assert len(claim_deliveries(db, "pacs", now=300)) == 1


def test_an_image_that_is_sent_again_after_retention_stays(db: Database) -> None:
    analysed_study(db, "1.1")
    deliver_all(db, "pacs", now=101)
    assert drop(db, before=1000, now=1000) == 1
    assert file_instance(db, "1.1", "1.1.1", now=2000) is Filed.DUPLICATE
    assert drop(db, before=1999, now=2100) == 0
    assert drop(db, before=2001, now=3000) == 1


def drop(db: Database, *, before: float, now: float) -> int:
    return instances.drop_expired(db, before=before, now=now, limit=10, remove=lambda _: True)


def test_late_policy_keep_still_analyses_what_has_no_result(db: Database) -> None:
    keep = StudySettings(quiet_seconds=10, max_wait_seconds=100, late_policy=LatePolicy.KEEP)
    file_instance(db, "1.1", "1.1.9", analysable=False, settings=keep)
    studies.close_due(db, now=20, settings=keep)
    studies.skip(db, claim_one(db, now=20), Reason("no_image", "none"), now=20)
    file_instance(db, "1.1", "1.1.1", now=30, settings=keep)
    assert state_of(db, "1.1") is State.COLLECTING


def test_a_study_date_that_cannot_be_read_hurts_no_later_study(db: Database) -> None:
    file_instance(db, "1.1")
    studies.close_due(db, now=20, settings=TIMING)
    header = patients.StudyHeader("p", "10101", "F", "19600101", 60.0)
    assert studies.finish(
        db, claim_one(db, now=20), analysis("1.1"), header=header, destinations={},
        reason=None, now=21,
    )  # fmt: skip
    (prior,) = patients.priors(db, patient_key="p", except_study="1.2")
    assert prior.study_date is None
