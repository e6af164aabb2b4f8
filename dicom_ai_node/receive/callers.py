"""Who may connect, and how many at once.

Two things are counted apart. A *silent* connection has not asked for an association yet; it is
never refused, but a new one displaces the oldest beyond the limit, so that sockets that say nothing
keep nobody out. An *association* beyond its limit is rejected with a reason that tells the peer to
come back.
"""

import ipaddress
from collections import Counter
from collections.abc import Hashable
from threading import Lock

from dicom_ai_node.config.processes import ReceiveSettings
from dicom_ai_node.peer.pdus import Rejection
from dicom_ai_node.receive.slots import Address, Slots


def hint(rejection: Rejection) -> str:
    """Return what an administrator who wants the peer in can do, '' where there is nothing."""
    if rejection is Rejection.CALLING_AE_NOT_RECOGNISED:
        return "list it under [[receive.callers]], or set receive.anybody = true"
    if rejection is Rejection.LOCAL_LIMIT_EXCEEDED:
        return "receive.max_associations, receive.max_associations_per_address"
    return ""


class Admission:
    """The door of one receiver process. Safe to use from several threads.

    ``slots`` are shared with the other receivers; without them this process is the only one.
    """

    def __init__(
        self, settings: ReceiveSettings, *, ae_title: str, slots: Slots | None = None
    ) -> None:
        self._settings = settings
        self._ae_title = ae_title.strip()
        self._lock = Lock()
        self._silent: dict[Hashable, Address] = {}  # in order of arrival
        self._admitted: dict[Hashable, int] = {}
        self._slots = slots or Slots.alone(settings.max_associations)

    def arrive(self, connection: Hashable, address: str) -> list[Hashable]:
        """Count a new connection; return the silent ones that must be closed to make room."""
        peer = parse_address(address)
        with self._lock:
            self._silent[connection] = peer
            counts = Counter(self._silent.values())
            displaced: list[Hashable] = []
            if counts[peer] > self._settings.max_associations_per_address:
                displaced.append(next(key for key, at in self._silent.items() if at == peer))
            elif len(self._silent) > self._settings.max_associations:
                displaced.append(next(iter(self._silent)))
            for key in displaced:
                del self._silent[key]
            return displaced

    def admit(
        self, connection: Hashable, address: str, *, calling: str, called: str
    ) -> Rejection | None:
        """Answer an association request: None when it is accepted, and counted from now on."""
        peer = parse_address(address)
        # PS3.8 table 9-11 allows no blank title; it would name the sender of no image.
        if not calling.strip() or not _may_call(self._settings, calling.strip(), peer):
            return Rejection.CALLING_AE_NOT_RECOGNISED
        if self._settings.require_called_ae and called.strip() != self._ae_title:
            return Rejection.CALLED_AE_NOT_RECOGNISED
        with self._lock:
            place = self._slots.take(peer)  # before counting, as every sibling does: never too many
            if place is None:
                return Rejection.LOCAL_LIMIT_EXCEEDED
            if self._slots.count_of(peer) > self._settings.max_associations_per_address:
                self._slots.give_back(place)
                return Rejection.LOCAL_LIMIT_EXCEEDED
            self._silent.pop(connection, None)
            self._admitted[connection] = place
            return None

    def has_its_share(self, address: str) -> bool:
        """Whether the address has as many associations as one address may have."""
        count = self._slots.count_of(parse_address(address))
        return count >= self._settings.max_associations_per_address

    def leave(self, connection: Hashable) -> None:
        """Forget a connection that has ended; harmless when it is not known."""
        with self._lock:
            self._silent.pop(connection, None)
            place = self._admitted.pop(connection, None)
            if place is not None:
                self._slots.give_back(place)


def parse_address(text: str) -> Address:
    """Return the peer's address; IPv4 that arrives on an IPv6 socket is IPv4."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def _may_call(settings: ReceiveSettings, calling: str, peer: Address) -> bool:
    if not settings.callers:
        return settings.anybody or peer.is_loopback
    return any(
        caller.ae_title.strip() == calling
        and (not caller.address or peer in ipaddress.ip_network(caller.address, strict=False))
        for caller in settings.callers
    )
