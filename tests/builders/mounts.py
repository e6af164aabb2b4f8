"""Small file systems that can really be full, out of inodes, or read-only."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, *, megabytes: int = 8, inodes: int = 0) -> Iterator[Path]:
    """Mount an empty file system of that size at ``folder``; skip where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={megabytes}m" + (f",nr_inodes={inodes}" if inodes else "")
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, option: str) -> None:
    """Turn a mounted file system read-only (``ro``), or writable again (``rw``)."""
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take all bytes that are left; return the file that has them."""
    path = folder / "filler"
    handle = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        while os.write(handle, b"x" * 4096):
            pass
    except OSError:
        return path
    finally:
        os.close(handle)
    raise AssertionError("never full")


def use_up_inodes(folder: Path) -> None:
    """Make files until no more can be made."""
    try:
        for number in range(10**6):
            (folder / f"empty-{number}").touch()
    except OSError:
        return
    raise AssertionError("never full")
