"""A worklist is asked about studies, and whatever it does costs no more than its answer."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from dicom_ai_node.analyse import worklist as module
from dicom_ai_node.analyse.worklist import Worklist
from dicom_ai_node.config import Config, parse_config
from dicom_ai_node.errors import StorageError
from dicom_ai_node.store import Database
from dicom_ai_node.store.study_queue import requeue
from dicom_ai_node.types import WorklistAnswer
from tests.builders.headers import Changes, checked, header
from tests.builders.ports import free_port
from tests.builders.rows import file_instance
from tests.builders.worklist import Scp, order, running

LACKING = {"PatientSex": "", "PatientAge": "", "PatientBirthDate": "", "AccessionNumber": "A1"}
KNOWN = WorklistAnswer("StudyInstanceUID", birth_date="19600415", sex="F")


@pytest.fixture
def scp() -> Iterator[Scp]:
    with running(Scp([order()])) as started:
        yield started


def config(port: int, **table: Any) -> Config:
    values = {"host": "127.0.0.1", "port": port, "ae_title": "WORKLIST", "timeout": 2.0}
    return parse_config({"worklist": values | table})


def ask(worklist: Worklist, db: Database, uid: str = "1.2.3", **changes: str) -> Any:
    """Ask about a study that lacks everything but its identity."""
    file_instance(db, uid, f"{uid}.1")
    values: Changes = {**LACKING, "StudyInstanceUID": uid, **changes}
    return worklist.answer(uid, [header(**values)], checked(values))


def test_an_order_is_found_by_each_key_in_turn(scp: Scp, db: Database) -> None:
    worklist = Worklist(config(scp.port), db)
    assert ask(worklist, db) == KNOWN
    assert scp.asked() == ["StudyInstanceUID"]
    assert ask(worklist, db, "1.2.4").matched_by == "AccessionNumber"
    assert ask(worklist, db, "1.2.5", AccessionNumber="A5").matched_by == "PatientID"
    assert ask(worklist, db, "1.2.6", AccessionNumber="", PatientID="") is None
    assert ask(worklist, db, "1.2.7", AccessionNumber="A7", PatientID="7") is None
    assert len(scp.questions) == 1 + 2 + 3 + 1 + 3


def test_without_a_table_nothing_is_asked(scp: Scp, db: Database) -> None:
    assert ask(Worklist(parse_config({}), db), db) is None
    assert scp.associations == 0


def test_what_is_sound_is_asked_about_to_compare_alone(scp: Scp, db: Database) -> None:
    sound = [header()], checked()
    file_instance(db, "1.2.3")
    assert Worklist(config(scp.port), db).answer("1.2.3", *sound) is None
    assert scp.associations == 0
    assert Worklist(config(scp.port, compare=True), db).answer("1.2.3", *sound) == KNOWN


def test_what_was_said_once_is_said_again(scp: Scp, db: Database) -> None:
    assert ask(Worklist(config(scp.port), db), db) == KNOWN
    scp.orders.clear()
    assert ask(Worklist(config(scp.port), db), db) == KNOWN
    assert ask(Worklist(config(scp.port), db), db, "1.2.4") is None
    scp.orders.append(order(StudyInstanceUID="1.2.4"))
    assert ask(Worklist(config(scp.port), db), db, "1.2.4") is None
    assert len(scp.questions) == 4


def test_a_person_has_it_asked_again_where_it_said_nothing(scp: Scp, db: Database) -> None:
    worklist = Worklist(config(scp.port), db)
    assert ask(worklist, db) == KNOWN
    assert ask(worklist, db, "1.2.4", PatientID="9") is not None
    assert ask(worklist, db, "1.2.5", PatientID="9", AccessionNumber="A5") is None
    scp.orders = [order(StudyInstanceUID="1.2.5", PatientID="9", PatientSex="M")]
    for uid in ("1.2.3", "1.2.5"):
        requeue(db, uid, now=time.time())
    assert ask(worklist, db) == KNOWN
    assert ask(worklist, db, "1.2.5", PatientID="9", AccessionNumber="A5").sex == "M"


def test_another_patient_in_the_header_is_another_question(scp: Scp, db: Database) -> None:
    scp.orders = [order(StudyInstanceUID="1.9", AccessionNumber="A9")]
    scp.orders.append(order(StudyInstanceUID="1.8", AccessionNumber="A8", PatientID="8"))
    scp.orders[1].PatientSex = "M"
    worklist = Worklist(config(scp.port), db)
    assert [ask(worklist, db, PatientID=one).sex for one in ("4711", "8", "4711")] == list("FMF")


def test_two_answers_that_differ_are_none(scp: Scp, db: Database) -> None:
    scp.orders.append(order(PatientSex="M"))
    with capture_logs() as logs:
        assert ask(Worklist(config(scp.port), db), db) is None
    assert scp.asked() == ["StudyInstanceUID"], "a weaker key does not settle it"
    assert [one["verdict"] for one in logs] == ["contradiction"]


def test_garbage_dates_say_nothing(scp: Scp, db: Database) -> None:
    scp.orders = [order(PatientSex="")]
    scp.orders[0].add_new(0x00100030, "LO", "15. April")
    assert ask(Worklist(config(scp.port), db), db) is None


def test_a_worklist_that_ignores_a_key_is_not_asked_by_it_again(scp: Scp, db: Database) -> None:
    scp.ignores = ("StudyInstanceUID",)
    scp.orders = [order(StudyInstanceUID=f"9.{n}", PatientID=f"P{n}", AccessionNumber=f"B{n}")
                  for n in range(300)]  # fmt: skip
    scp.orders.append(order())
    worklist = Worklist(config(scp.port, timeout=30.0), db)
    assert ask(worklist, db).matched_by == "AccessionNumber"
    worklist._not_before = 0.0  # it rests after an answer that took long, as on a slow machine
    assert ask(worklist, db, "1.2.4").matched_by == "AccessionNumber"
    assert scp.asked() == ["StudyInstanceUID", "AccessionNumber", "AccessionNumber"]


def down(_scp: Scp) -> int:
    return free_port()


def hanging(scp: Scp) -> int:
    scp.hangs = True
    return scp.port


def endless(scp: Scp) -> int:
    scp.endless = True
    scp.orders = [order(StudyInstanceUID="1.9")]
    return scp.port


def refusing(scp: Scp) -> int:
    scp.status = 0xA700
    return scp.port


@pytest.mark.parametrize("fault", [down, hanging, endless, refusing])
def test_a_fault_costs_one_study_its_time_and_others_none(
    scp: Scp, db: Database, fault: Any
) -> None:
    worklist = Worklist(config(fault(scp), timeout=1.0), db)
    with capture_logs() as logs:
        assert ask(worklist, db) is None
        before = scp.associations
        assert [ask(worklist, db, f"1.2.{n}", PatientID=f"{n}") for n in range(10, 30)] == [
            None
        ] * 20
    assert scp.associations == before, "nobody else is made to wait"
    (told,) = [one for one in logs if one["event"] == "worklist_unavailable"]
    assert told["pause"] == 60.0
    assert not any("4711" in str(one) for one in logs)
    # Nothing was learned of these studies: after the pause they are asked about.
    scp.hangs, scp.endless, scp.status, scp.orders = False, False, 0, [order()]
    worklist._table = config(scp.port).worklist
    worklist._not_before = 0.0
    assert ask(worklist, db) == KNOWN


def test_the_abstract_syntax_is_refused(db: Database) -> None:
    with running(Scp(), sop_class="1.2.840.10008.1.1") as scp, capture_logs() as logs:
        assert ask(Worklist(config(scp.port), db), db) is None
    (told,) = [one for one in logs if one["event"] == "worklist_unavailable"]
    assert "does not accept Modality Worklist" in told["reason"]


def test_who_accepts_a_connection_and_is_silent(db: Database) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        worklist = Worklist(config(silent.getsockname()[1], timeout=0.5), db)
        with capture_logs() as logs:
            assert ask(worklist, db) is None
    assert "did not answer the association request" in logs[0]["reason"]


def test_who_sends_an_answer_bit_by_bit_has_a_deadline(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each PDU restarts the timer of silence, the deadline it does not."""
    monkeypatch.setattr(Scp, "find", dripping)
    with running(Scp([order()])) as scp, capture_logs() as logs:
        assert ask(Worklist(config(scp.port, timeout=1.5), db), db) is None
    (told,) = [one for one in logs if one["event"] == "worklist_unavailable"]
    assert "did not answer in full in the time it had" in told["reason"]


def dripping(self: Scp, event: Any) -> Iterator[tuple[int, None]]:
    from pynetdicom.pdu_primitives import P_DATA

    while not self.stopped.wait(0.1) and event.assoc.is_established:
        part = P_DATA()
        part.presentation_data_value_list = [[event.context.context_id, b"\x01\x00\x00"]]
        event.assoc.dul.send_pdu(part)
    yield 0xC000, None


def test_pauses_grow_up_to_a_bound_and_end_with_an_answer(scp: Scp, db: Database) -> None:
    worklist = Worklist(config(free_port(), timeout=1.0), db)
    pauses = []
    for number in range(6):
        worklist._not_before = 0.0
        with capture_logs() as logs:
            ask(worklist, db, f"1.2.{number}")
        pauses.append(logs[0]["pause"])
    assert pauses == [60, 120, 240, 480, 900, 900]
    worklist._table, worklist._not_before = config(scp.port).worklist, 0.0
    assert ask(worklist, db) == KNOWN
    worklist._table = config(free_port()).worklist
    with capture_logs() as logs:
        ask(worklist, db, "1.2.9")
    assert logs[0]["pause"] == 60


def test_who_is_slow_is_left_alone_for_a_while(
    scp: Scp, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SLOW", 0.2)
    scp.pause = 0.3
    worklist = Worklist(config(scp.port, timeout=10.0), db)
    assert ask(worklist, db) == KNOWN
    assert ask(worklist, db, "1.2.4") is None
    assert worklist._not_before > time.monotonic() + 1.0


def test_a_failure_of_the_database_is_no_fault_of_the_worklist(scp: Scp, tmp_path: Path) -> None:
    empty = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    values: Changes = {**LACKING, "StudyInstanceUID": "1.2.3"}
    with pytest.raises(StorageError):
        Worklist(config(scp.port), empty).answer("1.2.3", [header(**values)], checked(values))
    empty.close()
