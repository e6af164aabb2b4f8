"""Engines for SQLite and PostgreSQL, whose connections are dropped when they are of no more use.

A connection remembers how the database was when it was opened: SQLite falls back to reading when
the file cannot be written, and PostgreSQL's sessions keep the role of a server that fails over.
So every connection of the pool is dropped after an error that speaks of more than the statement,
and a process recovers as soon as the database does.
"""

import sqlite3
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.exc import DisconnectionError

_BUSY_SECONDS = 10  # less than senders wait for an answer
_LOOK_AGAIN_SECONDS = 0.0005

_SQLITE_BROKEN = frozenset({8, 10, 11, 14, 26})
"""Primary result codes: READONLY, IOERR, CORRUPT, CANTOPEN, NOTADB."""
_POSTGRES_BROKEN = ("08", "25006", "57P", "58")
"""Beginnings of SQLSTATE: connection exceptions, a read-only transaction, the operator's
interventions (shutdown, crash, not yet started), errors of the server's system."""
_POSTGRES_PATIENCE = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
"""A server that vanished is noticed in half a minute, not after the kernel's two hours."""


def server_engine(url: URL) -> Engine:
    """Return the engine for PostgreSQL; what ``url`` says of the connection comes first."""
    patience = {key: value for key, value in _POSTGRES_PATIENCE.items() if key not in url.query}
    engine = create_engine(url, connect_args=patience, pool_pre_ping=True, pool_size=5)
    event.listen(engine, "handle_error", _drop_connections)
    return engine


def file_of(url: URL) -> Path | None:
    """Return the file of a SQLite database, None of one in memory or one named by a URI."""
    name = url.database or ""
    return None if name in ("", ":memory:") or name.startswith("file:") else Path(name)


def sqlite_engine(url: URL, *, foreign_keys: bool = True) -> Engine:
    """Return the engine for SQLite, which makes no file that is missing."""
    file = file_of(url)
    options: dict[str, Any] = {"timeout": _BUSY_SECONDS, "check_same_thread": False}
    if file is None:
        engine = create_engine(url, connect_args=options)
    else:
        # SQLite would make a file that is missing, of any user who only looks.
        name = f"file:{quote(str(file.absolute()))}?mode=rw"
        engine = create_engine(url, creator=lambda: sqlite3.connect(name, uri=True, **options))
        _watch_file(engine, file)
    event.listen(engine, "handle_error", _drop_connections)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the begin event below decides, not the driver
        switch = f"foreign_keys={'ON' if foreign_keys else 'OFF'}"
        for pragma in ("journal_mode=WAL", "synchronous=FULL", switch):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        begin = connection.get_execution_options().get("sqlite_begin", "BEGIN IMMEDIATE")
        if begin == "BEGIN IMMEDIATE":
            _begin_to_write(connection)
        elif begin:
            connection.exec_driver_sql(begin)

    return engine


def _begin_to_write(connection: Connection) -> None:
    """Begin as soon as nobody else writes.

    SQLite itself waits longer from look to look, up to 100 ms; whoever writes in short turns, one
    after the other, would keep out another process for seconds.
    """
    driver: Any = connection.connection.dbapi_connection
    driver.execute("PRAGMA busy_timeout=0")
    try:
        give_up_at = time.monotonic() + _BUSY_SECONDS
        while time.monotonic() < give_up_at:
            try:
                driver.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    break
                time.sleep(_LOOK_AGAIN_SECONDS)
            else:
                return
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # an error of it is told
    finally:
        driver.execute(f"PRAGMA busy_timeout={int(1000 * _BUSY_SECONDS)}")


def is_broken(error: BaseException | None) -> bool:
    """Return whether an error says that its connection, or all of them, are of no more use."""
    error = getattr(error, "orig", error)  # what SQLAlchemy wraps
    sqlite_code = getattr(error, "sqlite_errorcode", None)
    if sqlite_code is not None:
        return sqlite_code & 0xFF in _SQLITE_BROKEN
    return (getattr(error, "sqlstate", None) or "").startswith(_POSTGRES_BROKEN)


def _drop_connections(context: ExceptionContext) -> None:
    if is_broken(context.original_exception):
        context.is_disconnect = True  # the pool lets go of all that it has


def _watch_file(engine: Engine, file: Path) -> None:
    """Open the file by its name again when another one lies there: a backup that was restored."""

    @event.listens_for(engine, "connect")
    def _opened(_connection: Any, record: Any) -> None:
        record.info["file"] = identity_of(file)

    @event.listens_for(engine, "checkout")
    def _still_there(_connection: Any, record: Any, _proxy: Any) -> None:
        if record.info.get("file") != identity_of(file):
            raise DisconnectionError("another database file lies there")


def identity_of(file: Path | None) -> tuple[int, int] | None:
    """Return what tells a file from another under its name, None where there is none."""
    if file is None:
        return None
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
