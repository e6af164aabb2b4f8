"""A study whose header is in order gets no report, unless it is asked for or replaces one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.config import disable_value_validation

from dicom_ai_node.config.bundles import default_bundle
from dicom_ai_node.demo import phantom
from dicom_ai_node.demo.images import radiograph
from dicom_ai_node.inference.engine import Estimator
from tests.builders.analysing import GATES_OPEN, Node

FINE: dict[str, Any] = {"PatientSex": "F", "PatientBirthDate": "19640102", "PatientAge": "062Y"}
MISSING = FINE | {"PatientAge": "", "PatientBirthDate": ""}


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return Estimator(default_bundle(), device="cpu")


@pytest.fixture
def make(tmp_path: Path, estimator: Estimator) -> Iterator[Any]:
    made: list[Node] = []

    def node(**policy: Any) -> Node:
        values = {"policy": GATES_OPEN | {"report_consistent": False} | policy}
        made.append(Node(tmp_path / str(len(made)), estimator, values))
        return made[-1]

    yield node
    for one in made:
        one.db.close()


def image(number: int = 1, **values: Any) -> Dataset:
    with disable_value_validation():
        return radiograph(phantom.chest(62, "F", 1, 256), study="quiet", number=number, **values)


@pytest.mark.parametrize("analyse", ["flagged", "all"])
def test_nothing_wrong_is_skipped_and_says_why(make: Any, analyse: str) -> None:
    detail = make(analyse=analyse).analyse(image(**FINE))
    assert detail.result["audit"]["age"] == "CONSISTENT"
    assert (detail.study.state, detail.study.reason_code) == ("skipped", "nothing_to_report")
    assert "policy.report_consistent" in detail.study.reason
    assert detail.reports == ()


@pytest.mark.parametrize(
    ("policy", "values"),
    [
        ({}, MISSING),
        ({}, FINE | {"PatientAge": "040Y"}),  # the dates contradict it
        ({}, FINE | {"StudyDate": "2026.01.01"}),  # a warning or error about anything
        ({"analyse": "all"}, FINE | {"PatientAge": "020Y", "PatientBirthDate": "20060102"}),
        ({"report_consistent": True}, FINE),
    ],
)
def test_whatever_is_wrong_is_reported(make: Any, policy: Any, values: Any) -> None:
    detail = make(**policy).analyse(image(**values))
    assert [one["kind"] for one in detail.reports] == ["sr"]
    assert detail.study.reason_code != "nothing_to_report"


def test_a_report_that_is_out_of_date_is_replaced(make: Any) -> None:
    node = make()
    first = node.analyse(image(**MISSING))
    second = node.analyse(image(**FINE))  # the same image, sent again with its header mended
    assert (len(first.reports), len(second.reports)) == (1, 2)
