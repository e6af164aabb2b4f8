"""One node a spool and a database: found out before any process starts."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dicom_ai_node.config import Config
from dicom_ai_node.errors import StorageError
from dicom_ai_node.ops.fork import Fork, fork
from dicom_ai_node.ops.process import die_with_parent
from dicom_ai_node.store import Database
from dicom_ai_node.store.session_lock import SessionLock

_DYING_SECONDS = 10.0
"""How long the processes of a supervisor that was killed may take to follow it."""
_HELD = "held"


@dataclass(frozen=True)
class Claim:
    """Spool and database are this node's."""

    locks: tuple[int, ...]
    """Descriptors that the node's processes must keep open.

    A file lock ends with the last process that has it, however that ends, so that a second node
    cannot start while orphans of the first still write.
    """
    session: Fork | None = None
    """The process that holds the lock of a PostgreSQL database."""

    def holds(self) -> bool:
        """Whether no other node can have what is claimed."""
        return self.session is None or self.session.poll() is None


@contextmanager
def claimed(config: Config, db: Database) -> Iterator[Claim]:
    """Hold spool and database for this node.

    On PostgreSQL that is a session's advisory lock, and a process of its own holds it: the one that
    forks the others has neither a connection nor a thread that watches it.

    Raises StorageError: names the key, and the process that holds it.
    """
    spool = config.storage.spool
    locks = [_lock(spool / "node.lock", f"storage.spool = {spool}")]
    session: Fork | None = None
    try:
        if db.file is not None:
            # Beside the file itself, which SQLite locks; one database, by whatever link.
            file = db.file.resolve()
            beside = file.with_name(f"{file.name}.lock")
            locks.append(_lock(beside, f"storage.database = sqlite:///{db.file}"))
        elif not db.is_sqlite:
            session = _session(db)
        yield Claim(tuple(locks), session)
    finally:
        if session is not None:
            session.kill()
            session.wait()
        for descriptor in locks:
            os.close(descriptor)


def _session(db: Database) -> Fork:
    """Return the process that holds the lock, once it does."""
    reading, writing = os.pipe()
    try:
        process = fork("claim", partial(_hold, db, writing), keeps=[writing])
    finally:
        os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        answer = pipe.read()
    if answer != _HELD:
        process.wait()
        raise StorageError(answer or "storage.database: the process that was to lock it ended")
    return process


def _hold(db: Database, writing: int) -> int:
    """Hold the lock until this process is ended, or another node has it."""
    die_with_parent()
    with os.fdopen(writing, "w", encoding="utf-8") as pipe:
        try:
            lock = SessionLock(db.url)
        except StorageError as error:
            pipe.write(str(error))
            return 1
        pipe.write(_HELD)
    lock.watch()
    return 1


def _lock(path: Path, key: str) -> int:
    """Lock ``path`` and write our process id into it; return the descriptor that holds it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(f"{key}: {path}: {error.strerror}") from error
    try:
        _take(descriptor, path, key)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _take(descriptor: int, path: Path, key: str) -> None:
    deadline = time.monotonic() + _DYING_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            holder = _holder(path)
            # A supervisor that is gone takes its processes along; they need a moment.
            if (holder > 0 and _lives(holder)) or time.monotonic() > deadline:
                who = f"process {holder}" if holder else "another process"
                raise StorageError(
                    f"{key}: in use by another node ({who}, which holds {path});"
                    " each node needs a spool and a database of its own"
                ) from None
            time.sleep(0.1)
        except OSError as error:
            raise StorageError(f"{key}: {path} cannot be locked: {error.strerror}") from error


def _holder(path: Path) -> int:
    with suppress(OSError, ValueError):
        return int(path.read_text(encoding="ascii"))
    return 0


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
