"""When an audit may ask its source for the next thing: the hospital comes first."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from dicom_ai_node.backoff import Backoff
from dicom_ai_node.config.stages import AuditSettings
from dicom_ai_node.study import seconds_until_open

_LIVE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Hold:
    """Why an audit waits."""

    reason: str
    seconds: float
    """For how long at least, as far as is known now."""
    lasting: bool = True
    """Worth a note for those who do not watch."""


class Pacing:
    """The rate, the window, the live studies, and a source that is away. Times in seconds."""

    def __init__(
        self,
        settings: AuditSettings,
        *,
        live: Callable[[], int],
        local_time: Callable[[float], datetime] = datetime.fromtimestamp,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._live = live
        self._local_time = local_time
        self._chance = chance
        self._next_at = 0.0
        self._back_at = 0.0
        self._back_reason = ""
        self._unreachable = 0
        """How often in a row."""

    def hold(self, now: float, *, paced: bool) -> Hold | None:
        """Return what to wait for, None when the audit may go on.

        ``paced``: whether the next thing is a study, which the rate counts.
        """
        closed = seconds_until_open(self._settings.window, self._local_time(now))
        if closed:
            return Hold(f"outside the window {self._settings.window}", closed)
        self._bound(now)
        if now < self._back_at:
            return Hold(self._back_reason, self._back_at - now)
        if self._settings.yield_to_live and (studies := self._live()):
            return Hold(f"live studies first ({studies})", _LIVE_SECONDS, lasting=False)
        if paced and now < self._next_at:
            rate = self._settings.studies_per_minute
            return Hold(f"at most {rate:g} studies a minute", self._next_at - now, lasting=False)
        return None

    def _bound(self, now: float) -> None:
        """Wait for no time that only a clock that went back since makes so distant."""
        self._back_at = min(self._back_at, now + self._settings.retry_max_seconds)
        rate = self._settings.studies_per_minute
        self._next_at = min(self._next_at, now + (60.0 / rate if rate else 0.0))

    def asked(self, at: float) -> None:
        """Count a study that was asked for; what the rate left unused is not made up for later."""
        if self._settings.studies_per_minute:
            self._next_at = at + 60.0 / self._settings.studies_per_minute

    @property
    def away(self) -> bool:
        """Whether the source could not be reached when it was last asked."""
        return self._unreachable > 0

    def answered(self) -> None:
        """Note that the source is there, whatever it said."""
        self._unreachable = 0

    def unreachable(self, now: float, why: str) -> None:
        """Note that the source is away, and why: the audit waits, longer each time."""
        self._unreachable += 1
        times = f", {self._unreachable} times in a row" if self._unreachable > 1 else ""
        self.back_off(now, self._unreachable, f"the source cannot be reached{times}: {why}")

    def back_off(self, now: float, failures: int, reason: str) -> None:
        """Ask for nothing for as long as so many failures in a row deserve."""
        self._back_at = now + self.pause(failures)
        self._back_reason = reason

    def pause(self, failures: int) -> float:
        """Return how long to wait after so many failures in a row."""
        backoff = Backoff(self._settings.retry_seconds, self._settings.retry_max_seconds)
        return backoff.seconds(failures, jitter=self._chance())
