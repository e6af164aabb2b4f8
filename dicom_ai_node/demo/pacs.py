"""A small PACS: the destination of the demo, and the fake of the tests with faults to switch on.

    with EmbeddedPacs(folder) as pacs:
        ...  # send to 127.0.0.1:pacs.port
        pacs.instances()

It stores what it gets under ``folder/<study>/<series>/<instance>.dcm``, each UID once.
"""

import socket
import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import AE, AllStoragePresentationContexts, build_context, evt

from dicom_ai_node.dicom.classes import VERIFICATION
from dicom_ai_node.dicom.status import CANNOT_UNDERSTAND, DOES_NOT_MATCH_CLASS, SUCCESS
from dicom_ai_node.dicom.syntaxes import OFFERED_SYNTAXES

_LONGEST_STALL = 600.0


@dataclass
class Faults:
    """What the PACS does wrong; change it at any time. Counters run down as faults happen."""

    reject: bool = False
    """Reject associations: permanent, called AE title not recognised."""
    accepted_classes: frozenset[str] | None = None
    """Accept only these storage classes in negotiation; None: all."""
    transfer_syntaxes: tuple[str, ...] = OFFERED_SYNTAXES
    """Accept these transfer syntaxes, best first."""
    answers: deque[int] = field(default_factory=deque)
    """Statuses for the next stores; with success and warnings (Bxxx) the object is stored."""
    class_answers: dict[str, int] = field(default_factory=dict)
    """The same for every store of a SOP class."""
    comment: str = ""
    """Error Comment (0000,0902) beside each status but success."""
    duplicate_answer: int = SUCCESS
    """Status for an object that is there already."""
    aborts: int = 0
    """Answer so many stores with A-ABORT, and do not store."""
    drops: int = 0
    """Store, then cut the connection before the answer, so many times."""
    stalls: int = 0
    """Give no answer, and do not store, so many times."""
    delay: float = 0.0
    """Seconds before each answer."""


class EmbeddedPacs:
    """A C-STORE and C-ECHO SCP (PS3.4 Annexes A and B) in threads of this process."""

    def __init__(
        self, folder: Path, *, ae_title: str = "PACS", host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.folder = folder
        self.ae_title = ae_title
        self.host = host
        self.port = port
        """0 until :meth:`start` has chosen one."""
        self.faults = Faults()
        self.received: Counter[str] = Counter()
        """How often each SOP Instance UID was sent here, refused or not."""
        self.associations = 0
        """How many were asked for, rejected or not."""
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._server: Any = None

    def start(self) -> Self:
        """Listen; the same port again after a :meth:`stop`."""
        ae = AE(self.ae_title)
        ae.maximum_associations = 100
        ae.supported_contexts = [build_context(VERIFICATION), *AllStoragePresentationContexts]
        self._stopped.clear()
        self._server = ae.start_server(
            (self.host, self.port),
            block=False,
            evt_handlers=[
                (evt.EVT_REQUESTED, self._negotiate),
                (evt.EVT_C_STORE, self._store),
            ],
        )
        self.port = self._server.server_address[1]
        return self

    def stop(self) -> None:
        """Cut all connections and stop listening."""
        if self._server is None:
            return
        self._stopped.set()
        server, self._server = self._server, None
        for association in server.active_associations:
            if association.is_established:
                association.abort()
            else:  # it ends by itself; to abort what waits for its close is an error
                association.join(2.0)
        server.shutdown()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def instances(self) -> Mapping[str, Path]:
        """Return the file of each stored object by its SOP Instance UID."""
        return {path.stem: path for path in sorted(self.folder.glob("*/*/*.dcm"))}

    def _negotiate(self, event: Any) -> None:
        self.associations += 1
        faults = self.faults
        if faults.reject:
            event.assoc.acse.send_reject(0x01, 0x01, 0x07)
            event.assoc.kill()  # waits until the answer is out; the connection is closed after it
            return
        accepted = faults.accepted_classes
        proposed = {str(one.abstract_syntax) for one in event.assoc.requestor.requested_contexts}
        event.assoc.acceptor.supported_contexts = [
            build_context(uid, list(faults.transfer_syntaxes))
            for uid in sorted(proposed)
            if uid == VERIFICATION or accepted is None or uid in accepted
        ]

    def _store(self, event: Any) -> Dataset:
        uid = str(event.request.AffectedSOPInstanceUID)
        with self._lock:
            self.received[uid] += 1
            fault = self._next_fault()
            status = self._status(str(event.request.AffectedSOPClassUID))
        if self.faults.delay:
            self._stopped.wait(self.faults.delay)
        if fault == "stall":
            self._stopped.wait(_LONGEST_STALL)
        if fault in {"abort", "stall"}:
            event.assoc.abort()
            return self._answer(CANNOT_UNDERSTAND)
        if status == 0 or status >> 12 == 0xB:
            with self._lock:
                status = self._keep(event) or status
        if fault == "drop":
            event.assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)
        return self._answer(status)

    def _answer(self, status: int) -> Dataset:
        answer = Dataset()
        answer.Status = status
        if status and self.faults.comment:
            answer.ErrorComment = self.faults.comment
        return answer

    def _next_fault(self) -> str:
        for name in ("abort", "stall", "drop"):
            left = getattr(self.faults, f"{name}s")
            if left:
                setattr(self.faults, f"{name}s", left - 1)
                return name
        return ""

    def _status(self, sop_class_uid: str) -> int:
        if self.faults.answers:
            return self.faults.answers.popleft()
        return self.faults.class_answers.get(sop_class_uid, SUCCESS)

    def _keep(self, event: Any) -> int:
        """Write the object unless it is there; return a status that overrides, or 0."""
        dataset: Dataset = event.dataset
        uids = [
            UID(str(dataset.get(keyword, "")))
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        ]
        if not all(uid.is_valid for uid in uids):  # they become a path
            return DOES_NOT_MATCH_CLASS
        path = self.folder.joinpath(*uids).with_name(f"{uids[-1]}.dcm")
        if path.exists():
            return self.faults.duplicate_answer
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        temporary.write_bytes(event.encoded_dataset())
        temporary.replace(path)
        return 0
