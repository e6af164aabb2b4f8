from typing import Any

from pydicom import Dataset
from pydicom.config import disable_value_validation

from dicom_ai_node.analyse.results import result_key, study_header, to_json
from dicom_ai_node.answers import Answer, Outcome, Reason, StudyResult
from dicom_ai_node.types import AttributeStatus
from tests.builders import answers
from tests.builders.checks import header_check


def result(**changes: Any) -> StudyResult:
    said: dict[str, Answer | Reason] = {
        "age": answers.age(60.0, 5.0, (50.0, 70.0)),
        "sex": answers.sex(0.99),
    }
    return answers.study_result("1.1", Outcome.ESTIMATED, header_check(**changes), answers=said)


def source(**values: str) -> Dataset:
    dataset = Dataset()
    dataset.PatientID = "P1"
    dataset.StudyDate = "20200102"
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def test_the_key_follows_decisions_and_not_the_last_digits() -> None:
    one = result()
    other = answers.with_part(
        one, answers={**one.parts[0].answers, "age": answers.age(60.00007, 5.0, (50.0, 70.0))}
    )
    assert result_key(one, ["a", "b"], "s") == result_key(other, ["b", "a"], "s")
    assert result_key(one, ["a"], "s") != result_key(one, ["a", "b"], "s")
    assert result_key(one, ["a"], "s") != result_key(one, ["a"], "other settings")
    conflict = result(age=AttributeStatus.CONFLICT_IMAGE)
    assert result_key(one, ["a"], "s") != result_key(conflict, ["a"], "s")


def test_nul_reaches_no_database() -> None:
    dirty = result(recorded=("045Y\0\x12", "M\0F"), years=None)
    assert "\0" not in to_json(dirty)["audit"]["recorded"]["age"]
    assert "\0" not in study_header(source(), dirty).sex


def test_the_oldest_date_is_kept_as_eight_digits() -> None:
    assert study_header(source(StudyDate="00010101"), result()).study_date == "00010101"
    with disable_value_validation():
        assert study_header(source(StudyDate="2020-1-2"), result()).study_date == ""


def test_what_is_not_held_against_a_study_is_not_remembered() -> None:
    assert study_header(source(), result(censored_age=True)).age_years is None
    assert study_header(source(), result(sex=AttributeStatus.NOT_ASSESSED)).sex == ""
    assert study_header(source(), result(exempt="veterinary")).patient_key == ""
    shifted = source(LongitudinalTemporalInformationModified="MODIFIED")
    assert study_header(shifted, result()).patient_key == ""
    assert study_header(source(), result()).patient_key != ""
