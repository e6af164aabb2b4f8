"""One role as its supervisor sees it: a process, its signs of life, its restarts."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from dicom_ai_node.backoff import Backoff
from dicom_ai_node.ops.fork import Fork, fork
from dicom_ai_node.ops.process import BEAT_VARIABLE, LOADED

_WHILE_LOADING = 5

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Role:
    """A process to keep running."""

    name: str
    """``receive-1``, ``analyse``, ...; unique."""
    work: Callable[[], int]
    """What the process does; returns the exit code."""
    inherits: Mapping[str, int] = field(default_factory=dict)
    """Open descriptors, by the variable of the environment that tells the process their number."""
    holds: Sequence[int] = ()
    """Open descriptors that it only keeps open, for the locks on them."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a supervisor waits for what. Seconds."""

    restart: Backoff
    """The pause before a restart."""
    stop: float
    """After SIGTERM, then SIGKILL."""
    silent: float
    """Without a sign of life, then SIGKILL and a restart. A process that loads what it needs may be
    silent ``_WHILE_LOADING`` times as long: a library that comes from a slow disk holds all its
    threads up."""
    healthy: float = 60.0
    """A process that lived this long ends the row of failures."""


class Child:
    """A process that is started again whenever it ends. Times are of the monotonic clock."""

    def __init__(self, role: Role, patience: Patience) -> None:
        self.name = role.name
        self.failures = 0
        """Ends in a row, each before it had lived for ``patience.healthy``."""
        self.has_beaten = False
        """Whether the present process has shown a sign of life."""
        self.has_loaded = False
        """Whether it has begun to work."""
        self._role = role
        self._patience = patience
        self._process: Fork | None = None
        self._pipe = -1
        self._started_at = 0.0
        self._beat_at = 0.0
        self._start_at = 0.0

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process else None

    @property
    def is_starting(self) -> bool:
        """Whether it is alive and does not work yet."""
        return self.is_alive and not self.has_loaded

    @property
    def is_alive(self) -> bool:
        """Whether it runs and has shown a sign of life."""
        return self._process is not None and self.has_beaten

    def tend(self, now: float) -> None:
        """Start it when its pause is over, notice its end, kill it when it is silent."""
        if self._process is None:
            if now >= self._start_at:
                self._start(now)
            return
        self._read_beats(now)
        code = self._process.poll()
        if code is not None:
            self._ended(code, now)
        elif now - self._beat_at > self._patience.silent * (
            1 if self.has_loaded else _WHILE_LOADING
        ):
            log.error("role_silent", role=self.name, seconds=round(now - self._beat_at, 1))
            self.kill()
            self._beat_at = now  # to see its end takes a moment; say so once

    def terminate(self) -> None:
        """Ask it to finish."""
        if self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        """End it, and what it started, at once."""
        if self._process is not None:
            self._process.kill()

    def has_ended(self) -> bool:
        """Return whether no process is left, without starting another."""
        return self._process is None or self._process.poll() is not None

    def close(self) -> None:
        """Wait for the ended process and let go of its pipe."""
        if self._process is not None:
            code = self._process.wait()
            log.info("role_ended", role=self.name, code=code)
        self._forget()

    def _start(self, now: float) -> None:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        inherited = self._role.inherits
        try:
            self._process = fork(
                self.name,
                self._role.work,
                variables={
                    BEAT_VARIABLE: str(writing),
                    **{name: str(descriptor) for name, descriptor in inherited.items()},
                },
                keeps=(writing, *inherited.values(), *self._role.holds),
            )
        except OSError as error:
            os.close(reading)
            self.failures += 1
            self._start_at = now + self._patience.restart.seconds(self.failures)
            log.error("role_not_started", role=self.name, error=error)
            return
        finally:
            os.close(writing)
        self._pipe = reading
        self._started_at = self._beat_at = now
        log.info("role_started", role=self.name, pid=self._process.pid)

    def _read_beats(self, now: float) -> None:
        with suppress(BlockingIOError):
            if signs := os.read(self._pipe, 4096):
                self._beat_at = now
                self.has_beaten = True
                self.has_loaded = self.has_loaded or LOADED in signs

    def _ended(self, code: int, now: float) -> None:
        lived = now - self._started_at
        self.failures = 1 if lived >= self._patience.healthy else self.failures + 1
        pause = self._patience.restart.seconds(self.failures)
        self._start_at = now + pause
        seconds = {"lived_seconds": round(lived, 1), "restart_seconds": round(pause, 2)}
        log.error("role_died", role=self.name, code=code, **seconds)
        self._forget()

    def _forget(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
        self._pipe = -1
        self._process = None
        self.has_beaten = self.has_loaded = False
