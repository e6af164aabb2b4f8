"""How the images of a study come from a PACS: C-GET, C-MOVE to this audit, C-MOVE to the node."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pynetdicom import build_context, evt

from dicom_ai_node.audit.sources import BrokenOff, Fetched, Listed, cfind
from dicom_ai_node.audit.sources.remote import Image
from dicom_ai_node.audit.sources.temporary_scp import IncomingFiles, TemporaryScp, settle
from dicom_ai_node.config.peers import PacsTable
from dicom_ai_node.dicom.classes import ANALYSABLE, GET, MOVE, SECTIONS
from dicom_ai_node.dicom.syntaxes import ACCEPTED_SYNTAXES, OFFERED_SYNTAXES
from dicom_ai_node.errors import PeerRefused, PeerUnavailable
from dicom_ai_node.peer.exchange import Exchange, RetrieveOutcome
from dicom_ai_node.rules import TextHeader

_MOST_CLASSES = 127 // len(ACCEPTED_SYNTAXES)
"""A presentation context ID is odd and below 256 (PS3.8 9.3.2.2), and C-GET needs one itself."""
_POLL = 0.1

_Asked = tuple[list[RetrieveOutcome], PeerUnavailable | None]
"""How each request ended, or what kept them from it."""


@dataclass(frozen=True, slots=True)
class Series:
    """One series of wanted images."""

    uid: str
    header: TextHeader
    count: int | None
    images: tuple[Image, ...]
    """Empty where the peer lists none, which it need not."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """The wanted part of a study."""

    series: tuple[Series, ...]
    """Empty, too, where the peer answers no query of series."""
    all_wanted: bool
    """Whether the study has no other series, as far as the peer says."""
    count: int | None
    """Instances that the peer says there are; None when it does not."""

    @property
    def images(self) -> tuple[Image, ...]:
        """The wanted images of all series."""
        return tuple(image for series in self.series for image in series.images)

    @property
    def sop_uids(self) -> frozenset[str]:
        """Those of the images; empty unless every series had its images listed."""
        if not all(series.images for series in self.series):
            return frozenset()
        return frozenset(image.sop_uid for image in self.images)

    @property
    def headers(self) -> tuple[TextHeader, ...]:
        """The header of each image, of each series where no images were listed."""
        return tuple(
            header
            for series in self.series
            for header in ([image.header for image in series.images] or [series.header])
        )


class PacsAssociation:
    """An association with a PACS: opened when it is needed, and anew when it was lost."""

    def __init__(self, table: PacsTable, service: str, *, calling_ae_title: str) -> None:
        self._table = table
        self._service = service
        self._calling_ae_title = calling_ae_title
        self._exchange: Exchange | None = None

    def exchange(
        self, classes: tuple[str, ...] = (), store: Callable[[Any], int | Dataset] | None = None
    ) -> Exchange:
        """Return it, with presentation contexts for ``store`` to take these storage classes."""
        current = self._exchange
        if current is not None and current.alive and set(classes) <= current.proposed:
            return current
        self.release()
        # One context for each syntax: of several in one the peer would choose a single one, and
        # have to transcode, or to leave out, what it keeps in another.
        storage = [build_context(uid, syntax) for uid in classes for syntax in ACCEPTED_SYNTAXES]
        self._exchange = Exchange.open(
            self._table,
            [build_context(self._service, list(OFFERED_SYNTAXES)), *storage],
            calling_ae_title=self._calling_ae_title,
            scp_classes=classes,
            handlers=[(evt.EVT_C_STORE, store)] if store else [],
        )
        return self._exchange

    def release(self) -> None:
        """Release it."""
        if self._exchange is not None:
            self._exchange.release()
            self._exchange = None


class Retrieval(ABC):
    """A way in which images come."""

    def __init__(self, table: PacsTable, service: str, *, calling_ae_title: str) -> None:
        self._connection = PacsAssociation(table, service, calling_ae_title=calling_ae_title)

    @abstractmethod
    def fetch(self, listed: Listed, inventory: Inventory, folder: Path) -> Fetched:
        """Bring the images of a study; errors of :meth:`Exchange.find`."""

    def close(self) -> None:
        """Give back connections."""
        self._connection.release()


class Get(Retrieval):
    """C-GET: the images come on the association that asks for them."""

    def __init__(
        self, table: PacsTable, *, calling_ae_title: str, modalities: Collection[str]
    ) -> None:
        super().__init__(table, GET, calling_ae_title=calling_ae_title)
        self._modalities = modalities
        self._incoming = IncomingFiles()

    def fetch(self, listed: Listed, inventory: Inventory, folder: Path) -> Fetched:
        """Ask for the study, or for its wanted series one after the other."""
        incoming = self._incoming
        exchange = self._connection.exchange(_classes(inventory, self._modalities), incoming)
        with incoming.into(folder, inventory.sop_uids):
            asked = _tried(lambda: [exchange.get(query) for query in _queries(listed, inventory)])
        return _settled(incoming.files, listed, inventory, asked, incoming.unexpected)


class Move(Retrieval):
    """C-MOVE: the PACS opens an association of its own to ``destination``."""

    def __init__(self, table: PacsTable, *, calling_ae_title: str) -> None:
        super().__init__(table, MOVE, calling_ae_title=calling_ae_title)
        self._table = table
        self._destination = table.move_ae_title or calling_ae_title

    def _move(
        self,
        listed: Listed,
        inventory: Inventory,
        arrived: Callable[[], int],
        last_arrival: Callable[[], float],
    ) -> _Asked:
        """Have everything sent, and wait for what the peer says it sent."""
        exchange = self._connection.exchange()
        ends, lost = _tried(
            lambda: [
                exchange.move(query, self._destination, last_arrival=last_arrival)
                for query in _queries(listed, inventory)
            ]
        )
        # Some answer as soon as they have put the study into a queue of theirs.
        start = time.monotonic()
        expected = inventory.count or 0
        failed = sum(end.failed for end in ends)
        over = lost is not None or any(end.refused for end in ends)
        while not over and arrived() + failed < expected:
            if time.monotonic() - max(start, last_arrival()) >= self._table.timeout:
                break
            time.sleep(_POLL)
        return ends, lost


class MoveHere(Move):
    """C-MOVE to an SCP that the audit itself opens."""

    def __init__(self, table: PacsTable, *, calling_ae_title: str) -> None:
        super().__init__(table, calling_ae_title=calling_ae_title)
        self._incoming = IncomingFiles()
        self._scp: TemporaryScp | None = None

    def fetch(self, listed: Listed, inventory: Inventory, folder: Path) -> Fetched:
        """Listen, and have the study sent."""
        incoming = self._incoming
        if self._scp is None:
            self._scp = TemporaryScp(self._table, incoming, ae_title=self._destination)
        with incoming.into(folder, inventory.sop_uids):
            asked = self._move(
                listed, inventory, lambda: len(incoming.files), lambda: incoming.last_arrival
            )
        return _settled(incoming.files, listed, inventory, asked, incoming.unexpected)

    def close(self) -> None:
        """Stop listening."""
        super().close()
        if self._scp is not None:
            self._scp.close()
            self._scp = None


class MoveToNode(Move):
    """C-MOVE to the running node, which receives and files the images as any others."""

    def __init__(
        self,
        table: PacsTable,
        *,
        calling_ae_title: str,
        held: Callable[[str], Mapping[str, Path]],
    ) -> None:
        super().__init__(table, calling_ae_title=calling_ae_title)
        self._held = held

    def fetch(self, listed: Listed, inventory: Inventory, folder: Path) -> Fetched:
        """Have the study sent; its files are those of the spool. ``folder`` stays empty."""
        count, changed = 0, 0.0

        def arrived() -> int:
            nonlocal count, changed
            found = len(self._held(listed.key))
            if found != count:
                count, changed = found, time.monotonic()
            return found

        def last_arrival() -> float:
            arrived()
            return changed

        asked = self._move(listed, inventory, arrived, last_arrival)
        wanted, held = inventory.sop_uids, self._held(listed.key)
        files = {uid: path for uid, path in held.items() if not wanted or uid in wanted}
        return _settled(files, listed, inventory, asked)


def _tried(ask: Callable[[], list[RetrieveOutcome]]) -> _Asked:
    try:
        return ask(), None
    except PeerUnavailable as error:
        return [], error


def _queries(listed: Listed, inventory: Inventory) -> Iterable[Dataset]:
    """What is asked for: the study, or its wanted series where it has others."""
    if inventory.all_wanted:
        yield cfind.query("STUDY", (), StudyInstanceUID=listed.key)
        return
    for series in inventory.series:
        yield cfind.query("SERIES", (), StudyInstanceUID=listed.key, SeriesInstanceUID=series.uid)


def _classes(inventory: Inventory, modalities: Collection[str]) -> tuple[str, ...]:
    """Return the storage classes to propose: radiographs and captures, and what is listed.

    Then those of sections, where such are wanted: not every archive lists images. There is room for
    few, so what is not wanted comes last.
    """
    films = sorted(map(str, ANALYSABLE))
    listed = sorted({image.sop_class_uid for image in inventory.images} - {"", *films})
    sections: list[str] = []
    if {"CT", "MR"} & set(modalities):
        sections = sorted(map(str, SECTIONS), key=lambda uid: (len(uid), uid))  # classic ones first
    only_sections = set(modalities) <= {"CT", "MR"}
    wanted = (*listed, *sections, *films) if only_sections else (*films, *listed, *sections)
    return tuple(dict.fromkeys(wanted))[:_MOST_CLASSES]


def _settled(
    files: Mapping[str, Path],
    listed: Listed,
    inventory: Inventory,
    asked: _Asked,
    unexpected: Iterable[str] = (),
) -> Fetched:
    """Return what came; raise what kept the rest from it."""
    ends, lost = asked
    bad = [end for end in ends if end.status or end.failed]
    if not files and any(end.refused for end in bad):
        raise PeerRefused(bad[0].status, bad[0].text, bad[0].comment)
    fetched = settle(
        files,
        study_uid=listed.key,
        listed=inventory.sop_uids,
        count=inventory.count,
        failed=[uid for end in ends for uid in end.failed_uids],
        unexpected=tuple(unexpected),
        said="; ".join(f"{end.text}, {end.failed} failed" for end in bad),
    )
    if lost is not None:
        raise BrokenOff(str(lost), fetched) from lost
    return fetched
