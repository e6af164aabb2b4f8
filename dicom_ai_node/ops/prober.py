"""Asks whether the node is ready in a thread of its own: what hangs there hangs nobody else."""

import threading
import time
from collections.abc import Callable

import structlog

from dicom_ai_node.ops.health import Check, Readiness

FRESH_SECONDS = 3.0
"""An answer serves who asks within this long: the checks write."""
PATIENCE_SECONDS = 5.0

log = structlog.get_logger()


class Prober:
    """One run of the checks at a time, however many ask.

    ``look`` makes all checks; it names each to its argument before it begins.
    """

    def __init__(
        self,
        look: Callable[[Callable[[str], None]], Readiness],
        *,
        fresh: float = FRESH_SECONDS,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._look = look
        self._fresh = fresh
        self._patience = patience
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._ended.set()
        self._began_at = 0.0
        self._found: Readiness | None = None
        self._found_at = float("-inf")
        self._busy_with = ""

    def readiness(self) -> Readiness:
        """Return the newest answer; one that takes longer than ``patience`` is 'not ready'."""
        with self._lock:
            now = time.monotonic()
            if self._found is not None and now - self._found_at < self._fresh:
                return self._found
            if self._ended.is_set():
                self._ended.clear()
                self._began_at = now
                threading.Thread(target=self._run, name="probe", daemon=True).start()
            began_at, ended = self._began_at, self._ended
        ended.wait(max(0.0, began_at + self._patience - time.monotonic()))
        with self._lock:
            if self._found is not None and self._found_at >= began_at:
                return self._found
            text = f"no answer for {time.monotonic() - began_at:.0f} s"
            return Readiness((Check(self._busy_with or "checks", False, text),), stuck=True)

    def _run(self) -> None:
        found = None
        try:
            found = self._look(self._begin)
        except Exception as error:
            log.exception("checks_failed")
            found = Readiness((Check(self._busy_with, False, type(error).__name__),))
        finally:
            with self._lock:
                self._found, self._found_at = found, time.monotonic()
                self._ended.set()

    def _begin(self, name: str) -> None:
        self._busy_with = name
