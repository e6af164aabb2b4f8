"""Builders for the deliverer: tiny SR files, queued deliveries, the role at work."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import Dataset, FileMetaDataset, dcmwrite
from pydicom.uid import ExplicitVRLittleEndian
from sqlalchemy import select, update

from dicom_ai_node.config import Config, parse_config
from dicom_ai_node.deliver import LEASE_SECONDS
from dicom_ai_node.deliver.worker import run
from dicom_ai_node.demo.pacs import EmbeddedPacs
from dicom_ai_node.dicom.classes import REPORTS, SECONDARY_CAPTURE
from dicom_ai_node.spool import Spool
from dicom_ai_node.store.reports import NewReport, StoredFile
from dicom_ai_node.store.results import NewAnalysis, finish
from dicom_ai_node.store.study_queue import close_due
from dicom_ai_node.store.tables import delivery
from tests.builders.databases import opened
from tests.builders.rows import TIMING, claim_one, file_instance

SR_3D, SR_COMPREHENSIVE, SR_ENHANCED = REPORTS
_CODES = {SR_3D: 34, SR_COMPREHENSIVE: 33, SR_ENHANCED: 22, SECONDARY_CAPTURE: 7}
_DAY = 86400.0


def report_uid(study: str, sop_class_uid: str) -> str:
    """The SOP Instance UID of a study's report in one SOP class."""
    return f"{study}.{_CODES[sop_class_uid]}"


def sr_file(study: str, sop_class_uid: str) -> bytes:
    """A document of one line, with a nested sequence and a name that is not ASCII."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = sop_class_uid
    dataset.SOPInstanceUID = report_uid(study, sop_class_uid)
    dataset.PatientName = "Müller^Zoë"
    dataset.PatientID = "1"
    dataset.StudyInstanceUID = study
    dataset.SeriesInstanceUID = f"{study}.99"
    dataset.Modality = "SR"
    dataset.ValueType = "CONTAINER"
    dataset.ContinuityOfContent = "SEPARATE"
    dataset.ConceptNameCodeSequence = [_code("126000", "DCM", "Imaging Measurement Report")]
    line = Dataset()
    line.RelationshipType = "CONTAINS"
    line.ValueType = "TEXT"
    line.ConceptNameCodeSequence = [_code("121106", "DCM", "Comment")]
    line.TextValue = "geprüft"
    dataset.ContentSequence = [line]
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


class Outbox:
    """A node of which only the deliverer is at work."""

    def __init__(
        self, folder: Path, destinations: Mapping[str, Mapping[str, Any]], **tables: Any
    ) -> None:
        self.values: dict[str, Any] = {
            "storage": {"spool": str(folder / "spool"), "database": f"sqlite:///{folder}/node.db"},
            "destinations": {
                name: {"host": "127.0.0.1", "ae_title": "PACS", "timeout": 5.0}
                | {"retry_seconds": 0.1, "retry_max_seconds": 0.4}
                | dict(values)
                for name, values in destinations.items()
            },
            "report": {"secondary_capture": True},
            **tables,
        }
        self.spool = Spool(folder / "spool")
        self.spool.create()
        self.db = opened(self.config.storage.database)

    @property
    def config(self) -> Config:
        return parse_config(self.values)

    def queue(
        self,
        number: int = 1,
        *,
        classes: Sequence[str] = REPORTS,
        kind: str = "sr",
        age_days: float = 0.0,
    ) -> str:
        """Queue one study's report to every destination; return the study's UID."""
        study = f"2.25.{number}"
        now = time.time() - age_days * _DAY
        files = []
        for uid in classes:
            path = self.spool.report_path(report_uid(study, uid))
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(sr_file(study, uid))
            files.append(StoredFile(uid, report_uid(study, uid), self.spool.relative(path)))
        file_instance(self.db, study, f"{study}.1", now=now - 1)
        self._close_and_finish(study, NewReport(kind, tuple(files)), now)
        return study

    def _close_and_finish(self, study: str, report: NewReport, now: float) -> None:
        close_due(self.db, now=now + 1000, settings=TIMING)
        claimed = claim_one(self.db, now=now + 1000)
        assert claimed.study_uid == study
        assert finish(
            self.db,
            claimed,
            NewAnalysis("k", {}, False, (report,)),
            header=None,
            destinations={name: frozenset({report.kind}) for name in self.values["destinations"]},
            reason=None,
            now=now,
        )

    def rows(self, destination: str = "pacs") -> list[Any]:
        """The deliveries to a destination, in the order in which they were queued."""
        query = select(delivery).where(delivery.c.destination == destination)
        with self.db.read() as connection:
            return list(connection.execute(query.order_by(delivery.c.id)))

    def states(self, destination: str = "pacs") -> list[str]:
        return [row.state for row in self.rows(destination)]

    def delivered(self, count: int, destination: str = "pacs") -> bool:
        return self.states(destination) == ["delivered"] * count

    def requeue_delivered(self) -> None:
        """Put all deliveries back, as if their acknowledgements had been lost."""
        with self.db.write() as connection:
            connection.execute(update(delivery).values(state="queued"))

    def close(self) -> None:
        self.db.close()


@contextmanager
def outbox(folder: Path, **destinations: Mapping[str, Any]) -> Iterator[Outbox]:
    """An outbox with destinations by name: ``pacs={"port": 104}``."""
    box = Outbox(folder, destinations)
    try:
        yield box
    finally:
        box.close()


@contextmanager
def pacs_and_outbox(folder: Path, **destination: Any) -> Iterator[tuple[EmbeddedPacs, Outbox]]:
    """A PACS, and an outbox with that one destination, called ``pacs``."""
    with (
        EmbeddedPacs(folder / "pacs") as pacs,
        outbox(folder, pacs={"port": pacs.port, **destination}) as box,
    ):
        yield pacs, box


@contextmanager
def delivering(config: Config, *, lease_seconds: float = LEASE_SECONDS) -> Iterator[None]:
    """Run the deliverer role in a thread until the block ends."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def role() -> None:
        try:
            run(config, stop=stop, lease_seconds=lease_seconds)
        except BaseException as error:
            failures.append(error)
            raise

    thread = threading.Thread(target=role)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()
    assert not failures
