"""What becomes of a result: deliveries, dead letters, and what retention takes when all is sent."""

from dicom_ai_node.store import Database, deliveries, results, retention, study_queue
from dicom_ai_node.store.instances import Filed
from dicom_ai_node.store.reports import NewReport, has_result, newest_report
from dicom_ai_node.study import State
from tests.builders.rows import (
    TIMING,
    analysed_study,
    analysis,
    claim_deliveries,
    claim_one,
    deliver_all,
    file_instance,
    finish_one,
    state_of,
)


def test_an_unchanged_result_queues_nothing_again(db: Database) -> None:
    analysed_study(db, "1.1")
    deliver_all(db, "pacs", now=101)
    assert study_queue.requeue(db, "1.1", now=200) is State.READY
    assert finish_one(db, claim_one(db, now=200), key="k1", now=201)
    assert state_of(db, "1.1") is State.DELIVERED
    assert claim_deliveries(db, "pacs", now=300) == []


def test_a_changed_result_supersedes_and_is_sent(db: Database) -> None:
    analysed_study(db, "1.1")
    deliver_all(db, "pacs", now=101)
    study_queue.requeue(db, "1.1", now=200)
    previous = newest_report(db, "1.1", kind="sr")
    assert previous is not None
    assert [one.sop_instance_uid for one in previous.files] == ["1.1.1"]
    assert previous.model_sha256 == "abc"
    assert finish_one(db, claim_one(db, now=200), key="k2", now=201)
    assert state_of(db, "1.1") is State.REPORTED
    assert len(claim_deliveries(db, "pacs", now=300)) == 1


def test_without_destinations_a_reported_study_is_done(db: Database) -> None:
    analysed_study(db, "1.1", destinations=())
    assert state_of(db, "1.1") is State.DELIVERED


def test_a_study_is_delivered_when_its_last_destination_has_it(db: Database) -> None:
    analysed_study(db, "1.1", destinations=("a", "b"))
    deliver_all(db, "a", now=101)
    assert state_of(db, "1.1") is State.REPORTED
    deliver_all(db, "b", now=102)
    assert state_of(db, "1.1") is State.DELIVERED
    assert deliveries.state_of_destination(db, "a").sop_class_uid.endswith(".88.33")


def test_a_held_destination_waits_as_a_whole_and_no_other(db: Database) -> None:
    analysed_study(db, "1.1", destinations=("down", "up"))
    claimed = claim_deliveries(db, "down", now=101)
    deliveries.hold(db, "down", claimed, until=200, error="connection refused")
    assert claim_deliveries(db, "down", now=150) == []
    assert len(claim_deliveries(db, "up", now=150)) == 1
    (again,) = claim_deliveries(db, "down", now=201)
    assert again.attempts == 1
    assert deliveries.state_of_destination(db, "down").failures == 1


def test_a_dead_letter_is_named_and_one_call_requeues_it(db: Database) -> None:
    analysed_study(db, "1.1")
    (claimed,) = claim_deliveries(db, "pacs", now=101)
    deliveries.give_up(db, claimed, status=0xC000, error="cannot understand", now=102)
    assert state_of(db, "1.1") is State.UNDELIVERED
    assert deliveries.requeue_dead(db, study_uid=None, now=103) == 1
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

        return retention.drop_expired(db, before=before, now=500, limit=10, remove=remove)

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
    retention.drop_expired(db, before=1e6, now=500, limit=10, remove=lambda path: True)
    file_instance(db, "1.1", "1.1.2", now=600)
    study_queue.close_due(db, now=700, settings=TIMING)
    (left,) = claim_one(db, now=700).instances
    assert left.image.sop_instance_uid == "1.1.2"


def test_a_quarantined_report_is_made_again_and_never_counts_as_delivered(db: Database) -> None:
    file_instance(db, "1.1")
    study_queue.close_due(db, now=20, settings=TIMING)
    bad = NewReport("sr", analysis("1.1").reports[0].files, quarantined="no evidence")
    new = results.NewAnalysis("k1", {"model": None}, True, (bad,))
    assert finish_with(db, claim_one(db, now=20), new, now=21)
    assert state_of(db, "1.1") is State.FAILED
    assert not has_result(db, "1.1", "k1")
    study_queue.requeue(db, "1.1", now=30)
    assert finish_with(db, claim_one(db, now=30), new, now=31)
    assert state_of(db, "1.1") is State.FAILED
    study_queue.requeue(db, "1.1", now=40)
    assert finish_one(db, claim_one(db, now=40), key="k1", now=41)
    assert state_of(db, "1.1") is State.REPORTED
    assert len(claim_deliveries(db, "pacs", now=50)) == 1


def finish_with(
    db: Database, claimed: study_queue.ClaimedStudy, new: results.NewAnalysis, *, now: float
) -> bool:
    destinations = {"pacs": frozenset({"sr"})}
    return results.finish(
        db, claimed, new, header=None, destinations=destinations, reason=None, now=now
    )


def test_a_destination_that_is_added_later_gets_the_known_result_on_requeue(db: Database) -> None:
    analysed_study(db, "1.1", destinations=())
    assert has_result(db, "1.1", "k1")
    study_queue.requeue(db, "1.1", now=200)
    known = results.NewAnalysis("k1", {"model": None}, True, ())
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
    return retention.drop_expired(db, before=before, now=now, limit=10, remove=lambda _: True)


def study_uids(claimed: list[deliveries.ClaimedDelivery]) -> list[str]:
    return [one.study_uid for one in claimed]


def test_what_was_postponed_comes_after_what_was_not(db: Database) -> None:
    for study in ("1.1", "1.2", "1.3"):
        analysed_study(db, study)
    first, second, third = claim_deliveries(db, "pacs", now=101)
    deliveries.postpone(db, first, until=130, status=None, error="lost")
    deliveries.postpone(db, second, until=120, status=None, error="lost")
    deliveries.hold(db, "pacs", [third], until=110, error="lost")
    assert study_uids(claim_deliveries(db, "pacs", now=200)) == ["1.3", "1.2", "1.1"]


def test_an_answer_ends_the_failures_of_a_destination_and_silence_does_not(db: Database) -> None:
    for study in ("1.1", "1.2", "1.3"):
        analysed_study(db, study)
    first, second, third = claim_deliveries(db, "pacs", now=101)
    deliveries.hold(db, "pacs", [], until=110, error="connection refused")
    deliveries.postpone(db, first, until=130, status=None, error="lost")
    assert deliveries.state_of_destination(db, "pacs").failures == 1
    deliveries.postpone(db, second, until=130, status=0xC000, error="refused")
    assert deliveries.state_of_destination(db, "pacs").failures == 0
    deliveries.hold(db, "pacs", [], until=110, error="connection refused")
    deliveries.give_up(db, third, status=0xC000, error="refused", now=102)
    assert deliveries.state_of_destination(db, "pacs").error == ""


def test_starting_over_forgets_the_wait_and_the_accepted_class(db: Database) -> None:
    for study in ("1.1", "1.2"):
        analysed_study(db, study)
    first, second = claim_deliveries(db, "pacs", now=101)
    deliveries.delivered(db, first, first.files[-1], status=0, now=102)
    deliveries.hold(db, "pacs", [second], until=500, error="connection refused")
    state = deliveries.state_of_destination(db, "pacs")
    assert state.sop_class_uid == first.files[-1].sop_class_uid
    deliveries.start_over(db)
    state = deliveries.state_of_destination(db, "pacs")
    assert (state.sop_class_uid, state.not_before) == ("", 0.0)
