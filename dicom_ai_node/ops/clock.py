"""Notices that the clock of the machine was set, which no time in the database can say."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from dicom_ai_node.config import Config
from dicom_ai_node.deliver.worker import LEASE_SECONDS
from dicom_ai_node.store.clock import Bounds

STEP_SECONDS = 2.0
"""A smaller step is taken for the correction of a clock that runs fast or slow."""


@dataclass(frozen=True, slots=True)
class Jump:
    """The clock was set."""

    seconds: float
    """Negative: back."""
    since: float
    """No earlier than this, by the new clock, was it set."""
    now: float


class ClockWatch:
    """Holds the clock against one that cannot be set and that goes on while the machine sleeps."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self._wall, self._steady = wall, steady
        self._seen = (wall(), steady())

    def look(self) -> Jump | None:
        """Return by how much the clock was set since the last look, None when it was not."""
        wall, steady = self._wall(), self._steady()
        before, self._seen = self._seen, (wall, steady)
        passed = steady - before[1]
        jump = wall - before[0] - passed
        if abs(jump) < STEP_SECONDS:
            return None
        return Jump(jump, since=wall - passed, now=wall)


def bounds_of(config: Config) -> Bounds:
    """Return how far ahead of the clock the times of a node may lie."""
    return Bounds(
        study=config.study,
        study_lease=config.analyse.lease_seconds,
        delivery_lease=LEASE_SECONDS,
        audit_lease=config.audit.lease_seconds,
        audit_pause=config.audit.retry_max_seconds,
        destinations={name: one.retry_max_seconds for name, one in config.destinations.items()},
    )
