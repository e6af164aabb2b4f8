"""Whether a peer that has begun a message goes on with it. Pure: times come from the caller."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """How slow a message may be, from ``[receive]``."""

    window: float
    """``dimse_timeout``: seconds over which the rate is averaged, and of silence."""
    least_rate: float
    """``least_rate``: bytes a second."""
    longest: float
    """``object_seconds``."""


class Pace:
    """The rate of the message that is arriving on one association.

    Bytes of commands and data sets count, not those of the PDUs around them: a stream of empty
    fragments brings nothing. A message that is whole within the first window is never judged.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._began: float | None = None
        self._window_began = 0.0
        self._in_window = 0
        self.total = 0
        """Bytes of the message so far."""

    @property
    def is_open(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._began is not None

    def begin(self, now: float) -> None:
        """Its first byte has come; harmless within a message."""
        if self._began is None:
            self._began = self._window_began = now
            self._in_window = self.total = 0

    def end(self) -> None:
        """The message is whole."""
        self._began = None

    def add(self, size: int) -> None:
        """So many bytes of it have come."""
        self._in_window += size
        self.total += size

    def excuse(self, seconds: float) -> None:
        """Leave out time in which not the peer but this program was busy."""
        if self._began is not None:
            self._began += seconds
            self._window_began += seconds

    def seconds_left(self, now: float) -> float | None:
        """Return when :meth:`fault` has to be asked again; None outside a message."""
        if self._began is None:
            return None
        window = self._window_began + self._limits.window
        return max(0.0, min(window, self._began + self._limits.longest) - now)

    def fault(self, now: float) -> str:
        """Return what is wrong with the pace, '' while nothing is."""
        if self._began is None:
            return ""
        if now - self._began >= self._limits.longest:
            return f"a message took longer than receive.object_seconds = {self._limits.longest:g}"
        if now - self._window_began >= self._limits.window:
            if self._in_window < self._limits.least_rate * self._limits.window:
                return (
                    f"{self._in_window} bytes in {now - self._window_began:.0f} s, less than"
                    f" receive.least_rate = {self._limits.least_rate:g} a second"
                )
            self._window_began, self._in_window = now, 0
        return ""

    def slow_seconds(self, now: float) -> float:
        """Return for how long the message has been slower than the least rate; 0 if it is not."""
        if self._began is None:
            return 0.0
        elapsed = now - self._window_began
        return elapsed if self._in_window < self._limits.least_rate * elapsed else 0.0
