"""Whether the node is ready, and if not, why: for HTTP and for ``dicom-ai-node status``."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from dicom_ai_node.config import Config
from dicom_ai_node.errors import StorageError
from dicom_ai_node.ops.machine import (
    SpaceLeft,
    bounds_of,
    database_mark,
    database_space,
    megabytes,
    room,
    spool_space,
)
from dicom_ai_node.ops.role import heard_of, places
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database
from dicom_ai_node.store.clock import count_ahead
from dicom_ai_node.store.fills import count_stuck
from dicom_ai_node.store.node import clock_jumps, file_counts, write_probe
from dicom_ai_node.store.queries import overview
from dicom_ai_node.study import OPEN_DELIVERIES, OPEN_STATES, DeliveryState

FRESH_SECONDS = 3.0
"""An answer serves who asks within this long: the checks write."""
PATIENCE_SECONDS = 5.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that has to be in order."""

    name: str
    ok: bool
    text: str
    """One line for a person: what is wrong, or how it stands."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """The answer to 'is the node ready?'."""

    checks: tuple[Check, ...]
    stuck: bool = False
    """Whether the checks do not come to an end."""

    @property
    def ready(self) -> bool:
        """Whether every check passed."""
        return all(check.ok for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"ready": self.ready, "checks": [asdict(check) for check in self.checks]}


def readiness(
    config: Config,
    db: Database,
    *,
    now: float | None = None,
    begin: Callable[[str], None] = lambda _name: None,
) -> Readiness:
    """Check database, spool, their free space and the sign of life of every process.

    Database and spool are written, as the service does. ``files`` and ``queues`` inform and never
    fail: work that waits is no reason to send less. ``begin`` gets the name of each check before
    it is made.
    """
    at = time.time() if now is None else now
    spool = Spool(config.storage.spool)
    checks: dict[str, Callable[[], str]] = {
        "database": lambda: _database(db, at),
        "database_space": lambda: _database_space(db, config),
        "spool": lambda: _writable(spool),
        "space": lambda: _space(spool, config),
        "clock": lambda: _clock(config, db, at),
        "roles": lambda: _roles(config, db, at),
        "files": lambda: _files(db),
        "queues": lambda: _queues(db, at),
    }
    if db.file is None:
        del checks["database_space"]
    found = []
    for name, look in checks.items():
        begin(name)
        found.append(_check(name, look))
    return Readiness(tuple(found))


class _Wrong(Exception):
    """A check failed for the reason in its message."""


def _check(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except (_Wrong, StorageError) as wrong:
        return Check(name, False, str(wrong))
    except OSError as error:
        return Check(name, False, error.strerror or type(error).__name__)


def _database(db: Database, now: float) -> str:
    db.check_schema()
    try:
        write_probe(db, now=now)
    except StorageError as error:
        reason = str(error).removeprefix(f"database {db.place}: ")
        raise _Wrong(f"cannot be written: {reason}") from error
    return "answers and can be written, schema as expected"


def _database_space(db: Database, config: Config) -> str:
    assert db.file is not None
    left = room(db.file)
    text = f"{left} where the database lies"
    if database_space(left, config.storage) is not SpaceLeft.ENOUGH:
        raise _Wrong(f"{text}, wanted are {megabytes(database_mark(left, config.storage))}")
    return text


def _writable(spool: Spool) -> str:
    try:
        spool.probe()
    except OSError as error:
        raise _Wrong(f"{spool.root}: {error.strerror or type(error).__name__}") from error
    return "can be written"


def _space(spool: Spool, config: Config) -> str:
    left = room(spool.root)
    match spool_space(left, config.storage):
        case SpaceLeft.OUT:
            raise _Wrong(f"{left}, images are refused below {config.storage.min_free_mb} MB")
        case SpaceLeft.LOW:
            raise _Wrong(f"{left}, wanted are {config.storage.warn_free_mb} MB")
    return str(left)


def _clock(config: Config, db: Database, now: float) -> str:
    ahead = count_ahead(db, bounds_of(config), now=now)
    if ahead:
        raise _Wrong(f"it went back: {ahead} times in the database lie ahead of it")
    jumps = clock_jumps(db)
    if not jumps.count:
        return "was not set"
    at = datetime.fromtimestamp(jumps.at, UTC).isoformat(" ", "seconds")
    return f"was set {jumps.count} times, last by {jumps.seconds:+.0f} s at {at}"


def _roles(config: Config, db: Database, now: float) -> str:
    fresh = heard_of(db, now=now)
    wanted = [place.worker for place in places(config)]
    silent = [name for name in wanted if name not in fresh]
    if silent:
        raise _Wrong(f"no sign of life from {', '.join(silent)}")
    starting = [name for name in wanted if not fresh[name].started_at]
    text = f"all {len(wanted)} processes are alive"
    return f"{text}, starting: {', '.join(starting)}" if starting else text


def _files(db: Database) -> str:
    found = file_counts(db)
    if not found.at:
        return "not looked through yet"
    counts = {
        "registered again": found.registered,
        "damaged, in quarantine": found.damaged,
        "missing": found.missing,
        "without a row": found.waiting,
    }
    text = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return text or "each has its row, each row its file"


def _queues(db: Database, now: float) -> str:
    seen = overview(db, now=now)
    studies = sum(seen.studies[state] for state in OPEN_STATES)
    by_state: Counter[str] = Counter()
    for (_, state), count in seen.deliveries.items():
        by_state[state] += count
    waiting = sum(by_state[state] for state in OPEN_DELIVERIES)
    dead = by_state[DeliveryState.DEAD]
    text = f"{studies} studies open, {waiting} deliveries waiting, {dead} dead"
    stuck = count_stuck(db)
    return f"{text}, accepted proposals of {stuck} studies not applied" if stuck else text


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
        self._run: Future[Readiness] | None = None
        self._began_at = 0.0
        self._ended_at = float("-inf")
        self._busy_with = ""

    def readiness(self) -> Readiness:
        """Return the newest answer; one that takes longer than ``patience`` is 'not ready'."""
        with self._lock:
            now = time.monotonic()
            run = self._run
            if run is None or (run.done() and now - self._ended_at >= self._fresh):
                run = self._run = Future()
                self._began_at = now
                threading.Thread(target=self._make, args=(run,), name="probe", daemon=True).start()
            began_at = self._began_at
        try:
            return run.result(max(0.0, began_at + self._patience - time.monotonic()))
        except TimeoutError:
            text = f"no answer for {time.monotonic() - began_at:.0f} s"
            return Readiness((Check(self._busy_with or "checks", False, text),), stuck=True)

    def _make(self, run: Future[Readiness]) -> None:
        try:
            found = self._look(self._begin)
        except Exception as error:
            log.exception("checks_failed")
            found = Readiness((Check(self._busy_with, False, type(error).__name__),))
        self._ended_at = time.monotonic()
        run.set_result(found)

    def _begin(self, name: str) -> None:
        self._busy_with = name
