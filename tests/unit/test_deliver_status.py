"""The meaning of every status, and the pauses."""

import pytest

from dicom_ai_node.deliver.backoff import pause
from dicom_ai_node.deliver.status import Verdict, judge
from dicom_ai_node.dicom.status import describe_store, is_warning


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (0x0000, Verdict.STORED),
        (0xB000, Verdict.STORED),
        (0xB006, Verdict.STORED),
        (0xB007, Verdict.STORED),
        (0x0107, Verdict.STORED),
        (0x0111, Verdict.STORED),
        (0xA700, Verdict.BUSY),
        (0xA7FF, Verdict.BUSY),
        (0x0213, Verdict.BUSY),
        (0x0122, Verdict.OTHER_CLASS),
        (0x0118, Verdict.OTHER_CLASS),
        (0xA900, Verdict.OTHER_CLASS),
        (0xA9FF, Verdict.OTHER_CLASS),
        (0xC000, Verdict.REFUSED),
        (0xCFFF, Verdict.REFUSED),
        (0x0110, Verdict.REFUSED),
        (0x0124, Verdict.REFUSED),
        (0xFF00, Verdict.REFUSED),
        (0xFE00, Verdict.REFUSED),
    ],
)
def test_each_status_has_its_verdict(status: int, verdict: Verdict) -> None:
    assert judge(status) is verdict


def test_every_status_is_judged_and_described() -> None:
    for status in range(0x10000):
        verdict = judge(status)
        assert isinstance(verdict, Verdict)
        assert describe_store(status).startswith(f"0x{status:04X} (")
        if is_warning(status):
            assert verdict is Verdict.STORED


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


def test_the_pause_doubles_up_to_the_longest() -> None:
    bounds = [pause(n, first=5, longest=60, chance=1.0) for n in range(1, 7)]
    assert bounds == [5, 10, 20, 40, 60, 60]


def test_the_pause_is_drawn_from_the_upper_half() -> None:
    assert pause(3, first=5, longest=60, chance=0.0) == 10
    assert pause(3, first=5, longest=60, chance=0.5) == 15


def test_a_million_failures_overflow_nothing() -> None:
    assert pause(1_000_000, first=0.001, longest=3600, chance=1.0) == 3600


def test_a_longest_pause_below_the_first_wins() -> None:
    assert pause(1, first=5, longest=1, chance=1.0) == 1
