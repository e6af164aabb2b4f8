"""What becomes of a delivery after each outcome, whatever carries it."""

import threading
import time
from collections.abc import Callable

import pytest

from dicom_ai_node.config.peers import Destination
from dicom_ai_node.deliver import worker as module
from dicom_ai_node.deliver.sender import DeliveryAnswer, DeliveryOutcome, FakeSender
from dicom_ai_node.deliver.worker import MAX_REFUSALS, DestinationWorker
from dicom_ai_node.errors import PeerUnavailable, StorageError
from dicom_ai_node.store import Database
from dicom_ai_node.store.deliveries import ClaimedDelivery, state_of_destination
from tests.builders.rows import analysed_study, deliveries_of

Answers = Callable[[ClaimedDelivery], DeliveryOutcome | Exception | None]
REFUSED = DeliveryOutcome(
    DeliveryAnswer.REFUSED, status=0xC000, shown="0xC000", error="cannot understand: Mueller"
)
DAY = 86400.0


def worker(db: Database, sender: FakeSender, *, give_up_days: float = 1e6) -> DestinationWorker:
    destination = Destination(
        host="127.0.0.1", port=104, ae_title="PACS", retry_seconds=100, give_up_days=give_up_days
    )
    return DestinationWorker("pacs", destination, db, sender)


def work(db: Database, answers: Answers = lambda _: None, **options: float) -> FakeSender:
    sender = FakeSender(answers)
    assert worker(db, sender, **options).serve_batch(threading.Event())
    return sender


def queued(db: Database, count: int = 1, *, age: float = 0.0) -> None:
    for number in range(count):
        analysed_study(db, f"1.{number + 1}", now=time.time() - age)


def test_what_is_stored_is_delivered_and_its_class_remembered(db: Database) -> None:
    queued(db, 2)
    sender = work(db)
    assert sender.is_open
    assert [row.state for row in deliveries_of(db)] == ["delivered"] * 2
    assert state_of_destination(db, "pacs").sop_class_uid.endswith(".88.33")


@pytest.mark.parametrize(
    "answer", [DeliveryAnswer.BUSY, DeliveryAnswer.REFUSED, DeliveryAnswer.OTHER_CLASS]
)
def test_what_is_refused_waits_alone(db: Database, answer: DeliveryAnswer) -> None:
    queued(db, 2)
    refused = DeliveryOutcome(answer, status=0xA700, error="no room")
    work(db, lambda one: refused if one.study_uid == "1.1" else None)
    first, second = deliveries_of(db)
    assert (first.state, first.status, first.error) == ("queued", 0xA700, "no room")
    assert 49 < first.not_before - time.time() <= 100
    assert second.state == "delivered"


def test_the_last_refusal_makes_a_dead_letter_and_want_of_room_never_does(db: Database) -> None:
    queued(db, 2)
    with db.write() as connection:
        connection.exec_driver_sql(f"UPDATE delivery SET attempts = {MAX_REFUSALS - 1}")
    busy = DeliveryOutcome(DeliveryAnswer.BUSY, status=0xA700, error="no room")
    work(db, lambda one: REFUSED if one.study_uid == "1.1" else busy)
    assert [row.state for row in deliveries_of(db)] == ["dead", "queued"]


def test_a_damaged_file_is_a_dead_letter_at_once(db: Database) -> None:
    queued(db)
    work(db, lambda _: DeliveryOutcome(DeliveryAnswer.UNREADABLE, error="a.dcm: damaged"))
    (row,) = deliveries_of(db)
    assert (row.state, row.status, row.error) == ("dead", None, "a.dcm: damaged")


def test_what_is_overdue_is_given_up_after_any_failure(db: Database) -> None:
    queued(db, 3, age=2 * DAY)
    fails: dict[str, DeliveryOutcome | Exception] = {
        "1.1": REFUSED,
        "1.2": DeliveryOutcome(DeliveryAnswer.BUSY, error="no room"),
        "1.3": PeerUnavailable("gone"),
    }
    work(db, lambda one: fails[one.study_uid], give_up_days=1)
    assert [row.state for row in deliveries_of(db)] == ["dead"] * 3


def test_without_a_connection_the_destination_waits_and_no_attempt_counts(db: Database) -> None:
    queued(db, 2)
    sender = FakeSender(unreachable=PeerUnavailable("connection refused"))
    assert worker(db, sender).serve_batch(threading.Event())
    assert [(row.state, row.attempts) for row in deliveries_of(db)] == [("queued", 0)] * 2
    state = state_of_destination(db, "pacs")
    assert (state.failures, state.error) == (1, "connection refused")
    assert state.not_before > time.time()


def test_what_is_lost_under_way_waits_longer_than_the_rest(db: Database) -> None:
    queued(db, 3)
    sender = work(db, lambda one: PeerUnavailable("lost") if one.study_uid == "1.2" else None)
    assert not sender.is_open
    first, second, third = deliveries_of(db)
    assert (first.state, second.state, third.state) == ("delivered", "queued", "queued")
    assert (second.attempts, third.attempts) == (1, 0)
    assert second.not_before > state_of_destination(db, "pacs").not_before > third.not_before


def test_a_worker_told_to_stop_hands_back_what_it_has_not_begun(db: Database) -> None:
    queued(db, 3)
    stop = threading.Event()

    def stopping(_one: ClaimedDelivery) -> None:
        stop.set()

    assert worker(db, FakeSender(stopping)).serve_batch(stop)
    rows = [(row.state, row.attempts) for row in deliveries_of(db)]
    assert rows == [("delivered", 1), ("queued", 0), ("queued", 0)]


def test_a_fault_of_ours_ends_a_batch_and_not_the_thread(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AFTER_FAULT_SECONDS", 0.01)
    queued(db, 2)
    faults: list[Exception] = [KeyError("a bug"), StorageError("database: disk I/O error")]
    stop = threading.Event()

    def faulty(one: ClaimedDelivery) -> Exception | None:
        if faults:
            return faults.pop()
        if one.study_uid == "1.2":
            stop.set()
        return None

    sender = FakeSender(faulty)
    thread = threading.Thread(target=worker(db, sender).run, args=(stop,))
    thread.start()
    thread.join(60)
    assert [(row.state, row.attempts) for row in deliveries_of(db)] == [("delivered", 1)] * 2
    assert not sender.is_open


def test_an_idle_connection_is_closed_after_a_while(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued(db)
    sender = FakeSender()
    serving = worker(db, sender)
    assert serving.serve_batch(threading.Event())
    assert not serving.serve_batch(threading.Event())
    assert sender.is_open
    monkeypatch.setattr(module, "_LINGER_SECONDS", 0.0)
    assert not serving.serve_batch(threading.Event())
    assert not sender.is_open
