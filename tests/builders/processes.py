"""Peers that are programs of their own."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def running(*command: object, log: Path, env: Mapping[str, str] | None = None) -> Iterator[None]:
    """Run a program in the folder of its log, and end it."""
    words = list(map(str, command))
    with log.open("wb") as stream:
        process = subprocess.Popen(
            words, cwd=log.parent, env=env, stdout=stream, stderr=subprocess.STDOUT
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)
