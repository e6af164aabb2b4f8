"""Free space of the spool: seen before it runs out."""

import shutil
from enum import StrEnum
from pathlib import Path

from dicom_ai_node.config.processes import StorageSettings

MEGABYTE = 1024 * 1024


class Space(StrEnum):
    """How much room there is."""

    ENOUGH = "enough"
    LOW = "low"
    """Below ``warn_free_mb``: not ready."""
    OUT = "out"
    """Below ``min_free_mb``: receivers refuse with 0xA700."""


def free_bytes(spool: Path) -> int:
    """Return what is left on the file system of ``spool``, which may not exist yet.

    Raises
    ------
    OSError
        The file system does not answer.
    """
    folder = spool.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def space(free: int, settings: StorageSettings) -> Space:
    """Hold ``free`` bytes against the two marks of ``[storage]``."""
    if free < settings.min_free_mb * MEGABYTE:
        return Space.OUT
    if free < settings.warn_free_mb * MEGABYTE:
        return Space.LOW
    return Space.ENOUGH
