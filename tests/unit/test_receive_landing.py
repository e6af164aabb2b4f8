"""Arriving files: digest, durability, full disks, and what is left behind."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from blake3 import blake3

from dicom_ai_node.errors import InstanceTooLarge, StorageError, StorageFull
from dicom_ai_node.receive.incoming import Incoming, Pipe
from dicom_ai_node.receive.landing import Landing
from dicom_ai_node.spool import Spool

HEAD, DATA = b"head", bytes(range(256)) * 10
MEGABYTE = 1024 * 1024


def landing(
    tmp_path: Path, *, process: str = "r0", min_free_mb: int = 0, max_object_mb: int = 512
) -> Landing:
    return Landing(
        Spool(tmp_path / "spool"),
        process=process,
        min_free_mb=min_free_mb,
        max_object_mb=max_object_mb,
    )


class Disk:
    """A file system of a size of its own, on which others write, too."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, free_mb: int, folder: Path) -> None:
        self.free = free_mb * MEGABYTE
        self.looks = 0
        self._folder = folder
        monkeypatch.setattr(os, "statvfs", self._statvfs)

    def left(self) -> int:
        files = [path for path in self._folder.rglob("*") if path.is_file()]
        return self.free - sum(path.stat().st_size for path in files)

    def _statvfs(self, _path: Path) -> SimpleNamespace:
        self.looks += 1
        return SimpleNamespace(f_bavail=max(0, self.left()), f_frsize=1)


def bring(incoming: Incoming, megabytes: int) -> None:
    for _ in range(4 * megabytes):
        incoming.write(memoryview(bytes(MEGABYTE // 4)))


def received(where: Landing, data: bytes = DATA) -> Incoming:
    incoming = where.begin(HEAD)
    for position in range(0, len(data), 1000):
        incoming.write(memoryview(data)[position : position + 1000])
    return incoming


def filled_pipe(data: bytes) -> Pipe:
    pipe = Pipe()
    pipe.waits = os.write(pipe.into, data)
    return pipe


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


def test_what_waits_in_a_pipe_follows_what_was_written(tmp_path: Path) -> None:
    incoming, pipe = received(landing(tmp_path)), filled_pipe(b"from the pipe")
    incoming.take(pipe)
    incoming.write(memoryview(b", and after it"))
    assert pipe.waits == 0
    pipe.close()
    incoming.sync()
    expected = DATA + b"from the pipe, and after it"
    assert incoming.path.read_bytes() == HEAD + expected
    assert incoming.digest == blake3(expected).hexdigest()
    assert incoming.size == len(expected)


def test_a_disk_that_fails_takes_what_waits_out_of_the_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the next bytes of the peer would come behind those of another object."""
    incoming, splice = received(landing(tmp_path)), os.splice

    def fail(out: int, into: int, size: int) -> int:
        if size < 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return splice(out, into, 3)

    monkeypatch.setattr(os, "splice", fail)
    pipe = filled_pipe(b"from the pipe")
    incoming.take(pipe)
    assert type(incoming.failure) is StorageFull
    assert not incoming.path.exists()
    for _ in range(2):
        assert pipe.waits == 0
        os.set_blocking(pipe.out, False)
        with pytest.raises(BlockingIOError):
            os.read(pipe.out, 1)
        pipe.waits = os.write(pipe.into, b"dropped, too")
        incoming.take(pipe)
    pipe.close()


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


def test_room_that_runs_out_under_way_ends_the_file_and_the_mark_stays_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = landing(tmp_path, min_free_mb=40)
    disk = Disk(monkeypatch, free_mb=60, folder=tmp_path)
    incoming, small = where.begin(HEAD), where.begin(HEAD)
    bring(small, 1)
    for _ in range(138):
        bring(incoming, 1)
        assert disk.left() >= 40 * MEGABYTE
    assert isinstance(incoming.failure, StorageFull)
    assert "storage.min_free_mb = 40" in str(incoming.failure)
    assert not incoming.path.exists()
    assert incoming.size == 138 * MEGABYTE
    bring(small, 1)  # the room is there again at once
    small.sync()


def test_arrivals_at_the_same_time_share_the_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = landing(tmp_path, min_free_mb=40)
    disk = Disk(monkeypatch, free_mb=60, folder=tmp_path)
    arriving = [where.begin(HEAD) for _ in range(8)]
    for _ in range(30):
        for incoming in arriving:
            bring(incoming, 1)
        assert disk.left() >= 40 * MEGABYTE
    assert any(incoming.failure for incoming in arriving)


def test_what_others_write_is_seen_within_a_megabyte_where_it_gets_tight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = landing(tmp_path, min_free_mb=40)
    disk = Disk(monkeypatch, free_mb=500, folder=tmp_path)
    incoming = where.begin(HEAD)
    bring(incoming, 5)
    assert incoming.failure is None
    disk.free = 20 * MEGABYTE
    bring(incoming, 2)
    assert isinstance(incoming.failure, StorageFull)


def test_with_plenty_of_room_the_file_system_is_hardly_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = Landing(Spool(tmp_path / "s"), process="r", min_free_mb=40, clock=lambda: 1.0)
    disk = Disk(monkeypatch, free_mb=10_000, folder=tmp_path)
    bring(where.begin(HEAD), 20)
    assert disk.looks == 1


def test_a_data_set_that_is_too_large_is_dropped_to_its_end(tmp_path: Path) -> None:
    incoming = landing(tmp_path, max_object_mb=2).begin(HEAD)
    bring(incoming, 2)
    assert incoming.failure is None
    bring(incoming, 1)
    assert not incoming.path.exists()
    assert not incoming.is_absurd
    with pytest.raises(InstanceTooLarge, match="max_object_mb = 2"):
        incoming.sync()
    bring(incoming, 2)
    assert incoming.is_absurd
