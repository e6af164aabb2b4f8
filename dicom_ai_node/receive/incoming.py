"""One data set that is arriving: bytes go to a file and through the digest as they come."""

import os
from pathlib import Path

from blake3 import blake3

from dicom_ai_node.errors import InstanceTooLarge, StorageError
from dicom_ai_node.receive.room import Room
from dicom_ai_node.receive.writeback import start_writing_back
from dicom_ai_node.spool import storage_error

_WRITE_BACK = 2 * 1024 * 1024
"""Bytes after which the disk may begin: enough for one request, a fifth of a large radiograph."""


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
        self._hash = blake3()
        self._fd = -1
        self._attempt_open(head)

    @property
    def digest(self) -> str:
        """BLAKE3 of the data set as received, without preamble and File Meta Information."""
        return self._hash.hexdigest()

    def write(self, data: memoryview) -> None:
        """Take the next bytes of the data set."""
        self.size += len(data)
        if self.failure is not None:
            return
        if self.size > self._largest:
            limit = self._largest // (1024 * 1024)
            self._fail(InstanceTooLarge(f"larger than receive.max_object_mb = {limit}"))
            return
        self._hash.update(data)
        try:
            self._write_all(data)
        except (StorageError, OSError) as error:
            self._fail(error)
        else:
            self._write_back()

    @property
    def is_absurd(self) -> bool:
        """Whether it is twice as large as anything may be, so that its end is not waited for."""
        return self.size > 2 * self._largest

    def sync(self) -> None:
        """Return when the content is on the disk.

        Raises
        ------
        StorageError, InstanceTooLarge
            What went wrong here, or earlier in :meth:`write`.
        """
        if self.failure is None:
            try:
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
            self._fd = os.open(
                self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
            )
            self._write_all(memoryview(head))
        except (StorageError, OSError) as error:
            self._fail(error)

    def _write_all(self, data: memoryview) -> None:
        with self._room.for_bytes(len(data)):
            while data:  # a write that meets the end of the disk returns short first
                data = data[os.write(self._fd, data) :]

    def _write_back(self) -> None:
        written = self.offset + self.size
        if written - self._written_back >= _WRITE_BACK:
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
