"""One data set that is arriving: bytes go to a file as they come, at its end through the digest."""

import ctypes
import fcntl
import mmap
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

from blake3 import blake3

from dicom_ai_node.errors import InstanceTooLarge, StorageError, StorageFull
from dicom_ai_node.spool import storage_error

_MEGABYTE = 1024 * 1024
_FRESH_FOR = 0.5
"""Seconds that one statvfs answers for: on a network file system it is a round trip."""
_NEAR = 1024 * _MEGABYTE
"""So near to the mark it answers for few bytes only: siblings write at the same time."""
_BITE = _MEGABYTE
"""For so many."""
_WRITE_BACK = 2 * 1024 * 1024
"""Bytes after which the disk may begin: enough for one request, a fifth of a large radiograph."""
_PIPE = 1024 * 1024
_SYNC_FILE_RANGE_WRITE = 2
_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)
"""Of Linux; Python has no name for it."""
if _sync_file_range is not None:
    _sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]


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

        Raises StorageFull: they would leave less than ``storage.min_free_mb``; StorageError: the
        file system does not answer.
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


class Pipe:
    """Where bytes wait between a socket and a file; this program never reads them."""

    def __init__(self) -> None:
        self.out, self.into = os.pipe2(os.O_CLOEXEC)
        self.waits = 0
        """Bytes that are in it."""
        with suppress(PermissionError):  # as large as it is, if this account has many of them
            fcntl.fcntl(self.into, fcntl.F_SETPIPE_SZ, _PIPE)

    def drain(self, fd: int) -> None:
        """Move what waits into a file."""
        while self.waits:
            self.waits -= os.splice(self.out, fd, self.waits)

    def drop(self) -> None:
        """Forget what waits."""
        while self.waits:
            self.waits -= len(os.read(self.out, self.waits))

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self.out)
        os.close(self.into)


class Incoming:
    """A file being received.

    No fault leaves :meth:`write`, which runs in the reader of the association: without room, on a
    disk that fails or beyond ``largest`` bytes the file is removed, what else arrives is dropped,
    and :attr:`failure` says why. The association stays in step and the sender gets an answer.
    """

    def __init__(self, path: Path, *, head: bytes, room: Room, largest: int) -> None:
        self.path = path
        self.offset = len(head)
        """Where the data set begins in the file, behind preamble and File Meta Information."""
        self.size = 0
        """Bytes of the data set."""
        self.failure: StorageError | InstanceTooLarge | None = None
        self._room = room
        self._largest = largest
        self._written_back = 0
        self._digest = ""
        self._fd = -1
        self._attempt_open(head)

    @property
    def digest(self) -> str:
        """BLAKE3 of the data set as received, without preamble and File Meta Information.

        '' before :meth:`sync`.
        """
        return self._digest

    def write(self, data: memoryview) -> None:
        """Take the next bytes of the data set."""
        if self._takes(len(data)):
            try:
                self._write_all(data)
                self._write_back()
            except (StorageError, OSError) as error:
                self._fail(error)

    def take(self, pipe: Pipe) -> None:
        """Take the next bytes of the data set: all that wait in ``pipe``."""
        if self._takes(pipe.waits):
            try:
                with self._room.for_bytes(pipe.waits):
                    pipe.drain(self._fd)
                self._write_back()
            except (StorageError, OSError) as error:
                self._fail(error)
        pipe.drop()

    @property
    def is_absurd(self) -> bool:
        """Whether it is twice as large as anything may be, so that its end is not waited for."""
        return self.size > 2 * self._largest

    def sync(self) -> None:
        """Return when the content is on the disk.

        Raises StorageError, InstanceTooLarge: what went wrong here, or earlier in :meth:`write`.
        """
        if self.failure is None:
            try:
                self._write_back(least=1)
                self._digest = self._hash()  # while the disk writes
                os.fsync(self._fd)
            except OSError as error:
                self._fail(error)
        if self.failure is not None:
            raise self.failure
        self._close()

    def discard(self) -> None:
        """Remove the file, wherever its reception stands; harmless when repeated."""
        self._close()
        self.path.unlink(missing_ok=True)

    def _attempt_open(self, head: bytes) -> None:
        try:
            with self._room.for_bytes(0):  # without room there is no file at all
                pass
            # Patient data: for nobody but this account.
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            self._write_all(memoryview(head))
        except (StorageError, OSError) as error:
            self._fail(error)

    def _write_all(self, data: memoryview) -> None:
        with self._room.for_bytes(len(data)):
            while data:  # a write that meets the end of the disk returns short first
                data = data[os.write(self._fd, data) :]

    def _takes(self, size: int) -> bool:
        """Count so many bytes more; return whether the file is to have them."""
        self.size += size
        if self.failure is None and self.size > self._largest:
            limit = self._largest // _MEGABYTE
            self._fail(InstanceTooLarge(f"larger than receive.max_object_mb = {limit}"))
        return self.failure is None

    def _hash(self) -> str:
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
        with mmap.mmap(self._fd, 0, flags=flags, prot=mmap.PROT_READ) as data:
            return blake3(memoryview(data)[self.offset :]).hexdigest()

    def _write_back(self, least: int = _WRITE_BACK) -> None:
        written = self.offset + self.size
        if written - self._written_back >= least:
            start_writing_back(self._fd, self._written_back, written - self._written_back)
            self._written_back = written

    def _fail(self, error: StorageError | InstanceTooLarge | OSError) -> None:
        self.failure = storage_error(error) if isinstance(error, OSError) else error
        self._close()
        try:
            self.path.unlink(missing_ok=True)
        except OSError:
            return  # swept at the next start

    def _close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


def start_writing_back(fd: int, offset: int, size: int) -> None:
    """Begin to write a range of the file to the disk, without waiting.

    A hint and no promise: an error shows in the fsync that follows.
    """
    if _sync_file_range is not None:
        _sync_file_range(fd, offset, size, _SYNC_FILE_RANGE_WRITE)
