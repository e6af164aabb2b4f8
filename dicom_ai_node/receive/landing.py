"""Where files arrive in the spool, and how they get their durable names."""

import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from dicom_ai_node.errors import StorageError
from dicom_ai_node.receive.incoming import Incoming, Room
from dicom_ai_node.spool import Spool, sync_folder

_MEGABYTE = 1024 * 1024


class Landing:
    """The spool as one receiver process uses it.

    Files arrive in a folder of this process's own, locked for as long as the process lives: what
    stands in an unlocked folder was never acknowledged, and the next receiver to start sweeps it.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        process: str,
        min_free_mb: int,
        max_object_mb: int = 512,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spool = spool
        self._room = Room(spool.root, min_free_mb=min_free_mb, clock=clock)
        self._largest = max_object_mb * _MEGABYTE
        self._durable_folders: set[Path] = set()
        self._lock = Lock()
        spool.create()
        sync_folder(spool.root)
        self.swept = _sweep(spool.incoming)
        """How many unacknowledged files of receivers that are gone were removed."""
        self._folder, self._claim = _claim_new_folder(spool.incoming, process)

    def begin(self, head: bytes) -> Incoming:
        """Return where an arriving data set goes; ``head`` is what stands before it in the file.

        Never raises: without room, beyond ``receive.max_object_mb``, or on a disk that fails, what
        arrives is read and dropped, and ``failure`` says why.
        """
        path = self._folder / f"{uuid.uuid4().hex}.dcm"
        return Incoming(path, head=head, room=self._room, largest=self._largest)

    def keep(self, incoming: Incoming) -> str:
        """Give a synced file its durable name and return it, relative to the spool.

        The same content has the same name, so that a second copy replaces the first by itself.
        """
        digest = incoming.digest
        folder = self._spool.instances / digest[:2]
        self._make_durable(folder)
        target = folder / f"{digest}.dcm"
        incoming.path.rename(target)
        sync_folder(folder)
        return self._spool.relative(target)

    def has(self, name: str) -> bool:
        """Return whether a durable file is there."""
        return self._spool.path(name).exists()

    def quarantine(self, incoming: Incoming, reason: str) -> tuple[str, bool]:
        """Move a synced file aside with its reason; return its name, and whether it is new there.

        The same content sent again is one file, so that a sender that retries for ever does not
        fill the disk.
        """
        target = self._spool.quarantine / f"{incoming.digest}.dcm"
        is_new = not target.exists()
        incoming.path.rename(target)
        target.with_suffix(".reason.txt").write_text(f"{reason}\n", encoding="utf-8")
        return self._spool.relative(target), is_new

    def close(self) -> None:
        """Remove the folder of this process, with what it has not acknowledged."""
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._claim)

    def _make_durable(self, folder: Path) -> None:
        with self._lock:
            if folder not in self._durable_folders or not folder.is_dir():
                folder.mkdir(exist_ok=True, mode=0o700)
                # Also when it was there: a sibling may have made it and not synced it yet.
                sync_folder(folder.parent)
                self._durable_folders.add(folder)


def _sweep(incoming: Path) -> int:
    with _locked(incoming):
        swept = 0
        for folder in [entry for entry in incoming.iterdir() if entry.is_dir()]:
            claim = _try_claim(folder)
            if claim is not None:
                swept += sum(1 for _ in folder.iterdir())
                shutil.rmtree(folder, ignore_errors=True)
                os.close(claim)
        return swept


def _claim_new_folder(incoming: Path, process: str) -> tuple[Path, int]:
    with _locked(incoming):  # no sweep may come between making and claiming
        folder = incoming / f"{process}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        folder.mkdir(mode=0o700)
        claim = _try_claim(folder)
        if claim is None:
            raise StorageError(f"spool: {folder.name} cannot be locked")
        return folder, claim


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _try_claim(folder: Path) -> int | None:
    """Lock a folder for as long as the returned descriptor is open; None when it is taken.

    The kernel drops the lock with the process, however it ends.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd
