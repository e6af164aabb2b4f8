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


def test_a_written_file_is_whole_and_nothing_else_is_left(spool: Spool) -> None:
    path = spool.report_path("2.25.123")
    spool.write(path, b"content")
    assert path.read_bytes() == b"content"
    assert list(spool.incoming.iterdir()) == []
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
    assert list(spool.incoming.iterdir()) == []
