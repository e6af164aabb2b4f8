"""Arriving files: digest, durability, full disks, and what is left behind."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from blake3 import blake3

from dicom_ai_node.errors import StorageError, StorageFull
from dicom_ai_node.receive.incoming import Incoming
from dicom_ai_node.receive.landing import Landing
from dicom_ai_node.spool import Spool

HEAD, DATA = b"head", bytes(range(256)) * 10


def landing(tmp_path: Path, *, process: str = "r0", min_free_mb: int = 0) -> Landing:
    return Landing(Spool(tmp_path / "spool"), process=process, min_free_mb=min_free_mb)


def received(where: Landing, data: bytes = DATA) -> Incoming:
    incoming = where.begin(HEAD)
    for position in range(0, len(data), 1000):
        incoming.write(memoryview(data)[position : position + 1000])
    return incoming


def test_a_kept_file_has_the_name_of_its_data_set(tmp_path: Path) -> None:
    where = landing(tmp_path)
    incoming = received(where)
    incoming.sync()
    name = where.keep(incoming)
    digest = blake3(DATA).hexdigest()
    assert name == f"instances/{digest[:2]}/{digest}.dcm"
    kept = tmp_path / "spool" / name
    assert kept.read_bytes() == HEAD + DATA
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert (incoming.size, incoming.offset) == (len(DATA), len(HEAD))
    assert not incoming.path.exists()


def test_content_then_name_then_folder_become_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, steps = landing(tmp_path), []
    fsync, rename = os.fsync, Path.rename

    def note_fsync(fd: int) -> None:
        steps.append(("fsync", Path(f"/proc/self/fd/{fd}").readlink().name))
        fsync(fd)

    def note_rename(path: Path, target: Path) -> Path:
        steps.append(("rename", target.name))
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "rename", note_rename)
    for made in ([("fsync", "instances")], []):
        incoming = received(where)
        incoming.sync()
        where.keep(incoming)
        digest = incoming.digest
        assert steps == [
            ("fsync", incoming.path.name),
            *made,
            ("rename", f"{digest}.dcm"),
            ("fsync", digest[:2]),
        ]
        steps.clear()


def test_a_discarded_file_leaves_nothing(tmp_path: Path) -> None:
    incoming = received(landing(tmp_path))
    incoming.discard()
    incoming.discard()
    assert not incoming.path.exists()


def test_too_little_room_is_known_before_anything_is_written(tmp_path: Path) -> None:
    where = landing(tmp_path, min_free_mb=10**9)
    incoming = received(where)
    assert not incoming.path.exists()
    assert incoming.size == len(DATA)
    with pytest.raises(StorageFull, match="min_free_mb"):
        incoming.sync()


@pytest.mark.parametrize(
    ("code", "kind"), [(errno.ENOSPC, StorageFull), (errno.EDQUOT, StorageFull), (errno.EIO, None)]
)
def test_a_disk_that_fails_under_way_leaves_no_file_and_no_exception(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception] | None
) -> None:
    incoming = received(landing(tmp_path))

    def fail(_fd: int, _data: memoryview) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "write", fail)
    incoming.write(memoryview(DATA))
    incoming.write(memoryview(DATA))
    assert type(incoming.failure) is (kind or StorageError)
    assert not incoming.path.exists()
    with pytest.raises(StorageError):
        incoming.sync()


def test_a_failing_fsync_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    incoming = received(landing(tmp_path))

    def fail(_fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError):
        incoming.sync()
    assert not incoming.path.exists()


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data[:7])))
    incoming = received(landing(tmp_path))
    assert incoming.path.read_bytes() == HEAD + DATA


def test_a_quarantined_file_has_its_reason_beside_it_and_is_kept_once(tmp_path: Path) -> None:
    where = landing(tmp_path)
    found = []
    for _ in range(2):
        incoming = received(where)
        incoming.sync()
        found.append(where.quarantine(incoming, "no UID"))
    (first, is_new), (second, is_new_again) = found
    assert (first, is_new, is_new_again) == (second, True, False)
    path = tmp_path / "spool" / first
    assert path.read_bytes() == HEAD + DATA
    assert path.with_suffix(".reason.txt").read_text() == "no UID\n"


_LIVING_SIBLING = """
import sys, time
from pathlib import Path
from dicom_ai_node.receive.landing import Landing
from dicom_ai_node.spool import Spool
where = Landing(Spool(Path(sys.argv[1])), process="sibling", min_free_mb=0)
where.begin(b"head")
print("ready", flush=True)
time.sleep(60)
"""


def test_leftovers_are_swept_when_their_receiver_is_gone_and_not_before(tmp_path: Path) -> None:
    sibling = subprocess.Popen(
        [sys.executable, "-c", _LIVING_SIBLING, str(tmp_path / "spool")], stdout=subprocess.PIPE
    )
    assert sibling.stdout is not None
    assert sibling.stdout.readline() == b"ready\n"
    mine = landing(tmp_path)
    received(mine)
    assert mine.swept == 0
    assert len(list((tmp_path / "spool/incoming").rglob("*.dcm"))) == 2
    sibling.kill()
    sibling.communicate()
    other = landing(tmp_path, process="r1")
    assert other.swept == 1
    assert len(list((tmp_path / "spool/incoming").rglob("*.dcm"))) == 1
    other.close()
    mine.close()
    assert list((tmp_path / "spool/incoming").iterdir()) == []
