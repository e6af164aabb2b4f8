"""The life of an audit as one table, (state, event) -> state, and the hours it may work in."""

from collections.abc import Mapping
from datetime import datetime, time, timedelta
from enum import StrEnum


class AuditState(StrEnum):
    """Where an audit stands."""

    RUNNING = "running"
    """Worked on by the owner of its lease, or waiting for one to take it."""
    PAUSED = "paused"
    """A person may resume it."""
    CANCELLED = "cancelled"
    """A person gave it up; what was collected stays."""
    DONE = "done"
    """Every listed study is settled."""
    FAILED = "failed"
    """It cannot go on, with the reason; may be resumed once that is mended."""


class AuditEvent(StrEnum):
    """What can happen to an audit."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    COMPLETE = "complete"
    """The last study was settled."""
    FAIL = "fail"
    """Its source cannot be opened or listed, or the program erred."""


class AuditedState(StrEnum):
    """Where one study of an audit stands."""

    WAITING = "waiting"
    SETTLED = "settled"
    """Collected, or given up with its fault: never asked for again."""


AUDIT_TRANSITIONS: Mapping[tuple[AuditState, AuditEvent], AuditState] = {
    (AuditState.RUNNING, AuditEvent.PAUSE): AuditState.PAUSED,
    (AuditState.RUNNING, AuditEvent.RESUME): AuditState.RUNNING,
    (AuditState.RUNNING, AuditEvent.CANCEL): AuditState.CANCELLED,
    (AuditState.RUNNING, AuditEvent.COMPLETE): AuditState.DONE,
    (AuditState.RUNNING, AuditEvent.FAIL): AuditState.FAILED,
    (AuditState.PAUSED, AuditEvent.RESUME): AuditState.RUNNING,
    (AuditState.PAUSED, AuditEvent.CANCEL): AuditState.CANCELLED,
    (AuditState.FAILED, AuditEvent.RESUME): AuditState.RUNNING,
    (AuditState.FAILED, AuditEvent.CANCEL): AuditState.CANCELLED,
}
"""Every other pair means nothing: the state stays."""


def audit_step(state: AuditState, event: AuditEvent) -> AuditState | None:
    """Return the state that ``event`` leads to, None when it means nothing in ``state``."""
    return AUDIT_TRANSITIONS.get((state, event))


def seconds_until_open(window: str, at: datetime) -> float:
    """Return how long after the local time ``at`` the window is open, 0 when it is.

    A window may span midnight. Its first minute belongs to it, its last time does not.
    """
    if not window:
        return 0.0
    first, last = (time.fromisoformat(part) for part in window.split("-"))
    now = at.time()
    spans_midnight = last < first
    if (now >= first or now < last) if spans_midnight else (first <= now < last):
        return 0.0
    opens = datetime.combine(at.date(), first)
    if opens < at:
        opens += timedelta(days=1)
    return (opens - at).total_seconds()
