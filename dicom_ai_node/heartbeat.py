"""What is done again and again beside the work: a lease renewed, a row kept fresh."""

import threading
import time
from collections.abc import Callable
from typing import Self

import structlog

from dicom_ai_node.errors import StorageError

_log = structlog.get_logger()


class Heartbeat:
    """Calls ``beat`` every ``seconds`` from a thread of its own, which may wait for the database.

    A beat that fails is made up for by the next one; of failures in a row the first is logged, as
    ``failure``. Used as a context manager it beats until the block ends.
    """

    def __init__(
        self,
        name: str,
        seconds: float,
        beat: Callable[[], None],
        *,
        failure: str,
        at_once: bool = False,
        together: bool = False,
        at_end: Callable[[], None] = lambda: None,
    ) -> None:
        """``at_once``: with a first beat at the start. ``at_end`` is called by the thread.

        ``together``: when the clock shows a multiple of ``seconds``, so that all processes that do
        so wake once whom their beats wake.
        """
        self._seconds = seconds
        self._beat = beat
        self._failure = failure
        self._at_once = at_once
        self._together = together
        self._at_end = at_end
        self._ended = threading.Event()
        self._due = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def hasten(self) -> None:
        """Beat now, and then at its time again."""
        self._due.set()

    def stop(self, timeout: float | None = None) -> None:
        """Beat no more; wait for the thread, at most ``timeout`` seconds."""
        self._ended.set()
        self._due.set()
        self._thread.join(timeout)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def _run(self) -> None:
        failing = False
        wait = 0.0 if self._at_once else self._seconds
        while True:
            self._due.wait(wait)
            self._due.clear()
            if self._ended.is_set():
                break
            try:
                self._beat()
            except StorageError as error:
                if not failing:
                    _log.warning(self._failure, exc_info=error)
                failing = True
            else:
                failing = False
            wait = self._seconds - (time.time() % self._seconds if self._together else 0.0)
        self._at_end()
