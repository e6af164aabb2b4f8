"""Audits and their studies in the database."""

from dicom_ai_node.answers import ImageRef, ImageResult, ModelIdentity, Outcome, Reason
from dicom_ai_node.archive.member import StudyFacts
from dicom_ai_node.audit.study import (
    Attempt,
    collected_from_row,
    listed_from_row,
    listed_to_row,
    models_of,
)
from dicom_ai_node.store import Database, audit_studies, audits
from dicom_ai_node.store.audit_studies import ClaimedListed, NewListed, SettledStudy, save_slice
from dicom_ai_node.study import AuditEvent, AuditState
from tests.builders import answers
from tests.builders.headers import checked, header
from tests.builders.scripted import OWNER, listed, new_audit


def save(db: Database, number: int, *keys: str, owner: str = OWNER, done: int = 1) -> int | None:
    rows = [NewListed(key, {"key": key}) for key in keys]
    return save_slice(db, number, rows, owner=owner, now=1.0, slices_done=done)


def claim(db: Database, number: int, now: float = 1.0) -> str | None:
    claimed = audit_studies.claim(db, number, owner=OWNER, now=now)
    return claimed[0].key if claimed else None


def settle(db: Database, number: int, key: str, fault: str = "") -> bool:
    row = SettledStudy(key, facts={"a": 1}, expected=2, arrived=1, fault=fault)
    return audit_studies.settle(db, number, [row], owner=OWNER, now=100.0)


def test_one_process_has_an_audit_until_its_lease_runs_out(db: Database) -> None:
    spec = {"source": "node"}
    first = audits.create(db, spec, now=0.0)
    second = audits.create(db, spec, now=0.0, owner="a", lease_seconds=10)
    assert audits.take(db, owner="b", now=5.0, lease_seconds=10, audit_id=second) is None
    assert audits.take(db, owner="b", now=5.0, lease_seconds=10) == first
    assert audits.take(db, owner="c", now=5.0, lease_seconds=10) is None
    assert audits.renew(db, second, owner="a", now=9.0, lease_seconds=10) == "running"
    assert audits.take(db, owner="c", now=15.5, lease_seconds=10) == first
    assert audits.renew(db, first, owner="b", now=16.0, lease_seconds=10) is None
    audits.release(db, first, owner="b", now=16.0)
    assert audits.standing(db, first, owner="c") is AuditState.RUNNING
    audits.release(db, first, owner="c", now=16.0)
    assert audits.take(db, owner="d", now=16.0, lease_seconds=10) == first
    audits.apply(db, second, AuditEvent.PAUSE, now=16.0)
    assert audits.take(db, owner="d", now=99.0, lease_seconds=10, audit_id=second) is None


def test_a_resumed_audit_is_leased_unless_another_works_on_it(db: Database) -> None:
    number = audits.create(db, {"source": "node"}, now=0.0, owner="a", lease_seconds=10)
    assert audits.resume(db, number, now=5.0, owner="b", lease_seconds=10) is None
    assert audits.resume(db, number, now=5.0) is AuditState.RUNNING
    failed = audits.apply(db, number, AuditEvent.FAIL, now=6.0, owner="a", note="why")
    assert failed == (AuditState.RUNNING, AuditState.FAILED)
    assert audits.resume(db, number, now=20.0, owner="b", lease_seconds=10) == "failed"
    row = audits.show(db, number)
    assert row is not None
    assert (row.owner, row.lease_until, row.note, row.finished_at) == ("b", 30.0, "", None)
    assert audits.apply(db, number, AuditEvent.COMPLETE, now=21.0, owner="a") == (
        AuditState.RUNNING,
        None,
    )
    assert audits.apply(db, 99, AuditEvent.PAUSE, now=0.0) is None


def test_the_listing_keeps_each_study_once_in_its_order(db: Database) -> None:
    number = new_audit(db)
    assert save(db, number, "b", "a", done=1) == 2
    assert save(db, number, "a", "c", "c", done=2) == 1
    assert save(db, number, "d", owner="other") is None
    row = audits.show(db, number)
    assert row is not None
    assert (row.listed, row.settled, row.slices_done, row.listing_done) == (3, 0, 2, False)
    taken = []
    while (key := claim(db, number)) is not None:
        taken.append(key)
        assert settle(db, number, key)
    assert taken == ["b", "a", "c"]


def test_studies_that_wait_come_when_they_are_due(db: Database) -> None:
    number = new_audit(db)
    save(db, number, "a", "b")
    (first,) = audit_studies.claim(db, number, owner=OWNER, now=1.0)
    assert (first.key, first.listed, first.attempts) == ("a", {"key": "a"}, 1)
    assert audit_studies.postpone(
        db, number, first, owner=OWNER, not_before=50.0, counted=True, fault="no"
    )
    (second,) = audit_studies.claim(db, number, owner=OWNER, now=1.0)
    assert second.key == "b"
    assert settle(db, number, "b")
    assert claim(db, number, now=49.0) is None
    assert audit_studies.next_due(db, number) == 50.0
    (again,) = audit_studies.claim(db, number, owner=OWNER, now=50.0)
    assert again.attempts == 2
    audit_studies.postpone(db, number, again, owner=OWNER, not_before=0.0, counted=False)
    (again,) = audit_studies.claim(db, number, owner=OWNER, now=50.0)
    assert again.attempts == 2
    settle(db, number, "a", fault="gone")
    assert audit_studies.next_due(db, number) is None
    assert audit_studies.faults(db, number) == [("gone", 1)]
    assert audit_studies.settled_since(db, number, since=100.0) == 2


def test_first_attempts_are_begun_together_and_a_study_that_may_kill_alone(db: Database) -> None:
    number = new_audit(db)
    save(db, number, *"abcde")

    def claimed(limit: int) -> list[ClaimedListed]:
        return audit_studies.claim(db, number, owner=OWNER, now=1.0, limit=limit)

    assert audit_studies.hand_back(db, number, claimed(5)[3:], owner=OWNER)
    dead = [[study.key for study in claimed(5)] for _ in range(2)]  # in which the process died
    assert dead == [["a"], ["a"]]
    for key in "abc":
        assert settle(db, number, key)
    again = claimed(5)
    assert [(study.key, study.attempts) for study in again] == [("d", 1), ("e", 1)]
    assert not audit_studies.hand_back(db, number, again, owner="another")


def test_what_is_settled_cannot_be_settled_again(db: Database) -> None:
    number = new_audit(db)
    save(db, number, "a")
    settle(db, number, "a", fault="first")
    settle(db, number, "a", fault="second")
    (found,) = audit_studies.collected(db, number)
    assert found == SettledStudy("a", {"a": 1}, None, 2, 1, "first")


def test_many_studies_are_read_in_bites(db: Database) -> None:
    number = new_audit(db)
    keys = [f"{one:04}" for one in range(1203)]
    save(db, number, *keys)
    with db.write() as connection:
        connection.exec_driver_sql("UPDATE audit_study SET state = 'settled'")
    assert [one.key for one in audit_studies.collected(db, number)] == keys


def test_a_collected_study_comes_back_as_it_was(db: Database) -> None:
    number = new_audit(db)
    save(db, number, "1.2.3")
    prediction = answers.prediction(61.123456789, 5.1, (50.0, 72.25), 0.000012345, frontal=0.98)
    image = ImageResult(ImageRef("1.2", "1.3", "1.4"), Outcome.ESTIMATED, None, prediction)
    refused = ImageResult(ImageRef("1.2", "1.5", "1.4"), Outcome.REFUSED, Reason("a", "b"))
    result = answers.study_result(
        "1.2.3",
        Outcome.ESTIMATED,
        checked({"PatientAge": None, "PatientBirthDate": None}),
        images=(image, refused),
        answers={
            "age": answers.age(61.123456789, 5.1, (50.0, 72.25)),
            "sex": answers.sex(0.000012345),
        },
        model=ModelIdentity("net", "1", "ab"),
    )
    facts = StudyFacts("1.2.3", (header(PatientName="A\0B^C"),))
    row = Attempt("1.2.3", facts, result, expected=2, arrived=2).row("")
    audit_studies.settle(db, number, [row], owner=OWNER, now=1.0)
    (found,) = map(collected_from_row, audit_studies.collected(db, number))
    assert found.result == result
    assert found.facts == facts, "padding is what rule A4 is after"
    assert models_of([found]) == "net 1"


def test_a_listed_study_comes_back_as_it_was() -> None:
    one = listed(7, PatientName="Meier^Anna")
    assert listed_from_row(listed_to_row(one).listed) == one


def test_what_is_left_out_is_counted_over_all_parts(db: Database) -> None:
    number = new_audit(db)
    for counts in ({}, {"other_modality": 2}, {"other_modality": 1, "outside_dates": 4}):
        save_slice(db, number, [], owner=OWNER, now=1.0, slices_done=1, not_audited=counts)
    lost = save_slice(
        db, number, [], owner="x", now=1.0, slices_done=1, not_audited={"not_dicom": 1}
    )
    assert lost is None
    row = audits.show(db, number)
    assert row is not None
    assert row.not_audited == {"other_modality": 3, "outside_dates": 4}
