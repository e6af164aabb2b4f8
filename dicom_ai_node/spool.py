"""Files that must survive a power cut: where they lie and how they are written."""

import errno
import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from dicom_ai_node.errors import StorageError, StorageFull

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_PART = ".part"
_PART_SECONDS = 3600.0
_PROBE = ".probe-"
_PROBE_SECONDS = 600.0
_PROBE_CONTENT = b"." * 65536


class Spool:
    """The folder tree of received and made files; see docs/architecture.md."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.incoming = self.root / "incoming"
        self.instances = self.root / "instances"
        self.reports = self.root / "reports"
        self.quarantine = self.root / "quarantine"

    def create(self) -> None:
        """Make the folders that are missing; only this user may look into them."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in (self.incoming, self.instances, self.reports, self.quarantine):
            folder.mkdir(exist_ok=True, mode=0o700)

    def path(self, relative: str) -> Path:
        """Return the file that a database row names."""
        return self.root / relative

    def relative(self, path: Path) -> str:
        """Return how a database row names ``path``."""
        return str(path.relative_to(self.root))

    def report_path(self, sop_instance_uid: str) -> Path:
        """Return where the report with that UID lies."""
        return self.reports / sop_instance_uid[-2:].strip(".") / f"{sop_instance_uid}.dcm"

    def content_path(self, content: bytes) -> Path:
        """Return where a made file lies whose UID does not tell its content."""
        digest = hashlib.sha256(content).hexdigest()
        return self.reports / digest[:2] / f"{digest}.dcm"

    def write(self, path: Path, content: bytes) -> None:
        """Write a file so that it is whole and on the disk when this returns, or not there.

        A file that is there already is kept: its name says what is in it, and it may have been
        sent.

        Raises StorageFull: no room; StorageError: any other failure of the file system.
        """
        temporary = self.reports / f"{uuid4().hex}{_PART}"
        try:
            _write_durably(temporary, content)
            make_folder(path.parent)
            try:
                os.link(temporary, path)
            except FileExistsError:
                os.utime(path)  # in use again: nothing that looks for old files may take it
            sync_folder(path.parent)
        except OSError as error:
            raise storage_error(error) from error
        finally:
            temporary.unlink(missing_ok=True)

    def probe(self) -> None:
        """Write files as receivers and analysers do, and remove them.

        Raises OSError: a folder cannot be written, or nothing be moved from one to the other.
        """
        for folder in (self.incoming, self.instances, self.reports):
            _remove_old(folder, f"{_PROBE}*", _PROBE_SECONDS)  # of a probe that was killed
        name = f"{_PROBE}{uuid4().hex}"
        received = self.incoming / name
        filed, made = self.instances / name, self.reports / name
        try:
            _write_durably(received, _PROBE_CONTENT)
            received.rename(filed)
            sync_folder(self.instances)
            _write_durably(made, _PROBE_CONTENT)
        finally:
            for path in (received, filed, made):
                path.unlink(missing_ok=True)

    def sweep(self) -> int:
        """Remove what writers that were killed have left behind; return how much."""
        return _remove_old(self.reports, f"*{_PART}", _PART_SECONDS)


def _remove_old(folder: Path, pattern: str, seconds: float) -> int:
    """Remove the files that are older; return how many."""
    removed = 0
    for path in folder.glob(pattern):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - seconds:
                path.unlink()
                removed += 1
    return removed


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def make_folder(folder: Path) -> None:
    """Make one folder below an existing one, durably."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make renames into ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def storage_error(error: OSError) -> StorageError:
    """Say what a failed file operation means to the sender."""
    kind = StorageFull if error.errno in _NO_SPACE else StorageError
    return kind(f"spool: {error.strerror or error}")
