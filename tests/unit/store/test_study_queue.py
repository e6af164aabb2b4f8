"""Studies: filed, closed, claimed, analysed, tried again."""

from sqlalchemy import select

from dicom_ai_node.answers import Reason
from dicom_ai_node.config.stages import LatePolicy, StudySettings
from dicom_ai_node.store import Database, instances, patients, results, study_queue
from dicom_ai_node.store.instances import Filed
from dicom_ai_node.store.tables import transition
from dicom_ai_node.study import State
from tests.builders.rows import (
    TIMING,
    analysed_study,
    analysis,
    claim_one,
    deliver_all,
    file_instance,
    finish_one,
    state_of,
)


def events_of(db: Database, uid: str) -> list[str]:
    with db.read() as connection:
        query = (
            select(transition.c.event)
            .where(transition.c.study_instance_uid == uid)
            .order_by(transition.c.id)
        )
        return list(connection.execute(query).scalars())


def test_same_instance_twice_is_one_and_other_content_is_a_version(db: Database) -> None:
    assert file_instance(db, "1.1") is Filed.NEW
    assert file_instance(db, "1.1") is Filed.DUPLICATE
    assert file_instance(db, "1.1", content="b") is Filed.NEW_VERSION
    study_queue.close_due(db, now=50, settings=TIMING)
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
    assert study_queue.close_due(db, now=11, settings=TIMING) == []
    assert study_queue.close_due(db, now=18, settings=TIMING) == ["1.1"]
    assert state_of(db, "1.1") is State.READY


def test_an_open_association_holds_the_study_until_it_ends(db: Database) -> None:
    open_association(db, now=0, alive_until=60)
    file_instance(db, "1.1", association="a1", now=0)
    assert study_queue.close_due(db, now=30, settings=TIMING) == []
    instances.close_association(db, "a1")
    assert study_queue.close_due(db, now=30, settings=TIMING) == ["1.1"]


def test_a_dead_receivers_association_does_not_hold_the_study(db: Database) -> None:
    open_association(db, now=0, alive_until=20)
    file_instance(db, "1.1", association="a1", now=0)
    assert study_queue.close_due(db, now=15, settings=TIMING) == []
    assert study_queue.close_due(db, now=30, settings=TIMING) == ["1.1"]
    assert instances.forget_dead_associations(db, now=30) == 1


def test_the_cap_closes_a_study_that_is_still_being_sent(db: Database) -> None:
    open_association(db, now=0, alive_until=1000)
    for now in range(0, 100, 5):
        file_instance(db, "1.1", f"1.1.{now + 1}", association="a1", now=now)
    assert study_queue.close_due(db, now=99, settings=TIMING) == []
    assert study_queue.close_due(db, now=101, settings=TIMING) == ["1.1"]


def open_association(db: Database, *, now: float, alive_until: float) -> None:
    instances.open_association(
        db, "a1", calling_ae="CT", address="127.0.0.1", now=now, alive_until=alive_until
    )


def test_a_late_image_during_analysis_discards_the_result(db: Database) -> None:
    file_instance(db, "1.1", "1.1.1")
    study_queue.close_due(db, now=20, settings=TIMING)
    claimed = claim_one(db, now=20)
    file_instance(db, "1.1", "1.1.2", now=21)
    assert not finish_one(db, claimed, now=22)
    assert state_of(db, "1.1") is State.COLLECTING
    study_queue.close_due(db, now=40, settings=TIMING)
    again = claim_one(db, now=40)
    assert len(again.instances) == 2
    assert again.attempts == 1
    assert finish_one(db, again, now=41)


def test_late_policy_keep_files_the_image_and_leaves_the_result(db: Database) -> None:
    keep = StudySettings(quiet_seconds=10, max_wait_seconds=100, late_policy=LatePolicy.KEEP)
    analysed_study(db, "1.1")
    assert file_instance(db, "1.1", "1.1.2", now=200, settings=keep) is Filed.NEW
    assert state_of(db, "1.1") is State.REPORTED


def test_an_instance_of_a_kept_class_does_not_reopen(db: Database) -> None:
    analysed_study(db, "1.1")
    file_instance(db, "1.1", "1.1.9", now=200, analysable=False)
    assert state_of(db, "1.1") is State.REPORTED


def test_an_expired_lease_is_taken_over_and_its_late_result_discarded(db: Database) -> None:
    file_instance(db, "1.1")
    study_queue.close_due(db, now=20, settings=TIMING)
    lost = claim_one(db, now=20, owner="dead")
    assert claim_all(db, now=50) == []
    taken = claim_one(db, now=81, owner="alive")
    assert taken.attempts == 2
    assert not finish_one(db, lost, now=82)
    assert finish_one(db, taken, now=82)
    assert events_of(db, "1.1") == ["quiet", "claim", "lease_expired", "claim", "result"]


def claim_all(
    db: Database, *, now: float, owner: str = "worker", limit: int = 10
) -> list[study_queue.ClaimedStudy]:
    return study_queue.claim(
        db, owner=owner, now=now, lease_seconds=60, limit=limit, max_attempts=3
    )


def test_what_kills_its_analyser_fails_alone(db: Database) -> None:
    """Three studies are claimed together and one is poison: the others survive it."""
    for uid in ("1.1", "1.2", "1.3"):
        file_instance(db, uid, f"{uid}.1")
    study_queue.close_due(db, now=20, settings=TIMING)
    now = 20.0
    assert len(claim_all(db, now=now)) == 3
    for _ in range(20):
        now += 61
        for claimed in claim_all(db, now=now):
            if claimed.study_uid != "1.2":
                assert finish_one(db, claimed, now=now)
    assert state_of(db, "1.2") is State.FAILED
    assert state_of(db, "1.1") is State.REPORTED
    assert state_of(db, "1.3") is State.REPORTED


def finished(db: Database, *uids: str, now: float) -> None:
    """File, close and analyse studies."""
    for uid in uids:
        file_instance(db, uid, f"{uid}.1", now=now - 50)
    study_queue.close_due(db, now=now, settings=TIMING)
    for claimed in claim_all(db, now=now):
        assert finish_one(db, claimed, now=now)


def test_a_study_that_comes_in_goes_before_an_archive_that_is_done_again(db: Database) -> None:
    archive = [f"1.{number}" for number in range(1, 6)]
    finished(db, *archive, now=100)
    for uid in archive:
        assert study_queue.requeue(db, uid, now=200) is State.READY
    file_instance(db, "2.1", "2.1.1", now=210)
    file_instance(db, "2.2", "2.2.1", now=211)
    study_queue.close_due(db, now=300, settings=TIMING)

    def taken(now: float) -> set[str]:
        found = study_queue.claim(
            db, owner="w", now=now, lease_seconds=60, limit=8, max_attempts=3, backfill=2
        )
        return {one.study_uid for one in found}

    assert taken(300) == {"2.1", "2.2"}  # and none of the archive beside them
    assert len(first := taken(301)) == 2
    file_instance(db, "2.3", "2.3.1", now=302)
    study_queue.close_due(db, now=330, settings=TIMING)
    assert taken(330) == {"2.3"}
    assert first | taken(331) | taken(332) == set(archive)


def test_what_failed_is_tried_again_before_an_archive(db: Database) -> None:
    finished(db, "1.1", "1.2", now=100)
    for uid in ("1.1", "1.2"):
        study_queue.requeue(db, uid, now=200)
    file_instance(db, "2.1", "2.1.1", now=210)
    study_queue.close_due(db, now=300, settings=TIMING)
    reason = Reason("analysis_failed", "why")
    assert study_queue.fail(db, claim_one(db, now=300), reason, retry_at=310, now=300)
    assert [one.study_uid for one in claim_all(db, now=311)] == ["2.1"]
    assert {one.study_uid for one in claim_all(db, now=312)} == {"1.1", "1.2"}


def test_a_study_that_is_sent_again_or_asked_for_while_it_comes_in_is_live(db: Database) -> None:
    finished(db, "1.1", "1.2", now=100)
    for uid in ("1.1", "1.2"):
        study_queue.requeue(db, uid, now=200)
    file_instance(db, "1.2", "1.2.2", now=201)  # a late image of an archived study
    file_instance(db, "2.1", "2.1.1", now=202)
    assert study_queue.requeue(db, "2.1", now=203) is State.READY
    study_queue.close_due(db, now=300, settings=TIMING)
    assert {one.study_uid for one in claim_all(db, now=300)} == {"1.2", "2.1"}


def test_a_failed_attempt_waits_and_the_last_one_fails_the_study(db: Database) -> None:
    file_instance(db, "1.1")
    study_queue.close_due(db, now=20, settings=TIMING)
    reason = Reason("analysis_failed", "why")
    assert study_queue.fail(db, claim_one(db, now=20), reason, retry_at=30, now=20)
    assert claim_all(db, now=29) == []
    assert study_queue.fail(db, claim_one(db, now=31), reason, retry_at=None, now=31)
    assert state_of(db, "1.1") is State.FAILED
    assert study_queue.requeue(db, "1.1", now=40) is State.READY
    assert claim_one(db, now=41).attempts == 1


def test_priors_are_found_by_patient_only(db: Database) -> None:
    for uid, patient in (("1.1", "p"), ("1.2", "p"), ("1.3", ""), ("1.4", "q")):
        file_instance(db, uid, f"{uid}.1")
        study_queue.close_due(db, now=20, settings=TIMING)
        header = patients.StudyHeader(patient, "20200102", "F", "19600101", 60.0)
        assert results.finish(
            db, claim_one(db, now=20), analysis(uid), header=header, destinations={},
            reason=None, now=21,
        )  # fmt: skip
    (prior,) = patients.priors(db, patient_key="p", except_study="1.1")
    assert prior.study_instance_uid == "1.2"
    assert prior.study_date is not None
    assert prior.study_date.year == 2020
    assert patients.priors(db, patient_key="", except_study="1.1") == []


def test_late_policy_keep_still_analyses_what_has_no_result(db: Database) -> None:
    keep = StudySettings(quiet_seconds=10, max_wait_seconds=100, late_policy=LatePolicy.KEEP)
    file_instance(db, "1.1", "1.1.9", analysable=False, settings=keep)
    study_queue.close_due(db, now=20, settings=keep)
    study_queue.skip(db, claim_one(db, now=20), Reason("no_image", "none"), now=20)
    file_instance(db, "1.1", "1.1.1", now=30, settings=keep)
    assert state_of(db, "1.1") is State.COLLECTING


def test_a_study_date_that_cannot_be_read_hurts_no_later_study(db: Database) -> None:
    file_instance(db, "1.1")
    study_queue.close_due(db, now=20, settings=TIMING)
    header = patients.StudyHeader("p", "10101", "F", "19600101", 60.0)
    assert results.finish(
        db, claim_one(db, now=20), analysis("1.1"), header=header, destinations={},
        reason=None, now=21,
    )  # fmt: skip
    (prior,) = patients.priors(db, patient_key="p", except_study="1.2")
    assert prior.study_date is None


CLASS = "1.2.840.10008.5.1.4.1.1.1"
"""Of what :func:`file_instance` files."""


def passed_over(db: Database, uid: str) -> None:
    """Bring a study with an instance of a class that is only kept to ``skipped``."""
    file_instance(db, uid, f"{uid}.1", analysable=False)
    study_queue.close_due(db, now=100, settings=TIMING)
    claimed = claim_one(db, now=100)
    assert (claimed.instances, claimed.others) == ((), 1)
    study_queue.skip(db, claimed, Reason(instances.NO_IMAGE, "none"), now=101)


def test_what_another_configuration_passed_over_is_analysed(db: Database) -> None:
    passed_over(db, "1.1")
    analysed_study(db, "1.2")
    file_instance(db, "1.3", "1.3.1", analysable=False, now=100)
    assert instances.analyse_classes(db, {CLASS}, now=200) == 1
    assert [state_of(db, uid) for uid in ("1.1", "1.2", "1.3")] == [
        State.READY, State.REPORTED, State.COLLECTING,
    ]  # fmt: skip
    assert [one.image.sop_instance_uid for one in claim_one(db, now=201).instances] == ["1.1.1"]
    assert instances.analyse_classes(db, {CLASS}, now=202) == 0, "once"


def test_a_class_that_no_bundle_looks_at_any_more_is_kept_and_not_analysed(db: Database) -> None:
    file_instance(db, "1.1")
    assert instances.analyse_classes(db, {"1.2.3"}, now=50) == 0
    study_queue.close_due(db, now=100, settings=TIMING)
    claimed = claim_one(db, now=100)
    assert (claimed.instances, claimed.others) == ((), 1)
