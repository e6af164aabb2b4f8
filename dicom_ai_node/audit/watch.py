"""Calls that may hang: into an archive, or into a decoder that has met its file."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

_LOOK_SECONDS = 0.1

_T = TypeVar("_T")


class Stopped(Exception):
    """The process was asked to stop, and the call did not return in time."""


def within(
    seconds: float | None,
    call: Callable[[], _T],
    *,
    stop: threading.Event,
    grace_seconds: float = 0.0,
) -> _T:
    """Return what ``call`` returns, or raise what it raises.

    A call that is given up cannot be ended in Python: its thread lives on, without harm to the end
    of the process, and what it holds must not be used again.

    Parameters
    ----------
    seconds
        Longest duration, None for any.
    stop
        Ends the wait ``grace_seconds`` after it was set.

    Raises
    ------
    TimeoutError
        It took longer than ``seconds``.
    Stopped
        ``stop`` was set.
    """
    outcome: list[_T] = []
    raised: list[BaseException] = []
    done = threading.Event()

    def work() -> None:
        try:
            outcome.append(call())
        except BaseException as error:  # noqa: BLE001
            raised.append(error)
        finally:
            done.set()

    threading.Thread(target=work, name="watched", daemon=True).start()
    began = time.monotonic()
    stopped_at: float | None = None
    while not done.wait(_LOOK_SECONDS):
        now = time.monotonic()
        if seconds is not None and now - began > seconds:
            raise TimeoutError(f"no answer within {seconds:g} s")
        if stop.is_set() and stopped_at is None:
            stopped_at = now
        if stopped_at is not None and now - stopped_at >= grace_seconds:
            raise Stopped
    if raised:
        raise raised[0]
    return outcome[0]
