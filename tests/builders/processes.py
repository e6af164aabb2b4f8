"""Peers that are programs of their own."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def running(*command: object, log: Path) -> Iterator[None]:
    """Run a program, and end it."""
    with log.open("wb") as stream:
        words = list(map(str, command))
        process = subprocess.Popen(words, cwd=log.parent, stdout=stream, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)
