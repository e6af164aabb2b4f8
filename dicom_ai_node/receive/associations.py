"""Associations that are sending, as rows: their studies stay open until they end."""

import time
from collections.abc import Callable

import structlog

from dicom_ai_node.errors import StorageError
from dicom_ai_node.heartbeat import Heartbeat
from dicom_ai_node.receive.connection import Connection
from dicom_ai_node.store import Database, instances

_LIFE = 30.0
"""Seconds that a row outlives the last sign of life of its receiver."""
_RENEWAL = 10.0

_log = structlog.get_logger()


class AssociationRows:
    """Opens the row of an association with its first instance, and keeps the open ones alive.

    A receiver that is killed renews nothing any more, so its rows expire by themselves.
    """

    def __init__(self, db: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._db = db
        self._clock = clock
        self._open: set[str] = set()
        self._heart = Heartbeat(
            "association-rows", _RENEWAL, self.renew, failure="associations_not_renewed"
        )
        self._heart.start()

    def ensure(self, connection: Connection) -> None:
        """Write the row unless it is there. Echoes and rejected peers never cost a commit."""
        if connection.has_row:
            return
        now = self._clock()
        instances.open_association(
            self._db,
            connection.key,
            calling_ae=connection.calling_ae,
            address=connection.address,
            now=now,
            alive_until=now + _LIFE,
        )
        connection.has_row = True
        self._open.add(connection.key)

    def end(self, connection: Connection) -> None:
        """Remove the row; when that fails, it expires."""
        if not connection.has_row:
            return
        self._open.discard(connection.key)
        try:
            instances.close_association(self._db, connection.key)
        except StorageError as error:
            _log.warning("association_row_left", error=str(error))

    def renew(self) -> None:
        """Give all open rows another lease of life."""
        instances.keep_associations(self._db, list(self._open), alive_until=self._clock() + _LIFE)

    def close(self) -> None:
        """Stop renewing."""
        self._heart.stop()
