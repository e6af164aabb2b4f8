"""What the deliverer asks of its queue beside the life cycle of a delivery."""

from dicom_ai_node.store import Database, deliveries
from tests.builders.rows import analysed_study


def claim(db: Database, *, now: float) -> list[deliveries.ClaimedDelivery]:
    return deliveries.claim(db, "pacs", owner="me", now=now, lease_seconds=60, limit=10)


def studies(claimed: list[deliveries.ClaimedDelivery]) -> list[str]:
    return [one.study_uid for one in claimed]


def test_what_was_postponed_comes_after_what_was_not(db: Database) -> None:
    for study in ("1.1", "1.2", "1.3"):
        analysed_study(db, study)
    first, second, third = claim(db, now=101)
    deliveries.postpone(db, first, until=130, status=None, error="lost")
    deliveries.postpone(db, second, until=120, status=None, error="lost")
    deliveries.hold(db, "pacs", [third], until=110, error="lost")
    assert studies(claim(db, now=200)) == ["1.3", "1.2", "1.1"]


def test_an_answer_ends_the_failures_of_a_destination_and_silence_does_not(db: Database) -> None:
    for study in ("1.1", "1.2", "1.3"):
        analysed_study(db, study)
    first, second, third = claim(db, now=101)
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
    first, second = claim(db, now=101)
    deliveries.delivered(db, first, first.files[-1], status=0, now=102)
    deliveries.hold(db, "pacs", [second], until=500, error="connection refused")
    state = deliveries.state_of_destination(db, "pacs")
    assert state.sop_class_uid == first.files[-1].sop_class_uid
    deliveries.start_over(db)
    state = deliveries.state_of_destination(db, "pacs")
    assert (state.sop_class_uid, state.not_before) == ("", 0.0)
