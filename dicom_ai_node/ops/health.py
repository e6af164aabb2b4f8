"""Whether the node is ready, and if not, why: for HTTP and for ``dicom-ai-node status``."""

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dicom_ai_node.config import Config
from dicom_ai_node.errors import StorageError
from dicom_ai_node.ops.disk import MEGABYTE, Space, free_bytes, space
from dicom_ai_node.ops.role import FRESH_SECONDS, places
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database
from dicom_ai_node.store.overview import OPEN_STATES, overview
from dicom_ai_node.store.stuck_fills import count_stuck
from dicom_ai_node.store.workers import alive


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

    @property
    def ready(self) -> bool:
        """Whether every check passed."""
        return all(check.ok for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"ready": self.ready, "checks": [asdict(check) for check in self.checks]}


def readiness(config: Config, db: Database, *, now: float | None = None) -> Readiness:
    """Check database, spool, free space and the sign of life of every process.

    ``queues`` informs and never fails: work that waits is no reason to send less.
    """
    at = time.time() if now is None else now
    spool = Spool(config.storage.spool)
    return Readiness(
        (
            _check("database", lambda: _database(db)),
            _check("spool", lambda: _writable(spool)),
            _check("space", lambda: _space(spool, config)),
            _check("roles", lambda: _roles(config, db, at)),
            _check("queues", lambda: _queues(db, at)),
        )
    )


class _Wrong(Exception):
    """A check failed for the reason in its message."""


def _check(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except (_Wrong, StorageError) as wrong:
        return Check(name, False, str(wrong))
    except OSError as error:
        return Check(name, False, error.strerror or type(error).__name__)


def _database(db: Database) -> str:
    db.check_schema()
    return "answers, schema as expected"


def _writable(spool: Spool) -> str:
    """Write and remove a file where receivers write: a full or read-only disk shows here."""
    probe: Path = spool.incoming / f".probe-{os.getpid()}"
    try:
        probe.write_bytes(b".")
    except OSError as error:
        raise _Wrong(f"{spool.root}: {error.strerror or type(error).__name__}") from error
    finally:
        probe.unlink(missing_ok=True)
    return "can be written"


def _space(spool: Spool, config: Config) -> str:
    free = free_bytes(spool.root)
    text = f"{free // MEGABYTE} MB free"
    match space(free, config.storage):
        case Space.OUT:
            raise _Wrong(f"{text}, images are refused below {config.storage.min_free_mb} MB")
        case Space.LOW:
            raise _Wrong(f"{text}, wanted are {config.storage.warn_free_mb} MB")
    return text


def _roles(config: Config, db: Database, now: float) -> str:
    fresh = {worker.name for worker in alive(db, since=now - FRESH_SECONDS)}
    wanted = [place.worker for place in places(config)]
    silent = [name for name in wanted if name not in fresh]
    if silent:
        raise _Wrong(f"no sign of life from {', '.join(silent)}")
    return f"all {len(wanted)} processes are alive"


def _queues(db: Database, now: float) -> str:
    seen = overview(db, now=now)
    studies = sum(seen.studies[state] for state in OPEN_STATES)
    by_state: dict[str, int] = {}
    for (_, state), count in seen.deliveries.items():
        by_state[state] = by_state.get(state, 0) + count
    waiting = by_state.get("queued", 0) + by_state.get("sending", 0)
    text = f"{studies} studies open, {waiting} deliveries waiting, {by_state.get('dead', 0)} dead"
    stuck = count_stuck(db)
    return f"{text}, accepted proposals of {stuck} studies not applied" if stuck else text
