"""What a worklist said, in the database."""

from dicom_ai_node.rules.worklist_rules import Verdict, WorklistReply
from dicom_ai_node.store import Database
from dicom_ai_node.store.patients import save_worklist_answer, worklist_answer_of
from dicom_ai_node.store.study_queue import requeue
from dicom_ai_node.types import WorklistAnswer
from tests.builders.rows import file_instance

ANSWERED = WorklistReply(
    Verdict.ANSWERED,
    WorklistAnswer("AccessionNumber", birth_date="19600415", sex="F", age="063Y"),
)
OTHER = WorklistReply(Verdict.ANSWERED, WorklistAnswer("StudyInstanceUID", other_patient=True))


def test_what_was_learned_is_kept_for_the_same_keys(db: Database) -> None:
    file_instance(db, "1.1")
    assert worklist_answer_of(db, "1.1", digest="a") is None
    for asked in (
        ANSWERED,
        OTHER,
        WorklistReply(Verdict.NOTHING),
        WorklistReply(Verdict.CONTRADICTION),
    ):
        save_worklist_answer(db, "1.1", asked, digest="a", now=1.0)
        assert worklist_answer_of(db, "1.1", digest="a") == asked
        assert worklist_answer_of(db, "1.1", digest="b") is None
    save_worklist_answer(db, "1.1", WorklistReply(Verdict.UNAVAILABLE), digest="a", now=1.0)
    assert worklist_answer_of(db, "1.1", digest="a") is None


def test_a_person_has_only_what_got_no_answer_asked_again(db: Database) -> None:
    for uid, asked in (("1.1", ANSWERED), ("1.2", WorklistReply(Verdict.NOTHING))):
        file_instance(db, uid, f"{uid}.1")
        save_worklist_answer(db, uid, asked, digest="a", now=1.0)
        requeue(db, uid, now=2.0)
    assert worklist_answer_of(db, "1.1", digest="a") == ANSWERED
    assert worklist_answer_of(db, "1.2", digest="a") is None
