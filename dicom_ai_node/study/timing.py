"""When a study counts as complete, and when an audit may work."""

from datetime import datetime, time, timedelta

from dicom_ai_node.config.stages import StudySettings


def closing_time(*, opened_at: float, last_at: float, settings: StudySettings) -> float:
    """Return when a study closes, given when it was (re)opened and when the last instance came.

    Seconds since the epoch, as the arguments. Counted from the last instance, never from the
    first, because senders pause; capped, because some never stop.
    """
    return min(last_at + settings.quiet_seconds, opened_at + settings.max_wait_seconds)


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
