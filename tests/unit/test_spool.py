import errno
import os
from pathlib import Path
from typing import NoReturn

import pytest

from dicom_ai_node.errors import StorageError, StorageFull
from dicom_ai_node.spool import Spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool")
    spool.create()
    return spool


def parts(spool: Spool) -> list[Path]:
    return list(spool.root.rglob("*.part"))


def test_what_a_killed_writer_left_is_swept_when_it_is_old(spool: Spool) -> None:
    old, new = spool.reports / "a.part", spool.reports / "b.part"
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    assert spool.sweep() == 1
    assert parts(spool) == [new]


def test_a_written_file_is_whole_and_nothing_else_is_left(spool: Spool) -> None:
    path = spool.report_path("2.25.123")
    spool.write(path, b"content")
    assert path.read_bytes() == b"content"
    assert parts(spool) == []
    assert spool.path(spool.relative(path)) == path


def test_the_first_writer_wins(spool: Spool) -> None:
    path = spool.report_path("2.25.123")
    spool.write(path, b"first")
    spool.write(path, b"second")
    assert path.read_bytes() == b"first"


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, StorageFull), (errno.EIO, StorageError)]
)
def test_a_failing_disk_is_an_error_and_leaves_no_part(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[StorageError]
) -> None:
    def fail(_descriptor: int) -> NoReturn:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    path = spool.report_path("2.25.123")
    with pytest.raises(kind):
        spool.write(path, b"content")
    assert not path.exists()
    assert parts(spool) == []
