"""What a worklist is asked, which of its answers count, and what the rules make of them."""

import pytest

from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.rules import TextHeader
from dicom_ai_node.rules.worklist_rules import (
    Key,
    Keys,
    Verdict,
    WorklistReply,
    chosen,
    worth_asking,
)
from dicom_ai_node.types import AttributeStatus, Severity, WorklistAnswer
from tests.builders.checks import age_and_sex
from tests.builders.headers import ANOTHER_PATIENT, TODAY, Changes, Value, checked, header, listed

NOTHING, CONTRADICTION = WorklistReply(Verdict.NOTHING), WorklistReply(Verdict.CONTRADICTION)
KEYS = Keys.of([header(AccessionNumber="A1")])
EMPTY: Changes = {"PatientAge": "", "PatientBirthDate": "", "PatientSex": ""}


def order(**changes: str) -> TextHeader:
    """An order of the sound study."""
    values = {
        "StudyInstanceUID": "1.2.3",
        "AccessionNumber": "A1",
        "PatientID": "4711",
        "PatientBirthDate": "19600415",
        "PatientSex": "F",
    }
    return TextHeader({**values, **changes})


def answered(key: Key, birth_date: str = "", sex: str = "", age: str = "") -> WorklistReply:
    return WorklistReply(
        Verdict.ANSWERED, WorklistAnswer(key, birth_date=birth_date, sex=sex, age=age)
    )


def asked_about(compare: bool = False, **changes: Value) -> bool:
    headers = [header(**changes)]
    return worth_asking(
        headers, checked(changes), settings=RulesSettings(), today=TODAY, compare=compare
    )


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({}, False),
        ({"PatientAge": ""}, True),
        ({"PatientSex": "U"}, True),
        ({"PatientBirthDate": ""}, True),
        ({"PatientBirthDate": "19000101"}, True),
        ({"PatientBirthDate": "1960"}, True),
        ({"PatientSex": "O"}, False),
        ({"PatientSex": "", "PatientIdentityRemoved": "YES"}, False),
        ({"PatientSex": "", "QualityControlSubject": "YES"}, False),
        ({"PatientSex": "", "PatientSpeciesDescription": "Canine"}, False),
    ],
)
def test_it_is_asked_about_what_is_missing(changes: Changes, asked: bool) -> None:
    assert asked_about(**changes) is asked


def test_to_compare_it_is_asked_about_every_patient() -> None:
    assert asked_about(compare=True)
    assert not asked_about(compare=True, PatientIdentityRemoved="YES")


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({}, [Key.STUDY, Key.ORDER, Key.PATIENT]),
        ({"PatientID": ""}, [Key.STUDY]),
        ({"AccessionNumber": ""}, [Key.STUDY, Key.PATIENT]),
        ({"AccessionNumber": "A*"}, [Key.STUDY, Key.PATIENT]),
        ({"PatientID": "?"}, [Key.STUDY, Key.ORDER]),
        ({"PatientID": "1\\2"}, [Key.STUDY, Key.ORDER]),
        ({"StudyInstanceUID": "1.2\\1.3"}, [Key.ORDER, Key.PATIENT]),
        ({"PatientID": b"M\xfcller"}, [Key.STUDY, Key.ORDER]),
        ({"PatientID": "7" * 65}, [Key.STUDY, Key.ORDER]),
    ],
)
def test_no_question_matches_everybody(changes: Changes, keys: list[Key]) -> None:
    assert list(Keys.of([header(**{"AccessionNumber": "A1", **changes})]).askable()) == keys


def test_what_images_disagree_on_is_not_asked_for() -> None:
    two = Keys.of([header(PatientID="1"), header(PatientID="2"), header(PatientID="")])
    assert list(two.askable()) == [Key.STUDY]
    assert Keys.of([header(), header(PatientID="")]) == Keys.of([header()])


def test_other_keys_have_another_digest() -> None:
    others = [{"PatientID": "1"}, {"IssuerOfPatientID": "B"}, {"AccessionNumber": "A2"}]
    changes: list[Changes] = [{}, *others]
    assert len({Keys.of([header(**one)]).digest for one in changes}) == len(changes)


@pytest.mark.parametrize("key", list(Key))
def test_only_answers_about_the_study_or_its_patient_count(key: Key) -> None:
    stranger = order(StudyInstanceUID="1.9", AccessionNumber="A9", PatientID="9", PatientSex="M")
    assert chosen(key, KEYS, [stranger, order(), stranger]) == answered(key, "19600415", "F")
    assert chosen(key, KEYS, [stranger]) == NOTHING
    assert chosen(key, KEYS, []) == NOTHING


def test_an_age_is_of_its_order_alone() -> None:
    old = order(PatientAge="063Y")
    assert chosen(Key.ORDER, KEYS, [old]) == answered(Key.ORDER, "19600415", "F", "063Y")
    assert chosen(Key.PATIENT, KEYS, [old]) == answered(Key.PATIENT, "19600415", "F")


@pytest.mark.parametrize("changes", [{"PatientSex": "M"}, {"PatientBirthDate": "19600514"}])
def test_answers_that_contradict_each_other_are_none(changes: dict[str, str]) -> None:
    for key in Key:
        assert chosen(key, KEYS, [order(), order(**changes)]) == CONTRADICTION
        assert chosen(key, KEYS, [order(), order(**dict.fromkeys(changes, ""))]) != CONTRADICTION


@pytest.mark.parametrize(
    "changes",
    [
        {"PatientBirthDate": "15.04.1960", "PatientSex": "female", "PatientAge": "63"},
        {"PatientBirthDate": "19600230", "PatientSex": "\x00\x01", "PatientAge": "YYYY"},
        {"PatientBirthDate": "9" * 4000, "PatientSex": "W", "PatientAge": ""},
    ],
)
def test_values_that_are_none_say_nothing(changes: dict[str, str]) -> None:
    assert chosen(Key.STUDY, KEYS, [order(**changes)]) == NOTHING
    assert chosen(Key.STUDY, KEYS, [order(**changes), order()]) == answered(
        Key.STUDY, "19600415", "F"
    )


def test_an_order_for_another_patient_says_that_and_nothing_else() -> None:
    for key in (Key.STUDY, Key.ORDER):
        assert chosen(key, KEYS, [order(PatientID="99")]) == WorklistReply(
            Verdict.ANSWERED, WorklistAnswer(key, other_patient=True)
        )
        assert chosen(key, KEYS, [order(PatientID="99"), order()]) == CONTRADICTION


def test_an_issuer_makes_another_patient() -> None:
    ours = Keys.of([header(AccessionNumber="A1", IssuerOfPatientID="HERE")])
    theirs = order(IssuerOfPatientID="THERE", PatientSex="M")
    for key in (Key.ORDER, Key.PATIENT):
        assert chosen(key, ours, [theirs]) == NOTHING
        assert chosen(key, ours, [theirs, order()]) == answered(key, "19600415", "F")
        assert chosen(key, KEYS, [theirs, order(IssuerOfPatientID="HERE")]) == CONTRADICTION
    # A study is one study, whoever gave its patient a number.
    assert chosen(Key.STUDY, ours, [theirs]) == answered(Key.STUDY, "19600415", "M")


def test_an_accession_number_alone_is_no_patient() -> None:
    assert chosen(Key.ORDER, KEYS, [order(PatientID="")]) == NOTHING
    assert chosen(Key.STUDY, KEYS, [order(PatientID="")]) == answered(Key.STUDY, "19600415", "F")


def test_what_is_missing_is_proposed() -> None:
    age, sex = checked(EMPTY, worklist=listed("19600415", "F", "070Y")).proposals
    source = "PatientBirthDate of the worklist and StudyDate"
    assert (age.value, age.source) == ("063Y", source)
    assert (sex.value, sex.source) == ("F", "PatientSex of the worklist")


@pytest.mark.parametrize(
    ("answer", "changes", "ages"),
    [
        (listed(age="063Y"), {}, ["063Y"]),
        (listed("19000101", age="063Y"), {}, ["063Y"]),
        (listed(age="000Y"), {}, []),
        (listed(age="120Y"), {}, []),
        (listed("19600415"), {"StudyDate": ""}, []),
        (listed("20230701"), {}, []),  # not born yet
        (listed("20220701"), {}, []),  # an infant of whom only the year is known
        (listed("20220702"), {}, ["011M"]),
        (ANOTHER_PATIENT, {}, []),
    ],
)
def test_which_age(answer: WorklistAnswer, changes: Changes, ages: list[str]) -> None:
    assert [one.value for one in checked({**EMPTY, **changes}, worklist=answer).proposals] == ages


def test_another_patient_is_a_finding_about_identity_and_changes_no_status() -> None:
    result = checked(worklist=ANOTHER_PATIENT)
    (found,) = result.findings
    assert (found.rule, found.severity, found.attribute) == ("G6", Severity.WARNING, "identity")
    assert "AccessionNumber" in found.reason
    assert "4711" not in found.reason
    assert not result.flagged


def test_other_in_the_worklist_is_respected() -> None:
    result = checked(worklist=listed(sex="O"))
    assert age_and_sex(result)[1] is AttributeStatus.NOT_ASSESSED
    assert [one.severity for one in result.findings] == [Severity.INFORMATION]
    assert (
        checked({"PatientSex": "O"}, worklist=listed(sex="F")).findings
        == checked({"PatientSex": "O"}).findings
    )


def test_one_image_that_agrees_is_enough() -> None:
    two: tuple[Changes, ...] = ({}, {"PatientSex": "M", "PatientBirthDate": "19610415"})
    assert "G6" not in checked(*two, worklist=listed("19610415", "M")).rules
