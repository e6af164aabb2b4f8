"""The machine that the node runs on: room on its disks, and its clock being set."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dicom_ai_node.config import Config
from dicom_ai_node.config.processes import StorageSettings
from dicom_ai_node.deliver import LEASE_SECONDS
from dicom_ai_node.store.clock import Bounds

MEGABYTE = 1024 * 1024
_INODES = 1000
_INODES_SHARE = 100
_DATABASE_SHARE = 20
STEP_SECONDS = 2.0
"""A smaller step is taken for the correction of a clock that runs fast or slow."""


class SpaceLeft(StrEnum):
    """How much room there is."""

    ENOUGH = "enough"
    LOW = "low"
    """Below the mark that warns: not ready."""
    OUT = "out"
    """Below ``min_free_mb``: receivers refuse with 0xA700."""


@dataclass(frozen=True, slots=True)
class FreeSpace:
    """What a file system has left for this user."""

    free: int
    """Bytes."""
    total: int
    inodes: int | None
    """Files that can still be made; None where the file system does not count them."""
    total_inodes: int = 0

    @property
    def lacks_inodes(self) -> bool:
        """Whether hardly another file can be made, however many bytes are free."""
        if self.inodes is None:
            return False
        return self.inodes < max(1, min(_INODES, self.total_inodes // _INODES_SHARE))

    def __str__(self) -> str:
        few = f", {self.inodes} more files" if self.lacks_inodes else ""
        return f"{megabytes(self.free)} free{few}"


def megabytes(size: int) -> str:
    """Return a size for a person."""
    return f"{size / MEGABYTE:.{0 if size >= 10 * MEGABYTE else 1}f} MB"


def room(path: Path) -> FreeSpace:
    """Return what is left on the file system of ``path``, which may not exist yet.

    Raises OSError: the file system does not answer.
    """
    folder = path.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    status = os.statvfs(folder)
    return FreeSpace(
        free=status.f_bavail * status.f_frsize,
        total=status.f_blocks * status.f_frsize,
        inodes=status.f_favail if status.f_files else None,
        total_inodes=status.f_files,
    )


def spool_space(left: FreeSpace, settings: StorageSettings) -> SpaceLeft:
    """Hold what is left for the spool against the two marks of ``[storage]``."""
    if left.free < settings.min_free_mb * MEGABYTE:
        return SpaceLeft.OUT
    if left.free < settings.warn_free_mb * MEGABYTE or left.lacks_inodes:
        return SpaceLeft.LOW
    return SpaceLeft.ENOUGH


def database_mark(left: FreeSpace, settings: StorageSettings) -> int:
    """Return how many bytes should be free where a database file lies.

    ``database_warn_free_mb``, but no more than a twentieth of a small file system.
    """
    return min(settings.database_warn_free_mb * MEGABYTE, left.total // _DATABASE_SHARE)


def database_space(left: FreeSpace, settings: StorageSettings) -> SpaceLeft:
    """Hold what is left for a database file against its mark."""
    if left.free < database_mark(left, settings) or left.lacks_inodes:
        return SpaceLeft.LOW
    return SpaceLeft.ENOUGH


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
        destinations={
            name: destination.retry_max_seconds for name, destination in config.destinations.items()
        },
    )
