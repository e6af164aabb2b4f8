"""The connection to SQLite or PostgreSQL, and what differs between them."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from functools import cache
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Executable, Row, Select, Table, literal_column, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from dicom_ai_node.errors import StorageError, StorageFull
from dicom_ai_node.store.engines import file_of, is_broken, server_engine, sqlite_engine
from dicom_ai_node.store.migrate import found_revision, migrate, newest_revision

T = TypeVar("T")
AnyRow = Row[*tuple[Any, ...]]
AnySelect = Select[*tuple[Any, ...]]

_MOMENT = 0.02
_ANNOUNCE = text("SELECT set_config('synchronous_commit', 'off', true), pg_notify(:channel, '')")
_FULL = ("database or disk is full", "disk full", "No space left")


class Database:
    """The node's database.

    SQLite runs in WAL mode with ``synchronous=FULL``: a commit that returned is on the disk.
    """

    def __init__(self, url: str) -> None:
        self.url: URL = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._engine = sqlite_engine(self.url) if self.is_sqlite else server_engine(self.url)
        self.file = file_of(self.url) if self.is_sqlite else None
        """The file of SQLite; None for a server, whose disk is not ours to look at."""
        self._announced: dict[str, float] = {}
        """When each channel was last told of, monotonic."""
        self._suspect = False
        """Whether the database could not be written when that was last tried."""

    @property
    def place(self) -> str:
        """Where the database is, for a person: a file, or a URL without password and options."""
        if self.file is not None:
            return str(self.file)
        return URL.create(
            self.url.drivername,
            username=self.url.username,
            host=self.url.host,
            port=self.url.port,
            database=self.url.database,
        ).render_as_string()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that changes something.

        On SQLite it takes the write lock at once, so that it never fails half-way for a reader
        turned writer.

        Raises StorageFull: no room for the change; StorageError: the database cannot be used.
        """
        if self._suspect:
            self._engine.dispose()  # what was opened since, to read, may be as bad
        try:
            with self._transaction(self._engine, begin="BEGIN IMMEDIATE") as connection:
                yield connection
        except StorageError as error:
            self._suspect = self._suspect or is_broken(error.__cause__)
            raise
        self._suspect = False

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One transaction that changes nothing."""
        with self._transaction(self._engine, begin="BEGIN") as connection:
            yield connection

    def rows(self, query: AnySelect) -> Sequence[AnyRow]:
        """Return what ``query`` finds, in a transaction of its own, as those below."""
        with self.read() as connection:
            return connection.execute(query).all()

    def first(self, query: AnySelect) -> AnyRow | None:
        """Return the first row, None where there is none."""
        with self.read() as connection:
            return connection.execute(query).first()

    def scalars(self, query: Select[T]) -> Sequence[T]:
        """Return the values of a query of one column."""
        with self.read() as connection:
            return connection.scalars(query).all()

    def scalar(self, query: Select[T]) -> T | None:
        """Return the value of the first row, None where there is none."""
        with self.read() as connection:
            return connection.scalar(query)

    def count(self, query: Select[int]) -> int:
        """Return the value of a query that always has one."""
        with self.read() as connection:
            return connection.execute(query).scalar_one()

    def change(self, statement: Executable) -> int:
        """Execute one statement in a transaction of its own; return how many rows it changed."""
        with self.write() as connection:
            return connection.execute(statement).rowcount

    def announce(self, channel: str) -> None:
        """Tell who waits for :class:`.Changes` of the channel that there is some; never fails.

        In a transaction of its own: one that notifies holds up all others until it is on the disk.
        Who was told a moment ago has hardly begun, and looks again before it waits.
        """
        now = time.monotonic()
        if not self.is_sqlite and now - self._announced.get(channel, -1.0) >= _MOMENT:
            self._announced[channel] = now
            engine = self._engine.execution_options(isolation_level="AUTOCOMMIT")
            # Lost, it costs the others the time until they look by themselves.
            with suppress(SQLAlchemyError), engine.connect() as connection:
                connection.execute(_ANNOUNCE, {"channel": channel})

    @property
    def driver_url(self) -> str:
        """Where PostgreSQL is, as psycopg takes it."""
        return self.url.set(drivername="postgresql").render_as_string(hide_password=False)

    def upgrade(self) -> str:
        """Migrate to the newest schema and return its revision.

        Processes that upgrade at the same time wait for each other.
        """
        if self.file is not None:
            self._make(self.file)
        # SQLite alters a table by replacing it, which foreign keys that point to it do not allow.
        engine = sqlite_engine(self.url, foreign_keys=False) if self.is_sqlite else self._engine
        try:
            with self._transaction(engine, begin="BEGIN IMMEDIATE") as connection:
                if not self.is_sqlite:
                    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(749313)")
                migrate(connection, place=self.place)
        finally:
            if engine is not self._engine:
                engine.dispose()
        return newest_revision()

    def revision(self) -> str | None:
        """Return the schema revision found in the database, None when it is empty or not there."""
        if self.file is not None and not self.file.exists():
            return None
        with self.read() as connection:
            return found_revision(connection)

    def check_schema(self) -> None:
        """Raise StorageError unless the schema is the one this program was written for."""
        with self.read() as connection:
            found = found_revision(connection)
        wanted = newest_revision()
        if found != wanted:
            raise StorageError(
                f"database {self.place}: its schema is {found or 'empty'}, expected {wanted}: "
                "run 'dicom-ai-node db upgrade'"
            )

    def tidy(self) -> None:
        """Let SQLite shrink its write-ahead log.

        It keeps no statistics: of indices over what is open they would say that there is nothing,
        or nothing at all, and its plans are to follow from the schema alone.
        """
        if self.is_sqlite:
            # Outside any transaction, where a checkpoint can run.
            with self._transaction(self._engine, begin="") as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self, engine: Engine, *, begin: str) -> Iterator[Connection]:
        """``begin`` is how SQLite begins it, '' for not at all."""
        try:
            with (
                engine.connect().execution_options(sqlite_begin=begin) as connection,
                connection.begin(),
            ):
                yield connection
        except DBAPIError as error:
            if self.file is not None and not self.file.exists():
                raise StorageError(
                    f"no database at {self.place}: 'dicom-ai-node serve' or"
                    " 'dicom-ai-node db upgrade' makes it"
                ) from error
            # The first line: PostgreSQL's further ones (DETAIL) quote the values of the row.
            said = str(error.orig).partition("\n")[0]
            kind = StorageFull if any(sign in said for sign in _FULL) else StorageError
            raise kind(f"database {self.place}: {said}") from error
        except PoolTimeout as error:  # no DBAPIError: all connections wait for a lock
            raise StorageError(f"database {self.place}: no connection became free") from error

    def _make(self, file: Path) -> None:
        """Make an empty file that is for its owner alone; SQLite's others follow its mode.

        One that is there is not opened: closing it would drop the locks that SQLite holds on it
        in this process (POSIX).
        """
        try:
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise StorageError(
                f"database {self.place}: cannot be made: {error.strerror}"
            ) from error


def insert_missing(connection: Connection, table: Table, **values: Any) -> bool:
    """Insert a row unless a key of it is taken; return whether it was inserted."""
    new = _insertion(table, connection.dialect.name)
    return connection.execute(new, values).first() is not None


def upsert(
    connection: Connection,
    table: Table,
    instead: Mapping[str, Any] = MappingProxyType({}),
    **values: Any,
) -> None:
    """Insert a row, or change the one that has its primary key.

    ``instead`` are values that only the change has.
    """
    new = _replacement(table, connection.dialect.name, tuple(values))
    if instead:
        changed = {name: new.excluded[name] for name in values if name not in table.primary_key}
        new = new_row(table, connection.dialect.name).on_conflict_do_update(
            index_elements=list(table.primary_key), set_={**changed, **instead}
        )
    connection.execute(new, values)


def new_row(table: Table, dialect: str) -> Any:
    """Return the insertion of a row, of that dialect; its values are parameters.

    Statements are made once and executed with parameters: to make one of values costs more than
    SQLite takes to execute it.
    """
    # Of the one that is in use: the other is never imported, which takes a while.
    return import_module(f"sqlalchemy.dialects.{dialect}").insert(table)


@cache
def _insertion(table: Table, dialect: str) -> Any:
    return new_row(table, dialect).on_conflict_do_nothing().returning(literal_column("1"))


@cache
def _replacement(table: Table, dialect: str, names: tuple[str, ...]) -> Any:
    new = new_row(table, dialect)
    changed = {name: new.excluded[name] for name in names if name not in table.primary_key}
    return new.on_conflict_do_update(index_elements=list(table.primary_key), set_=changed)


def as_record(cls: type[T], row: AnyRow, **others: Any) -> T:
    """Return a dataclass whose fields are columns of ``row``, but for ``others``."""
    found = {each.name for each in fields(cls)} - others.keys()  # type: ignore[arg-type]
    return cls(**{name: value for name, value in row._mapping.items() if name in found}, **others)
