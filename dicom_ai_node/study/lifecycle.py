"""The life cycle of a study as one table: (state, event) -> (state, effect).

The table is total: an event that means nothing in a state is listed as ignored, so that a repeated
or late event (at-least-once delivery, two processes, a person's click) can never corrupt a study.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from dicom_ai_node.config.stages import StudySettings


class State(StrEnum):
    """Where a study stands."""

    COLLECTING = "collecting"
    """Instances may still arrive."""
    READY = "ready"
    """Complete, waits for an analyser."""
    ANALYSING = "analysing"
    """An analyser holds its lease."""
    REPORTED = "reported"
    """The result is durable and waits for its destinations."""
    DELIVERED = "delivered"
    """Every destination has it."""
    UNDELIVERED = "undelivered"
    """At least one destination will not get it unless a person requeues it."""
    SKIPPED = "skipped"
    """Nothing to report, with the reason."""
    FAILED = "failed"
    """Could not be analysed after all attempts, with the reason."""


OPEN_STATES = (State.COLLECTING, State.READY, State.ANALYSING)
"""States in which a study still has to get an analysis."""


class Event(StrEnum):
    """What can happen to a study."""

    INSTANCE = "instance"
    """A new instance, or new content under a known UID, of a class that is analysed."""
    OTHER_INSTANCE = "other_instance"
    """The same for a class that is only kept."""
    QUIET = "quiet"
    """Its closing time has passed."""
    CLAIM = "claim"
    """An analyser takes the lease."""
    LEASE_EXPIRED = "lease_expired"
    """Its analyser died or hangs."""
    RESULT = "result"
    """The analysis ended and reports are queued."""
    NOTHING = "nothing"
    """The analysis ended with nothing to report."""
    ERROR = "error"
    """The analysis failed and is to be tried again."""
    GIVE_UP = "give_up"
    """The analysis failed for the last time."""
    SETTLED = "settled"
    """The last open delivery was acknowledged."""
    DEAD_LETTER = "dead_letter"
    """A delivery was given up."""
    RESEND = "resend"
    """A person puts given-up deliveries back in their queue."""
    COPIES = "copies"
    """Filled copies of its images are queued."""
    REQUEUE = "requeue"
    """A person asks for the analysis to be done again."""


class Effect(StrEnum):
    """What the transition does to the row besides its state."""

    NONE = "none"
    IGNORE = "ignore"
    """The event means nothing here; not even written to the history."""
    WAIT = "wait"
    """Set a new closing time."""
    REOPEN = "reopen"
    """Begin a new revision: new closing time, no lease, no attempts."""
    RELEASE = "release"
    """Give up the lease, keep the count of attempts."""
    RESET = "reset"
    """Give up the lease and forget earlier attempts."""


class Step(NamedTuple):
    """The consequence of an event."""

    state: State
    effect: Effect


def _table() -> dict[tuple[State, Event], Step]:
    s, e, x = State, Event, Effect
    table = {(state, event): Step(state, x.IGNORE) for state in s for event in e}
    for state in s:
        table[state, e.INSTANCE] = Step(s.COLLECTING, x.REOPEN)
    for state in (s.FAILED, s.SKIPPED, s.DELIVERED, s.UNDELIVERED, s.REPORTED):
        table[state, e.REQUEUE] = Step(s.READY, x.RESET)
    table |= {
        (s.COLLECTING, e.INSTANCE): Step(s.COLLECTING, x.WAIT),
        (s.COLLECTING, e.OTHER_INSTANCE): Step(s.COLLECTING, x.WAIT),
        (s.COLLECTING, e.QUIET): Step(s.READY, x.RESET),
        (s.COLLECTING, e.REQUEUE): Step(s.READY, x.RESET),
        (s.READY, e.CLAIM): Step(s.ANALYSING, x.NONE),
        (s.ANALYSING, e.LEASE_EXPIRED): Step(s.READY, x.RELEASE),
        (s.ANALYSING, e.RESULT): Step(s.REPORTED, x.RESET),
        (s.ANALYSING, e.NOTHING): Step(s.SKIPPED, x.RESET),
        (s.ANALYSING, e.ERROR): Step(s.READY, x.RELEASE),
        (s.ANALYSING, e.GIVE_UP): Step(s.FAILED, x.RELEASE),
        (s.REPORTED, e.SETTLED): Step(s.DELIVERED, x.NONE),
        (s.REPORTED, e.DEAD_LETTER): Step(s.UNDELIVERED, x.NONE),
        # An image that was to be forwarded, whatever had become of the study.
        (s.DELIVERED, e.DEAD_LETTER): Step(s.UNDELIVERED, x.NONE),
        (s.SKIPPED, e.DEAD_LETTER): Step(s.UNDELIVERED, x.NONE),
        (s.UNDELIVERED, e.RESEND): Step(s.REPORTED, x.NONE),
        (s.DELIVERED, e.COPIES): Step(s.REPORTED, x.NONE),
        (s.SKIPPED, e.COPIES): Step(s.REPORTED, x.NONE),
    }
    return table


TRANSITIONS: Mapping[tuple[State, Event], Step] = _table()


def step(state: State, event: Event) -> Step:
    """Return what ``event`` does to a study in ``state``; defined for every pair."""
    return TRANSITIONS[state, event]


def closing_time(*, opened_at: float, last_at: float, settings: "StudySettings") -> float:
    """Return when a study closes, given when it was (re)opened and when the last instance came.

    Seconds since the epoch, as the arguments. Counted from the last instance, never from the
    first, because senders pause; capped, because some never stop.
    """
    return min(last_at + settings.quiet_seconds, opened_at + settings.max_wait_seconds)
