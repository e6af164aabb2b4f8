"""What every role's process does around its work."""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from dicom_ai_node.config import Config
from dicom_ai_node.errors import NodeError, StorageError
from dicom_ai_node.heartbeat import Heartbeat
from dicom_ai_node.ops import logs
from dicom_ai_node.ops.process import (
    Orphaned,
    beat_for_supervisor,
    die_with_parent,
    is_supervised,
    say_loaded,
)
from dicom_ai_node.store import Database
from dicom_ai_node.store.node import SLACK, Worker, alive, beat, forget

STOPPED = 0
FAILED = 1
ORPHANED = 3

ROW_SECONDS = 10.0
"""How often a process renews its row, which wakes who waits for a change of the database."""
_ROW_ENDS_WITHIN = 5.0
FRESH_SECONDS = 30.0
"""A row older than this speaks of a process that is gone or stuck."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Place:
    """One process of a whole node."""

    role: str
    """``receive``, ``audit``, ``analyse``, ``deliver``, ``keep`` or ``web``."""
    process: int = 0
    """Counts the receivers from 1; 0 for roles that are there once."""

    @property
    def worker(self) -> str:
        """The name in logs, in the table of workers and in metrics."""
        return f"{self.role}-{self.process}" if self.process else self.role


def places(config: Config) -> tuple[Place, ...]:
    """Return the processes of a whole node, in the order in which they are asked to stop."""
    receivers = (Place("receive", number + 1) for number in range(config.receive.processes))
    once = ("audit", "analyse", "deliver", "keep", "web")
    return (*receivers, *(Place(name) for name in once))


def heard_of(db: Database, *, now: float) -> dict[str, Worker]:
    """Return the processes that gave a sign of life lately, by name."""
    found = alive(db, since=now - FRESH_SECONDS, until=now + SLACK)
    return {worker.name: worker for worker in found}


class Work(Protocol):
    """What a role does."""

    def __call__(self, *, stop: threading.Event) -> None:
        """Do it until ``stop`` is set."""


def run_role(place: Place, config: Config, load: Callable[[], Work]) -> int:
    """Be ``place``: do the work until SIGTERM or SIGINT sets its event; return the exit code.

    ``STOPPED`` (0) when the work ended as asked, ``FAILED`` (1) when it failed or ended by itself,
    ``ORPHANED`` (3) when the supervisor was gone at the start. ``load`` makes the work, and imports
    what is slow to import itself, so that signs of life begin before. It holds nothing that a stop
    could lose.

    Under a supervisor the process ends here: on a busy machine the interpreter takes longer to take
    a network apart than the supervisor waits, and all that matters is closed by now.
    """
    code = _be(place, config, load)
    if is_supervised():
        _exit(code)
    return code


def _exit(code: int) -> None:
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


def _be(place: Place, config: Config, load: Callable[[], Work]) -> int:
    logs.configure(config.log, spool=config.storage.spool, worker=place.worker)
    try:
        die_with_parent()
    except Orphaned as error:
        log.error("orphaned", error=error)
        return ORPHANED
    done = threading.Event()
    beat_for_supervisor(done)
    loaded = threading.Event()
    with stop_on_signals() as stop, _row(place, config, done, loaded) as row:
        try:
            with _ends_at_once(stop, done, row):
                work = load()
            loaded.set()
            row.hasten()
            say_loaded()
            work(stop=stop)
        except NodeError as error:
            log.error("role_failed", exc_info=error)
            return FAILED
        except Exception as error:
            log.critical("role_crashed", exc_info=error)
            return FAILED
        if not stop.is_set():
            log.error("role_ended_unasked")
            return FAILED
    log.info("role_stopped")
    return STOPPED


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM and SIGINT set.

    Set by a thread that the signal's number is written to: a handler would run in the main thread,
    late while that is in native code, and in a deadlock while it waits on the very event.
    """
    stop = threading.Event()
    reading, writing = socket.socketpair()
    writing.setblocking(False)

    def listen() -> None:
        while number := reading.recv(1):
            if number[0] in (signal.SIGTERM, signal.SIGINT):
                stop.set()

    def ignore(_number: int, _frame: Any) -> None:
        """Keep the default action, death, from happening."""

    asked = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, ignore) for number in asked}
    previous = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    listener = threading.Thread(target=listen, name="signals", daemon=True)
    listener.start()
    try:
        yield stop
    finally:
        signal.set_wakeup_fd(previous)
        for number, handler in before.items():
            signal.signal(number, handler)
        writing.close()
        listener.join()
        reading.close()


@contextmanager
def _ends_at_once(stop: threading.Event, done: threading.Event, row: Heartbeat) -> Iterator[None]:
    """Let ``stop`` end a supervised process meanwhile, however long the body still takes."""
    loaded = threading.Event()

    def end() -> None:
        stop.wait()
        if not loaded.is_set():
            done.set()
            row.stop(timeout=_ROW_ENDS_WITHIN)
            log.info("role_stopped")
            _exit(STOPPED)

    if is_supervised():
        threading.Thread(target=end, name="loading", daemon=True).start()
    try:
        yield
    finally:
        loaded.set()


@contextmanager
def _row(
    place: Place, config: Config, done: threading.Event, loaded: threading.Event
) -> Iterator[Heartbeat]:
    """Keep this process's row fresh, which says that it is starting until it is ``loaded``."""
    db = Database(config.storage.database)
    pid = os.getpid()

    def renew() -> None:
        starting = not loaded.is_set()
        beat(db, place.worker, role=place.role, pid=pid, now=time.time(), starting=starting)

    def end() -> None:
        with suppress(StorageError):
            forget(db, place.worker, pid=pid)
        db.close()

    row = Heartbeat(
        "row",
        ROW_SECONDS,
        renew,
        failure="row_not_renewed",
        at_once=True,
        together=True,
        at_end=end,
    )
    row.start()
    try:
        yield row
    finally:
        done.set()
        row.stop(timeout=_ROW_ENDS_WITHIN)
