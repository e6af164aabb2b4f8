"""The line to one destination: an association, opened when needed and kept between batches."""

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from dicom_ai_node.config import Config
from dicom_ai_node.deliver.association import (
    CLASSES_OF_KIND,
    Association,
    Offer,
    connect,
    offers_for,
)
from dicom_ai_node.deliver.send import Sent, offer_of, send, send_copy
from dicom_ai_node.dicom.classes import VERIFICATION
from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.store.deliveries import ClaimedDelivery
from dicom_ai_node.store.reports import COPY, FORWARDED

_AS_IT_LIES = frozenset({COPY, *FORWARDED})
"""Kinds of which the file goes out byte for byte, never in another class or syntax."""
_PER_ASSOCIATION = 200  # some archives file what came when the association ends
_LINGER_SECONDS = 1.0


class Line:
    """Sends to one destination, from one thread."""

    def __init__(self, config: Config, name: str) -> None:
        self._spool: Path = config.storage.spool.absolute()
        self._calling = config.node.ae_title
        self._destination = config.destinations[name]
        self._association: Association | None = None
        self._sent = 0
        self._used_at = 0.0

    def open_for(self, batch: Iterable[ClaimedDelivery]) -> None:
        """Have an association over which ``batch`` can be sent: the open one, or a new one.

        Raises
        ------
        PeerUnavailable
            There is none.
        """
        needed = {offer for claimed in batch for offer in self._offers(claimed)}
        current = self._association
        if current and current.answers_for(needed) and self._sent < _PER_ASSOCIATION:
            return
        self.hang_up()
        usual = [
            offer
            for kind in self._destination.send
            for uid in CLASSES_OF_KIND[kind]
            for offer in offers_for(uid)
        ]
        self._association = connect(
            self._destination,
            # PS3.8 has no association without a presentation context: files that are all bad.
            dict.fromkeys([*usual, *sorted(needed)] or [Offer(VERIFICATION)]),
            calling_ae_title=self._calling,
        )

    def send(self, claimed: ClaimedDelivery, *, preferred: str) -> Sent:
        """Send one object of the batch that the line was opened for.

        ``preferred`` and the errors are those of :func:`.send.send`.
        """
        association = self._association
        assert association is not None
        try:
            if claimed.kind in _AS_IT_LIES:
                return send_copy(association, claimed.files[0], spool=self._spool)
            return send(association, claimed.files, spool=self._spool, preferred=preferred)
        finally:
            self._sent += 1
            self._used_at = time.monotonic()

    def rest(self) -> None:
        """Hang up when nothing was sent for a while."""
        if time.monotonic() - self._used_at > _LINGER_SECONDS:
            self.hang_up()

    def hang_up(self) -> None:
        """Release the association, if there is one."""
        if self._association is not None:
            self._association.release()
        self._association = None
        self._sent = 0

    def _offers(self, claimed: ClaimedDelivery) -> list[Offer]:
        """Return the presentation contexts that a delivery needs; none when its file is bad."""
        if claimed.kind not in _AS_IT_LIES:
            return [offer for file in claimed.files for offer in offers_for(file.sop_class_uid)]
        with suppress(UnreadableInstance):  # said when it is its turn
            return [offer_of(self._spool, file) for file in claimed.files]
        return []
