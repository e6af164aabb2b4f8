"""States of an audit, its window and what it waits for."""

from collections import deque
from datetime import datetime

import pytest

from dicom_ai_node.audit.pacing import Pacing
from dicom_ai_node.config import parse_config
from dicom_ai_node.config.stages import AuditSettings
from dicom_ai_node.errors import ConfigError
from dicom_ai_node.study import (
    AUDIT_TRANSITIONS,
    AuditEvent,
    AuditState,
    audit_step,
    seconds_until_open,
)

NIGHT, DAY = "22:00-06:00", "09:30-17:00"


@pytest.mark.parametrize(
    ("window", "at", "seconds"),
    [
        ("", "12:00:00", 0),
        (NIGHT, "22:00:00", 0),
        (NIGHT, "23:59:59", 0),
        (NIGHT, "00:00:00", 0),
        (NIGHT, "05:59:59", 0),
        (NIGHT, "06:00:00", 16 * 3600),
        (NIGHT, "21:59:59", 1),
        (DAY, "09:29:00", 60),
        (DAY, "09:30:00", 0),
        (DAY, "16:59:59", 0),
        (DAY, "17:00:00", 16.5 * 3600),
        (DAY, "23:30:00", 10 * 3600),
    ],
)
def test_the_window(window: str, at: str, seconds: float) -> None:
    assert seconds_until_open(window, datetime.fromisoformat(f"2024-02-28 {at}")) == seconds


@pytest.mark.parametrize("window", ["22-6", "22:00-24:00", "22:00-22:00", "22:00 - 06:00"])
def test_a_window_that_is_none_is_refused(window: str) -> None:
    with pytest.raises(ConfigError, match=rf"audit\.window = '{window}'.*"):
        parse_config({"audit": {"window": window}})


def test_the_first_reason_to_wait_is_given() -> None:
    live = deque([2, 0, 0, 0])
    pacing = Pacing(
        AuditSettings(window=NIGHT, studies_per_minute=6, retry_seconds=8),
        live=live.popleft,
        local_time=lambda at: datetime(2024, 1, 1, 21 if at < 100 else 23),
        chance=lambda: 0.5,
    )
    pacing.asked(99.0)
    pacing.unreachable(98.0, "refused")
    pacing.unreachable(99.0, "refused")

    def waits(now: float, *, paced: bool = True) -> tuple[str, float] | None:
        hold = pacing.hold(now, paced=paced)
        return (hold.reason, hold.seconds) if hold else None

    assert waits(99.0) == ("outside the window 22:00-06:00", 3600)
    assert waits(100.0) == ("the source cannot be reached, 2 times in a row: refused", 11)
    pacing.back_off(90.0, 1, "over")
    assert waits(100.0) == ("live studies first (2)", 1.0)
    assert waits(100.0) == ("at most 6 studies a minute", 9.0)
    assert waits(100.0, paced=False) is None
    assert waits(109.0) is None


def test_pauses_double_up_to_the_longest_and_begin_anew() -> None:
    settings = AuditSettings(retry_seconds=10, retry_max_seconds=60, yield_to_live=False)
    pacing = Pacing(settings, live=lambda: 0, chance=lambda: 1.0)
    waits = []
    for _ in range(5):
        pacing.unreachable(0.0, "refused")
        hold = pacing.hold(0.0, paced=True)
        waits.append(hold.seconds if hold else 0)
    assert waits == [10, 20, 40, 60, 60]
    pacing.answered()
    pacing.unreachable(0.0, "refused")
    hold = pacing.hold(0.0, paced=True)
    assert hold is not None
    assert (hold.seconds, hold.reason) == (10, "the source cannot be reached: refused")


def test_an_audit_that_ended_for_good_stays_so() -> None:
    for state in (AuditState.DONE, AuditState.CANCELLED):
        assert {audit_step(state, event) for event in AuditEvent} == {None}


def test_only_a_running_audit_can_be_completed_and_only_a_person_lets_it_run() -> None:
    done = {key for key, after in AUDIT_TRANSITIONS.items() if after is AuditState.DONE}
    assert done == {(AuditState.RUNNING, AuditEvent.COMPLETE)}
    runs = {event for (_, event), after in AUDIT_TRANSITIONS.items() if after == "running"}
    assert runs == {AuditEvent.RESUME}
    assert set(AUDIT_TRANSITIONS.values()) == set(AuditState)
