"""The life of a delivery as one table: (state, event) -> state."""

from collections.abc import Mapping
from enum import StrEnum


class DeliveryState(StrEnum):
    """Where one report, on its way to one destination, stands."""

    QUEUED = "queued"
    """Waits for its turn."""
    SENDING = "sending"
    """A worker holds its lease."""
    DELIVERED = "delivered"
    """The destination has it."""
    DEAD = "dead"
    """A dead letter: given up, until a person requeues it."""


OPEN_DELIVERIES = frozenset({DeliveryState.QUEUED, DeliveryState.SENDING})
"""States in which a study still waits for a delivery."""


class DeliveryEvent(StrEnum):
    """What can happen to a delivery."""

    CLAIM = "claim"
    """A worker takes the lease."""
    LEASE_EXPIRED = "lease_expired"
    """Its worker died: the peer may get the object twice, with the same UID."""
    STORED = "stored"
    """The destination acknowledged it."""
    POSTPONE = "postpone"
    """It failed and is to be tried again."""
    RELEASE = "release"
    """Its worker puts it back unsent: no attempt is used up."""
    GIVE_UP = "give_up"
    """It failed for the last time."""
    RESEND = "resend"
    """A person puts it back in its queue."""


DELIVERY_TRANSITIONS: Mapping[tuple[DeliveryState, DeliveryEvent], DeliveryState] = {
    (DeliveryState.QUEUED, DeliveryEvent.CLAIM): DeliveryState.SENDING,
    (DeliveryState.SENDING, DeliveryEvent.LEASE_EXPIRED): DeliveryState.QUEUED,
    (DeliveryState.SENDING, DeliveryEvent.STORED): DeliveryState.DELIVERED,
    (DeliveryState.SENDING, DeliveryEvent.POSTPONE): DeliveryState.QUEUED,
    (DeliveryState.SENDING, DeliveryEvent.RELEASE): DeliveryState.QUEUED,
    (DeliveryState.SENDING, DeliveryEvent.GIVE_UP): DeliveryState.DEAD,
    (DeliveryState.DEAD, DeliveryEvent.RESEND): DeliveryState.QUEUED,
}
"""Every other pair means nothing: the state stays. So a worker that lost its lease has no say."""


def delivery_steps(event: DeliveryEvent) -> Mapping[DeliveryState, DeliveryState]:
    """Return the states in which ``event`` means something, each with the state it leads to."""
    return {
        before: after for (before, each), after in DELIVERY_TRANSITIONS.items() if each is event
    }
