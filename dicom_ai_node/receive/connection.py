"""One connection: whether its peer keeps pace, what is known of it, and its row in the database."""

import math
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from dicom_ai_node.config.processes import ReceiveSettings
from dicom_ai_node.errors import StorageError
from dicom_ai_node.heartbeat import Heartbeat
from dicom_ai_node.receive.incoming import Incoming
from dicom_ai_node.store import Database, instances

_LIFE = 30.0
"""Seconds that a row outlives the last sign of life of its receiver."""
_RENEWAL = 10.0

_log = structlog.get_logger()


class Pace:
    """The rate of the message that is arriving on one association.

    Bytes of commands and data sets count, not those of the PDUs around them: a stream of empty
    fragments brings nothing. A message that is whole within the first window is never judged.
    """

    def __init__(self, settings: ReceiveSettings) -> None:
        self._settings = settings
        self._began: float | None = None
        self._window_began = 0.0
        self._in_window = 0

    @property
    def is_open(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._began is not None

    def begin(self, now: float) -> None:
        """Its first byte has come; harmless within a message."""
        if self._began is None:
            self._began = self._window_began = now
            self._in_window = 0

    def end(self) -> None:
        """The message is whole."""
        self._began = None

    def add(self, size: int) -> None:
        """So many bytes of it have come."""
        self._in_window += size

    def excuse(self, seconds: float) -> None:
        """Leave out time in which not the peer but this program was busy."""
        if self._began is not None:
            self._began += seconds
            self._window_began += seconds

    def seconds_left(self, now: float) -> float:
        """Return when :meth:`fault` has to be asked again; infinite outside a message."""
        if self._began is None:
            return math.inf
        window = self._window_began + self._settings.dimse_timeout
        return max(0.0, min(window, self._began + self._settings.object_seconds) - now)

    def fault(self, now: float) -> str:
        """Return what is wrong with the pace, '' while nothing is."""
        if self._began is None:
            return ""
        longest, window = self._settings.object_seconds, self._settings.dimse_timeout
        least_rate = self._settings.least_rate
        if now - self._began >= longest:
            return f"a message took longer than receive.object_seconds = {longest:g}"
        if now - self._window_began >= window:
            if self._in_window < least_rate * window:
                return (
                    f"{self._in_window} bytes in {now - self._window_began:.0f} s, less than"
                    f" receive.least_rate = {least_rate:g} a second"
                )
            self._window_began, self._in_window = now, 0
        return ""

    def slow_seconds(self, now: float) -> float:
        """Return for how long the message has been slower than the least rate; 0 if it is not."""
        if self._began is None:
            return 0.0
        elapsed = now - self._window_began
        return elapsed if self._in_window < self._settings.least_rate * elapsed else 0.0


@dataclass(eq=False)
class Connection:
    """One connection, from accept to close. Compared by identity."""

    address: str
    settings: ReceiveSettings
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
    has_spoken: bool = False
    """Whether a byte came: not from a probe that only connects."""

    def __post_init__(self) -> None:
        self.pace = Pace(self.settings)
        """Of the message that is arriving."""
        self.opened_at = self.heard_at = self.active_at = self.productive_at = time.monotonic()
        """Last: when a byte came, when a request was answered, when an instance was filed."""

    def heard(self, now: float) -> None:
        """Bytes of the peer's have come."""
        self.has_spoken = True
        self.heard_at = now

    def overdue(self) -> str:
        """Return why the peer has to go by now, '' while it may stay."""
        now, settings = time.monotonic(), self.settings
        if self.seconds_left() > 0:
            return ""
        if not self.calling_ae:
            if not self.has_spoken:
                return "sent nothing until acse_timeout"
            return f"not complete within receive.acse_timeout = {settings.acse_timeout:g} s"
        if fault := self.pace.fault(now):
            return fault
        if now - self.heard_at >= settings.network_timeout:
            return f"no traffic for receive.network_timeout = {settings.network_timeout:g} s"
        if self.unproductive_seconds() >= settings.unproductive_seconds:
            return "no instance for receive.unproductive_seconds"
        return ""

    def seconds_left(self) -> float:
        """Return when :meth:`overdue` has to be asked again; at most 0: now."""
        now, settings = time.monotonic(), self.settings
        if not self.calling_ae:
            return self.opened_at + settings.acse_timeout - now
        return min(
            self.pace.seconds_left(now),
            self.heard_at + settings.network_timeout - now,
            settings.unproductive_seconds - self.unproductive_seconds(),
        )

    def answered(self, incoming: Incoming, *, success: bool) -> None:
        """A C-STORE request was answered."""
        self.received_bytes += incoming.size
        self.arriving.discard(incoming)
        self.instances += success
        self.refused += not success
        self.heard_at = self.active_at = time.monotonic()  # meanwhile we were at work, not it
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


class AssociationRows:
    """Opens the row of an association with its first instance, and keeps the open ones alive.

    A receiver that is killed renews nothing any more, so its rows expire by themselves.
    """

    def __init__(self, db: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._db = db
        self._clock = clock
        self._open: set[str] = set()
        self._heart = Heartbeat(
            "association-rows", _RENEWAL, self.renew, failure="associations_not_renewed"
        )
        self._heart.start()

    def ensure(self, connection: Connection) -> None:
        """Write the row unless it is there. Echoes and rejected peers never cost a commit."""
        if connection.has_row:
            return
        now = self._clock()
        instances.open_association(
            self._db,
            connection.key,
            calling_ae=connection.calling_ae,
            address=connection.address,
            now=now,
            alive_until=now + _LIFE,
        )
        connection.has_row = True
        self._open.add(connection.key)

    def end(self, connection: Connection) -> None:
        """Remove the row; when that fails, it expires."""
        if not connection.has_row:
            return
        self._open.discard(connection.key)
        try:
            instances.close_association(self._db, connection.key)
        except StorageError as error:
            _log.warning("association_row_left", error=str(error))

    def renew(self) -> None:
        """Give all open rows another lease of life."""
        instances.keep_associations(self._db, list(self._open), alive_until=self._clock() + _LIFE)

    def close(self) -> None:
        """Stop renewing."""
        self._heart.stop()
