"""How long to wait after failures in a row: one formula; each use states its two numbers."""

from dataclasses import dataclass

AFTER_FAULT_SECONDS = 5.0
"""How long a worker waits after a fault of the node itself, such as a full disk."""
LONGEST_RETRY = 600.0
"""The longest pause, in seconds, before a study is analysed again."""
_MOST_DOUBLINGS = 64
"""More would overflow, and no pause is that long."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """A pause that doubles with each failure in a row. It reads no clock and draws no lot."""

    first: float
    """Seconds to wait after the first failure."""
    longest: float
    """Seconds. Wins where ``first`` is longer."""

    def seconds(self, failures: int, *, jitter: float = 1.0) -> float:
        """Return the pause after that many failures in a row, 1 or more.

        ``jitter``, drawn from [0, 1), picks a point in the upper half of the pause, so that what
        failed together does not come back together.
        """
        pause = min(self.longest, self.first * 2.0 ** min(failures - 1, _MOST_DOUBLINGS))
        return pause * (0.5 + 0.5 * jitter)
