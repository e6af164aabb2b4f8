"""Room on the spool's file system, asked for by everything that arrives."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from dicom_ai_node.errors import StorageFull
from dicom_ai_node.spool import storage_error

_MEGABYTE = 1024 * 1024
_FRESH_FOR = 0.5
"""Seconds that one statvfs answers for: on a network file system it is a round trip."""
_NEAR = 1024 * _MEGABYTE
"""So near to the mark it answers for few bytes only: siblings write at the same time."""
_BITE = _MEGABYTE
"""For so many."""


class Room:
    """What is free above ``storage.min_free_mb``, as one receiver process sees it.

    Bytes that are granted and not written yet, of all that arrives here, count as used. What the
    other receivers write is seen with the next look, after a megabyte at most when it gets tight.
    """

    def __init__(
        self, root: Path, *, min_free_mb: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._root = root
        self._min_free = min_free_mb * _MEGABYTE
        self._clock = clock
        self._lock = Lock()
        self._free = 0
        self._looked_at = -_FRESH_FOR
        self._written = 0  # since then
        self._granted = 0  # and not written yet

    @contextmanager
    def for_bytes(self, size: int) -> Iterator[None]:
        """Within the context so many bytes may be written.

        Raises
        ------
        StorageFull
            They would leave less than ``storage.min_free_mb``.
        StorageError
            The file system does not answer.
        """
        with self._lock:
            self._grant(size)
        try:
            yield
        finally:
            with self._lock:
                self._granted -= size
                self._written += size

    def _grant(self, size: int) -> None:
        if self._is_stale() or self._left(size) < 0:
            self._look()
        if self._left(size) < 0:
            raise StorageFull(
                f"spool: {self._free // _MEGABYTE} MB free, "
                f"storage.min_free_mb = {self._min_free // _MEGABYTE}"
            )
        self._granted += size

    def _left(self, size: int) -> int:
        return self._free - self._written - self._granted - size - self._min_free

    def _is_stale(self) -> bool:
        if self._clock() - self._looked_at >= _FRESH_FOR:
            return True
        return self._left(0) < _NEAR and self._written >= _BITE

    def _look(self) -> None:
        try:
            status = os.statvfs(self._root)
        except OSError as error:
            raise storage_error(error) from error
        self._free = status.f_bavail * status.f_frsize
        self._looked_at = self._clock()
        self._written = 0
