"""Waiting for what another thread or process does."""

import socket
import time
from collections.abc import Callable


def wait_until(what: str, condition: Callable[[], object], *, seconds: float = 120.0) -> None:
    """Poll until ``condition`` holds; fail with what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s for {what}")
        time.sleep(0.05)


def wait_for(condition: Callable[[], object], *, seconds: float = 90.0) -> None:
    """Poll until ``condition`` holds; fail when it never does."""
    wait_until("what never came about", condition, seconds=seconds)


def listens(port: int) -> bool:
    """Whether a connection is accepted; pynetdicom leaks a socket for each that is not."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def wait_until_listening(port: int) -> None:
    """Poll until somebody listens on a port of loopback."""
    wait_until(f"somebody to listen on port {port}", lambda: listens(port), seconds=30.0)
