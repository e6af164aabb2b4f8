"""A PACS that answers C-FIND, C-GET and C-MOVE in threads of this process, with faults."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, build_context, evt
from pynetdicom.dimse_primitives import C_FIND

from dicom_ai_node.dicom.classes import ANALYSABLE, FIND, GET, MOVE
from dicom_ai_node.dicom.syntaxes import ACCEPTED_SYNTAXES

_NATIVE = list(ACCEPTED_SYNTAXES[:2])
_LEVELS = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}


@dataclass
class Faults:
    """What the archive does wrong; change it at any time."""

    hang: str = ""
    """'find', 'get' or 'move': never answers that."""
    abort: str = ""
    """The same, and ends the association."""
    status: dict[str, int] = field(default_factory=dict)
    """Final status of 'find', 'get' or 'move', in place of everything else."""
    levels: tuple[str, ...] = ("STUDY", "SERIES", "IMAGE")
    """Levels of C-FIND that are answered; others are refused with 0xA900."""
    level_status: dict[str, int] = field(default_factory=dict)
    """Final status of C-FIND at a level, in place of its answers."""
    mute_levels: tuple[str, ...] = ()
    """Levels of C-FIND at which nothing is found."""
    level_garbage: tuple[str, ...] = ()
    """Levels of C-FIND that are answered with what is no data set."""
    ignores_keys: bool = False
    """Answers every study, whatever is asked for."""
    ignores_modalities: bool = False
    """Neither matches ModalitiesInStudy nor answers it."""
    garbage: list[bytes] = field(default_factory=list)
    """Identifiers that come before the true ones at STUDY level."""
    listed: list[Dataset] = field(default_factory=list)
    """Answers beside the true ones at STUDY level."""
    abort_after: int | None = None
    """Ends the association of a C-GET or C-MOVE after so many instances."""
    withheld: set[str] = field(default_factory=set)
    """SOP Instance UIDs that are listed and not sent, with success."""
    failing: set[str] = field(default_factory=set)
    """SOP Instance UIDs whose sending fails, as the peer says."""
    strangers: list[Dataset] = field(default_factory=list)
    """Instances that are sent beside those that were asked for."""
    pause: float = 0.0
    """Seconds before each instance of a C-MOVE, which has no pending responses then."""


class Archive:
    """Study Root query and retrieve over ``datasets``."""

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        self.datasets = list(datasets)
        self.faults = Faults()
        self.destinations: dict[str, int] = {}
        """Port on this host for each AE title that a C-MOVE may name."""
        self.queries: list[Dataset] = []
        self.associations = 0
        self.port = 0
        self.stopped = threading.Event()

    def find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        asked: Dataset = event.identifier
        self.queries.append(asked)
        yield from self._misbehave(event, "find")
        level = str(asked.QueryRetrieveLevel)
        if self.faults.ignores_modalities and "ModalitiesInStudy" in asked:
            del asked.ModalitiesInStudy
        if level not in self.faults.levels:
            yield 0xA900, None
            return
        if level in self.faults.level_status:
            yield self.faults.level_status[level], None
            return
        if level in self.faults.mute_levels:
            return
        if level in self.faults.level_garbage:
            _send_raw(event, b"not a data set")
            return
        if level == "STUDY":
            for content in self.faults.garbage:
                _send_raw(event, content)
            for answer in self.faults.listed:
                yield 0xFF00, answer
        seen = set()
        for dataset in self.datasets:
            uid = dataset[_LEVELS[level]].value
            if uid not in seen and (self.faults.ignores_keys or matches(dataset, asked)):
                seen.add(uid)
                yield 0xFF00, self._answer(dataset, asked)

    def get(self, event: Any) -> Iterator[Any]:
        yield from self._misbehave(event, "get", before=(1,))
        chosen = self._chosen(event.identifier)
        yield len(chosen)
        for number, dataset in enumerate(chosen):
            if number == self.faults.abort_after:
                event.assoc.abort()
            yield 0xFF00, dataset

    def move(self, event: Any) -> Iterator[Any]:
        port = self.destinations.get(str(event.move_destination).strip())
        if port is None:
            yield None, None
            return
        target = "127.0.0.1", port
        if self.faults.pause:
            self._send_slowly(port, self._chosen(event.identifier))
            yield target
            yield 0
            return
        yield target
        yield from (
            self.get(event)
            if not self._bad("move")
            else self._misbehave(event, "move", before=(1,))
        )

    def _send_slowly(self, port: int, chosen: list[Dataset]) -> None:
        ae = AE("PACS")
        contexts = [
            build_context(one.SOPClassUID, one.file_meta.TransferSyntaxUID) for one in chosen
        ]
        association = ae.associate("127.0.0.1", port, contexts[:1], ae_title="AUDIT")
        for dataset in chosen:
            time.sleep(self.faults.pause)
            association.send_c_store(dataset)
        association.release()

    def _chosen(self, asked: Dataset) -> list[Dataset]:
        found = [one for one in self.datasets if matches(one, asked)]
        found = [one for one in found if one.SOPInstanceUID not in self.faults.withheld]
        return [self._unsendable(one) for one in found] + self.faults.strangers

    def _unsendable(self, dataset: Dataset) -> Dataset:
        if dataset.SOPInstanceUID not in self.faults.failing:
            return dataset
        bad = Dataset()  # of a class for which there is no presentation context
        bad.SOPClassUID, bad.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", dataset.SOPInstanceUID
        bad.file_meta = dataset.file_meta
        return bad

    def _bad(self, what: str) -> bool:
        faults = self.faults
        return what in (faults.hang, faults.abort) or what in faults.status

    def _misbehave(self, event: Any, what: str, before: tuple[Any, ...] = ()) -> Iterator[Any]:
        if self.faults.hang == what:
            self.stopped.wait(60)
        if what in (self.faults.hang, self.faults.abort):
            event.assoc.abort()
        if self._bad(what):
            yield from before
            yield self.faults.status.get(what, 0xC000), None

    def _answer(self, dataset: Dataset, asked: Dataset) -> Dataset:
        same = [one for one in self.datasets if one.StudyInstanceUID == dataset.StudyInstanceUID]
        answer = Dataset()
        for element in asked:
            if element.tag in dataset:
                answer[element.tag] = dataset[element.tag]
            elif element.VR != "IS":
                answer.add_new(element.tag, element.VR, None)
        answer.QueryRetrieveLevel = asked.QueryRetrieveLevel
        if "NumberOfStudyRelatedInstances" in asked:
            answer.NumberOfStudyRelatedInstances = len(same)
        if "ModalitiesInStudy" in asked:
            answer.ModalitiesInStudy = sorted({one.Modality for one in same})
        if "NumberOfSeriesRelatedInstances" in asked:
            series = [one for one in same if one.SeriesInstanceUID == dataset.SeriesInstanceUID]
            answer.NumberOfSeriesRelatedInstances = len(series)
        return answer


@contextmanager
def running(archive: Archive) -> Iterator[Archive]:
    """Have it listen on a port of its own."""
    ae = AE("PACS")
    ae.supported_contexts = [build_context(uid, _NATIVE) for uid in (FIND, GET, MOVE)]
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(
            context.abstract_syntax, list(ACCEPTED_SYNTAXES), scu_role=True, scp_role=True
        )
    for uid in sorted(ANALYSABLE):  # what a C-MOVE can send
        ae.add_requested_context(uid)

    def count(_event: Any) -> None:
        archive.associations += 1

    server = ae.start_server(
        ("127.0.0.1", 0),
        block=False,
        evt_handlers=[
            (evt.EVT_ACCEPTED, count),
            (evt.EVT_C_FIND, archive.find),
            (evt.EVT_C_GET, archive.get),
            (evt.EVT_C_MOVE, archive.move),
        ],
    )
    archive.port = server.server_address[1]
    try:
        yield archive
    finally:
        archive.stopped.set()
        for association in server.active_associations:
            association.abort()
        server.shutdown()


def matches(dataset: Dataset, asked: Dataset) -> bool:
    for keyword in _LEVELS.values():
        if asked.get(keyword) and asked.get(keyword) != dataset.get(keyword):
            return False
    day, modality = str(asked.get("StudyDate") or ""), asked.get("ModalitiesInStudy")
    first, _, last = day.partition("-") if "-" in day else (day, "", day)
    if (first and dataset.StudyDate < first) or (last and dataset.StudyDate > last):
        return False
    return not modality or dataset.Modality == modality


def _send_raw(event: Any, content: bytes) -> None:
    """Send a pending answer with an identifier that pynetdicom would not encode."""
    answer = C_FIND()
    answer.MessageIDBeingRespondedTo = event.request.MessageID
    answer.AffectedSOPClassUID = event.request.AffectedSOPClassUID
    answer.Status = 0xFF00
    answer.Identifier = BytesIO(content)
    event.assoc.dimse.send_msg(answer, event.context.context_id)
