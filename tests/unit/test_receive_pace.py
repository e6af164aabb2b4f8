"""When a message is too slow."""

import math

import pytest

from dicom_ai_node.config.processes import ReceiveSettings
from dicom_ai_node.receive.connection import Pace

LIMITS = ReceiveSettings(dimse_timeout=60.0, least_rate=4096.0, object_seconds=1800.0)
MEGABIT = 125_000


@pytest.fixture
def pace() -> Pace:
    pace = Pace(LIMITS)
    pace.begin(100.0)
    return pace


def fed(pace: Pace, *, rate: float, seconds: int) -> str:
    """Bring bytes every second; return the first fault."""
    for second in range(1, seconds + 1):
        pace.add(int(rate))
        fault = pace.fault(100.0 + second)
        if fault:
            return fault
    return ""


def test_a_hundred_megabytes_over_a_slow_line_are_no_fault(pace: Pace) -> None:
    assert fed(pace, rate=2 * MEGABIT, seconds=400) == ""


def test_a_byte_now_and_then_is_a_fault_after_one_window(pace: Pace) -> None:
    pace.add(3)
    assert pace.fault(159.0) == ""
    assert "3 bytes in 60 s" in pace.fault(160.0)
    assert "receive.least_rate = 4096" in pace.fault(160.0)


def test_silence_is_a_fault(pace: Pace) -> None:
    pace.add(10**9)
    assert pace.fault(160.0) == ""
    assert "0 bytes" in pace.fault(220.0)


def test_whatever_its_rate_a_message_ends(pace: Pace) -> None:
    assert "object_seconds = 1800" in fed(pace, rate=5000, seconds=1800)


def test_what_was_whole_in_time_is_never_judged(pace: Pace) -> None:
    pace.add(1)
    pace.end()
    assert pace.fault(10_000.0) == ""
    assert pace.seconds_left(10_000.0) == math.inf
    pace.begin(20_000.0)
    assert pace.fault(20_059.0) == ""
    assert "0 bytes" in pace.fault(20_060.0)


def test_our_own_time_is_not_held_against_the_sender(pace: Pace) -> None:
    pace.excuse(50.0)
    assert pace.fault(200.0) == ""
    assert pace.seconds_left(200.0) == 10.0


def test_a_fault_is_found_when_it_was_said_to_be_looked_for(pace: Pace) -> None:
    left = pace.seconds_left(100.0)
    assert left == 60.0
    assert pace.fault(100.0 + left)


def test_slowness_is_seen_before_it_is_a_fault(pace: Pace) -> None:
    pace.add(20)
    assert pace.slow_seconds(107.0) == 7.0
    pace.add(100_000)
    assert pace.slow_seconds(107.0) == 0.0
