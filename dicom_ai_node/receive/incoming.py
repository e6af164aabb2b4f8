"""One data set that is arriving: bytes go to a file and through the digest as they come."""

import os
from pathlib import Path

from blake3 import blake3

from dicom_ai_node.errors import StorageError
from dicom_ai_node.receive.writeback import start_writing_back
from dicom_ai_node.spool import storage_error

_WRITE_BACK = 2 * 1024 * 1024
"""Bytes after which the disk may begin: enough for one request, a fifth of a large radiograph."""


class Incoming:
    """A file being received.

    A fault of the disk never leaves :meth:`write`, which runs in the reader of the association:
    the file is removed, what else arrives is dropped, and :attr:`failure` says why. The
    association stays in step and the sender is told 0xA700.
    """

    def __init__(self, path: Path, *, head: bytes = b"", failure: StorageError | None = None):
        self.path = path
        self.offset = len(head)
        """Where the data set begins in the file, behind preamble and File Meta Information."""
        self.size = 0
        """Bytes of the data set."""
        self.failure = failure
        self._written_back = 0
        self._hash = blake3()
        self._fd = -1
        if failure is None:
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
        self._hash.update(data)
        try:
            self._write_all(data)
        except OSError as error:
            self._fail(error)
        else:
            self._write_back()

    def sync(self) -> None:
        """Return when the content is on the disk.

        Raises
        ------
        StorageError
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
            # Patient data: for nobody but this account.
            self._fd = os.open(
                self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
            )
            self._write_all(memoryview(head))
        except OSError as error:
            self._fail(error)

    def _write_all(self, data: memoryview) -> None:
        while data:  # a write that meets the end of the disk returns short first
            data = data[os.write(self._fd, data) :]

    def _write_back(self) -> None:
        written = self.offset + self.size
        if written - self._written_back >= _WRITE_BACK:
            start_writing_back(self._fd, self._written_back, written - self._written_back)
            self._written_back = written

    def _fail(self, error: OSError) -> None:
        self.failure = storage_error(error)
        self._close()
        try:
            self.path.unlink(missing_ok=True)
        except OSError:
            return  # swept at the next start

    def _close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
