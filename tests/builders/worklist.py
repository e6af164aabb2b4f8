"""A modality worklist in threads of this process, with faults."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, build_context, evt

from dicom_ai_node.dicom.classes import WORKLIST


def order(**values: str) -> Dataset:
    """What the worklist holds of one procedure: of the sound patient, with changes."""
    found = Dataset()
    found.StudyInstanceUID, found.AccessionNumber = "1.2.3", "A1"
    found.PatientID, found.PatientBirthDate, found.PatientSex = "4711", "19600415", "F"
    for keyword, value in values.items():
        setattr(found, keyword, value)
    step = Dataset()
    step.Modality, step.ScheduledStationAETitle = "CR", "ROOM1"
    found.ScheduledProcedureStepSequence = [step]
    return found


class Scp:
    """Answers C-FIND over ``orders``; change its attributes at any time."""

    def __init__(self, orders: Sequence[Dataset] = ()) -> None:
        self.orders = list(orders)
        self.hangs = False
        """Takes a question and never answers."""
        self.endless = False
        """Answers with one order after the other, for ever."""
        self.pause = 0.0
        """Seconds before an answer."""
        self.status = 0x0000
        """Anything else is the only answer."""
        self.ignores: tuple[str, ...] = ()
        """Keys that it does not match on."""
        self.questions: list[Dataset] = []
        self.associations = 0
        self.port = 0
        self.stopped = threading.Event()

    def find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        asked: Dataset = event.identifier
        self.questions.append(asked)
        self.stopped.wait(60 if self.hangs else self.pause)
        if self.status:
            yield self.status, None
            return
        while self.endless and not self.stopped.wait(0.05):
            yield 0xFF00, self.orders[0]
        for one in self.orders:
            if all(self._match(one, asked, key) for key in _KEYS):
                yield 0xFF00, one

    def asked(self) -> list[str]:
        """The key of each question."""
        return [key for one in self.questions for key in _KEYS if one.get(key)]

    def _match(self, one: Dataset, asked: Dataset, key: str) -> bool:
        wanted = asked.get(key)
        return not wanted or key in self.ignores or one.get(key) == wanted


_KEYS = ("StudyInstanceUID", "AccessionNumber", "PatientID")


@contextmanager
def running(scp: Scp, *, sop_class: str = WORKLIST) -> Iterator[Scp]:
    """Have it listen on a port of its own, for another SOP class if asked to."""
    ae = AE("WORKLIST")
    ae.supported_contexts = [build_context(sop_class)]

    def count(_event: Any) -> None:
        scp.associations += 1

    server = ae.start_server(
        ("127.0.0.1", 0),
        block=False,
        evt_handlers=[(evt.EVT_CONN_OPEN, count), (evt.EVT_C_FIND, scp.find)],
    )
    scp.port = server.server_address[1]
    try:
        yield scp
    finally:
        scp.stopped.set()
        for association in server.active_associations:
            association.abort()
        server.shutdown()
