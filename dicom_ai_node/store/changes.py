"""Waiting for work without asking again and again whether there is any.

SQLite says by a counter whether anybody has committed anything, which costs some microseconds to
read. PostgreSQL sends who listens a notification. Either may be missed, such as while a server
restarts or a backup is restored: work is looked for all the same once the longest wait is over.
"""

import sqlite3
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from dicom_ai_node.store.database import Database
from dicom_ai_node.store.engines import identity_of

if TYPE_CHECKING:
    from psycopg import Connection

_SHORTEST, _LONGEST = 0.05, 0.25
"""Seconds between two looks at SQLite's counter."""
_LOOKS = 20
"""Looks within as long as there has been no work: who has just worked looks often."""
_SLICE = 0.25
"""Seconds after which a listener sees that it is to stop."""


class Changes:
    """What one thread waits for; each has its own."""

    def __init__(self, db: Database, channel: str) -> None:
        """``channel`` is what :meth:`.Database.announce` names; SQLite tells of all changes."""
        self._waiter = _Counter(db) if db.is_sqlite else _Listener(db, channel)

    def wait(self, stop: threading.Event, seconds: float) -> None:
        """Wait until something may have changed since the last call, ``seconds`` at most."""
        self._waiter.wait(stop, seconds)

    def close(self) -> None:
        """Give up the connection."""
        self._waiter.close()


class _Counter:
    def __init__(self, db: Database) -> None:
        self._file = db.file
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None
        self._seen: int | None = None
        self._idle_since = time.monotonic()

    def wait(self, stop: threading.Event, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until and not stop.is_set():
            if (found := self._count()) != self._seen:
                self._seen, self._idle_since = found, now
                return
            idle = (now - self._idle_since) / _LOOKS
            stop.wait(min(max(idle, _SHORTEST), _LONGEST, until - now))

    def _count(self) -> int | None:
        """Return SQLite's counter of the commits of others, None where it cannot be read."""
        try:
            if self._connection is None or self._opened != identity_of(self._file):
                self._open()
            assert self._connection is not None
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error:  # whoever works says what is wrong with it
            self.close()
            return None

    def _open(self) -> None:
        self.close()
        name = f"file:{quote(str(self._file.absolute()))}?mode=ro" if self._file else ":memory:"
        self._opened = identity_of(self._file)
        self._connection = sqlite3.connect(name, uri=True, check_same_thread=False)
        self._seen = None  # of another connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Listener:
    def __init__(self, db: Database, channel: str) -> None:
        self._db = db
        self._channel = channel
        self._connection: Connection | None = None

    def wait(self, stop: threading.Event, seconds: float) -> None:
        import psycopg  # not for a node with SQLite

        until = time.monotonic() + seconds
        try:
            if self._connection is None:
                self._connection = self._listen()
                return  # what was announced before nobody has told
            while (left := until - time.monotonic()) > 0 and not stop.is_set():
                found = self._connection.notifies(timeout=min(left, _SLICE), stop_after=1)
                if list(found):
                    return
        except psycopg.Error:  # whoever works says what is wrong with it
            self.close()
            stop.wait(max(0.0, until - time.monotonic()))

    def _listen(self) -> "Connection":
        import psycopg

        connection = psycopg.connect(self._db.driver_url, autocommit=True)
        connection.execute(f'LISTEN "{self._channel}"')
        return connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
