"""What this process knows of one connection."""

import time
import uuid
from dataclasses import dataclass, field

from dicom_ai_node.receive.incoming import Incoming
from dicom_ai_node.receive.pace import Pace


@dataclass(eq=False)
class Connection:
    """One connection, from accept to close. Compared by identity."""

    address: str
    pace: Pace
    """Of the message that is arriving."""
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Names the association in the database."""
    calling_ae: str = ""
    """Empty until an association was accepted."""
    instances: int = 0
    """Answered with 0x0000."""
    refused: int = 0
    """Answered with another status."""
    received_bytes: int = 0
    has_row: bool = False
    arriving: set[Incoming] = field(default_factory=set)
    """Data sets that are not answered yet."""
    opened_at: float = field(default_factory=time.monotonic)
    active_at: float = field(default_factory=time.monotonic)
    productive_at: float = field(default_factory=time.monotonic)
    """When the last instance was filed; at first, when the connection was opened."""

    def begin(self, incoming: Incoming) -> None:
        """A data set has begun to arrive."""
        self.arriving.add(incoming)

    def answered(self, incoming: Incoming, *, success: bool) -> None:
        """A C-STORE request was answered."""
        self.received_bytes += incoming.size
        self.arriving.discard(incoming)
        self.instances += success
        self.refused += not success
        self.active_at = time.monotonic()
        if success:
            self.productive_at = self.active_at

    def abandon(self) -> None:
        """The connection is gone: what was not answered is not kept."""
        for incoming in self.arriving:
            incoming.discard()
        self.arriving.clear()

    def idle_seconds(self) -> float:
        """Return for how long nothing has been in progress."""
        return 0.0 if self.arriving else time.monotonic() - self.active_at

    def stalled_seconds(self) -> float:
        """Return for how long nothing has come, or a message more slowly than it may."""
        now = time.monotonic()
        return self.pace.slow_seconds(now) if self.pace.is_open else now - self.active_at

    def unproductive_seconds(self) -> float:
        """Return for how long no instance was filed; 0 while a message arrives."""
        return 0.0 if self.pace.is_open else time.monotonic() - self.productive_at

    def seconds(self) -> float:
        """Return how long the connection has been there."""
        return time.monotonic() - self.opened_at
