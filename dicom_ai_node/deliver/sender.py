"""The port through which deliveries leave the node: open, send, close, and what came of it.

A sender talks to one destination, from one thread. :class:`.dimse.DimseSender` is behind it first;
the queue does not know how objects travel. :class:`FakeSender` answers as a test wants.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from dicom_ai_node.store.deliveries import ClaimedDelivery
from dicom_ai_node.store.reports import StoredFile


class DeliveryAnswer(StrEnum):
    """What to do with a delivery after it was sent."""

    STORED = "stored"
    """The destination has the object."""
    OTHER_CLASS = "other_class"
    """It may take the same report in another SOP class."""
    BUSY = "busy"
    """It has no room now: wait, however often."""
    REFUSED = "refused"
    """It does not want this object: wait, and give up after some attempts."""
    UNREADABLE = "unreadable"
    """Nothing was sent: the file is missing or damaged."""


@dataclass(frozen=True, slots=True)
class DeliveryOutcome:
    """What came of sending one delivery."""

    answer: DeliveryAnswer
    file: StoredFile | None = None
    """Which of the report's files is stored; None when none is."""
    status: int | None = None
    """The number that it answered with, as its protocol has it; None when it was not asked."""
    shown: str = ""
    """The same for a log: ``0xA700``."""
    error: str = ""
    """Why it was not stored. May quote the peer: for the database, never for a log."""

    @property
    def is_stored(self) -> bool:
        """Whether the destination has the object."""
        return self.answer is DeliveryAnswer.STORED


class Sender(Protocol):
    """Sends to one destination."""

    def open(self, batch: Sequence[ClaimedDelivery]) -> None:
        """Have a connection over which ``batch`` can be sent: the open one, or a new one.

        Raises PeerUnavailable: there is none.
        """

    def send(self, claimed: ClaimedDelivery, *, preferred: str) -> DeliveryOutcome:
        """Send one delivery of the batch, in the ``preferred`` SOP class if it may travel in it.

        Raises PeerUnavailable: the connection was lost; whether the object was stored is not known;
        StorageError: the whole spool is missing: no fault of this delivery.
        """
        ...

    def close(self) -> None:
        """Close the connection, if there is one."""


@dataclass(slots=True)
class FakeSender:
    """Stores everything, but for what ``answers`` says; remembers what it was asked for."""

    answers: Callable[[ClaimedDelivery], DeliveryOutcome | Exception | None] = lambda _: None
    """The outcome of a delivery, or what to raise; None: stored, in its first file."""
    unreachable: Exception | None = None
    """Raised instead of opening a connection."""
    sent: list[int] = field(default_factory=list)
    """Ids of deliveries, in order."""
    is_open: bool = False

    def open(self, batch: Sequence[ClaimedDelivery]) -> None:
        """Open, unless ``unreachable``."""
        if self.unreachable is not None:
            raise self.unreachable
        self.is_open = True

    def send(self, claimed: ClaimedDelivery, *, preferred: str) -> DeliveryOutcome:
        """Answer by ``answers``."""
        self.sent.append(claimed.id)
        found = self.answers(claimed)
        if isinstance(found, Exception):
            raise found
        return found or DeliveryOutcome(DeliveryAnswer.STORED, claimed.files[0], 0, "0x0000")

    def close(self) -> None:
        """Close."""
        self.is_open = False
