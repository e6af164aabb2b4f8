"""The claim of one node on a PostgreSQL database: an advisory lock of a session."""

import os
import socket
import time

import structlog
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from dicom_ai_node.errors import StorageError

_KEY = 749314
"""One of the database's advisory locks; 749313 is the one of migrations."""
_LOOK_SECONDS = 10.0
_HOLDER = text(
    "SELECT pid, application_name, coalesce(host(client_addr), 'a local socket') FROM pg_locks"
    " JOIN pg_stat_activity USING (pid)"
    " WHERE locktype = 'advisory' AND objid = :key AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)

_log = structlog.get_logger()


class _Taken(StorageError):
    """Another session has the lock: the one with this process id of the server's."""

    def __init__(self, session: int, who: str) -> None:
        super().__init__(
            f"storage.database: in use by another node ({who}); "
            "each node needs a spool and a database of its own"
        )
        self.session = session


class SessionLock:
    """Held from its making to :meth:`close`, and no longer than this process lives.

    The server drops it with the connection.
    """

    def __init__(self, url: URL) -> None:
        """Raise StorageError: another node has it, which is named, or the server cannot be used."""
        name = f"dicom-ai-node {socket.gethostname()[:24]} process {os.getppid()}"
        self._engine = create_engine(
            url, pool_size=1, max_overflow=0, connect_args={"application_name": name}
        )
        self._session: int | None = None
        """The server's name for the one that has the lock, or had it last."""
        try:
            self._connection = self._take()
        except SQLAlchemyError as error:
            self._engine.dispose()
            raise StorageError(f"storage.database: {_first_line(error)}") from error
        except StorageError:
            self._engine.dispose()
            raise

    def close(self) -> None:
        """Give the lock back."""
        self._connection.close()
        self._engine.dispose()

    def watch(self) -> None:
        """Take it again when the server was away; return when another node has it."""
        away = False
        while True:
            time.sleep(_LOOK_SECONDS)
            try:
                if away:
                    self._connection = self._take()
                    _log.info("database_lock_taken_again")
                    away = False
                else:
                    self._connection.exec_driver_sql("SELECT 1")
            except _Taken as error:
                if error.session == self._session:
                    continue  # our own of before, which the server is still ending
                _log.error("database_lock_lost", error=str(error))
                return
            except SQLAlchemyError as error:
                if not away:
                    _log.warning("database_lock_away", error=_first_line(error))
                    self._connection.invalidate()
                    self._connection.close()
                away = True

    def _take(self) -> Connection:
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            # A machine that lost power is noticed within a minute, not after two hours.
            for setting, value in (("idle", 30), ("interval", 10), ("count", 3)):
                connection.exec_driver_sql(f"SET tcp_keepalives_{setting} = {value}")
            if connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({_KEY})").scalar():
                self._session = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
                return connection
            row = connection.execute(_HOLDER, {"key": _KEY}).first()
            raise _Taken(row[0], f"{row[1]} at {row[2]}") if row else _Taken(0, "another session")
        except BaseException:
            connection.close()
            raise


def _first_line(error: Exception) -> str:
    """The first line: further ones of PostgreSQL quote values."""
    return str(getattr(error, "orig", None) or error).partition("\n")[0]
