"""The meaning of every status."""

import pytest

from dicom_ai_node.deliver.dimse import judge
from dicom_ai_node.deliver.sender import DeliveryAnswer
from dicom_ai_node.dicom.status import describe_store, is_warning


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (0x0000, DeliveryAnswer.STORED),
        (0xB000, DeliveryAnswer.STORED),
        (0xB006, DeliveryAnswer.STORED),
        (0xB007, DeliveryAnswer.STORED),
        (0x0107, DeliveryAnswer.STORED),
        (0x0111, DeliveryAnswer.STORED),
        (0xA700, DeliveryAnswer.BUSY),
        (0xA7FF, DeliveryAnswer.BUSY),
        (0x0213, DeliveryAnswer.BUSY),
        (0x0122, DeliveryAnswer.OTHER_CLASS),
        (0x0118, DeliveryAnswer.OTHER_CLASS),
        (0xA900, DeliveryAnswer.OTHER_CLASS),
        (0xA9FF, DeliveryAnswer.OTHER_CLASS),
        (0xC000, DeliveryAnswer.REFUSED),
        (0xCFFF, DeliveryAnswer.REFUSED),
        (0x0110, DeliveryAnswer.REFUSED),
        (0x0124, DeliveryAnswer.REFUSED),
        (0xFF00, DeliveryAnswer.REFUSED),
        (0xFE00, DeliveryAnswer.REFUSED),
    ],
)
def test_each_status_has_its_verdict(status: int, verdict: DeliveryAnswer) -> None:
    assert judge(status) is verdict


def test_every_status_is_judged_and_described() -> None:
    for status in range(0x10000):
        verdict = judge(status)
        assert isinstance(verdict, DeliveryAnswer)
        assert describe_store(status).startswith(f"0x{status:04X} (")
        if is_warning(status):
            assert verdict is DeliveryAnswer.STORED


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0xA702, "out of resources"),
        (0xA900, "data set does not match SOP class"),
        (0xC123, "cannot understand"),
        (0xB123, "warning"),
        (0x0122, "SOP class not supported"),
        (0x9999, "failure"),
    ],
)
def test_a_status_in_words(status: int, words: str) -> None:
    assert describe_store(status) == f"0x{status:04X} ({words})"
