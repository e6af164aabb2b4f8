"""What every test may use. Data sets are made by builders in the tests themselves."""

import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import structlog

from dicom_ai_node.ops import logs
from dicom_ai_node.store import Database
from tests.builders.databases import opened
from tests.builders.postgres import find_server, fresh_database, running_server

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
REQUIRE_PEERS = os.environ.get("DICOM_AI_NODE_REQUIRE_PEERS") == "1"


_DEATHS = pytest.StashKey[list[str]]()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Note how a worker of xdist died, which itself says only that it did."""
    if error:
        code = node.gateway._io.popen.wait(timeout=10)
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        deaths = node.config.stash.setdefault(_DEATHS, [])
        deaths.append(f"worker {node.gateway.id} ended with {how}")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Of what Python itself sees, such as a segmentation fault, the stacks stand further up."""
    for death in config.stash.get(_DEATHS, []):
        terminalreporter.write_line(death)


@pytest.fixture
def capfd() -> NoReturn:
    """In no test: at its end a thread that logs takes the interpreter down.

    print() of Python 3.11 borrows sys.stdout. Where a thread is in its write to a file, and the
    fixture puts another sys.stdout there, it goes on with an object that is gone. capsys writes to
    memory, within which no other thread runs; structlog's capture_logs prints nothing.
    """
    pytest.fail("not capfd beside threads that log: capsys, or structlog.testing.capture_logs")


@pytest.fixture
def shared_data() -> Path:
    """The folder of real images beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip("no ../shared/data beside this checkout")
    return SHARED_DATA


def lacks(peer: str) -> NoReturn:
    """Skip the test, or fail it where peers are required."""
    if REQUIRE_PEERS:
        pytest.fail(f"{peer} is not installed")
    pytest.skip(f"{peer} is not installed")


def require_tool(name: str) -> str:
    """Return the path of a peer's program."""
    return shutil.which(name) or lacks(name)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch on one thread: very small networks are slower on two, above all beside other work."""
    import torch  # takes seconds, and most tests need none

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a real, empty PostgreSQL server."""
    programs = find_server()
    if programs is None:
        lacks("postgresql")
    with running_server(programs) as url:
        yield url


@pytest.fixture
def sqlite_db(tmp_path: Path) -> Iterator[Database]:
    """An empty SQLite database with the newest schema."""
    database = opened(f"sqlite:///{tmp_path / 'node.db'}")
    yield database
    database.close()


@pytest.fixture
def db(sqlite_db: Database) -> Database:
    """The database of a test that does not ask for another."""
    return sqlite_db


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def any_db(request: pytest.FixtureRequest) -> Iterator[Database]:
    """An empty database with the newest schema: once SQLite, once PostgreSQL."""
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_db")
    else:
        with fresh_database(request.getfixturevalue("postgres")) as database:
            yield database


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def empty_db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without a schema: once SQLite, once PostgreSQL."""
    if request.param == "sqlite":
        (tmp_path / "empty.db").touch()
        database = Database(f"sqlite:///{tmp_path / 'empty.db'}")
        yield database
        database.close()
    else:
        with fresh_database(request.getfixturevalue("postgres"), migrated=False) as database:
            yield database


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Let a test set up logging, which is the process's, and put back what other tests need."""
    names = ["", *(name for name in logs._LEVELS if name)]
    loggers = [logging.getLogger(name or None) for name in names]
    before = [(one.level, one.handlers[:], one.propagate) for one in loggers]
    hooks = (sys.excepthook, threading.excepthook, sys.unraisablehook, logging.raiseExceptions)
    yield
    if not structlog.is_configured():
        return
    for logger, (level, handlers, propagate) in zip(loggers, before, strict=True):
        logger.level, logger.handlers, logger.propagate = level, handlers, propagate
        logger.setLevel(level)
    sys.excepthook, threading.excepthook, sys.unraisablehook, logging.raiseExceptions = hooks
    logging.captureWarnings(False)
    structlog.reset_defaults()
