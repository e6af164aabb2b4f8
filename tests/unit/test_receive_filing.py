"""The answer to a C-STORE request, for everything that can go wrong on the way to it."""

from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import CTImageStorage, SecondaryCaptureImageStorage
from sqlalchemy import select
from structlog.testing import capture_logs

from dicom_ai_node.config.processes import ReceiveSettings
from dicom_ai_node.config.stages import StudySettings
from dicom_ai_node.dicom.classes import ANALYSABLE
from dicom_ai_node.dicom.marks import software_version
from dicom_ai_node.dicom.uids import PROGRAM_UID, UUID_ROOT
from dicom_ai_node.errors import StorageError, StorageFull
from dicom_ai_node.receive.connection import AssociationRows, Connection
from dicom_ai_node.receive.filing import Filing
from dicom_ai_node.receive.incoming import Incoming
from dicom_ai_node.receive.landing import Landing
from dicom_ai_node.receive.requests import StoreRequest
from dicom_ai_node.report.copies import Fill, coerced
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database, forwards, instances
from dicom_ai_node.store.forwards import Outgoing
from dicom_ai_node.store.tables import (
    association,
    forward,
    instance,
    quarantine,
    report_file,
    study,
)
from tests.builders.receiving import DX, EXPLICIT, encoded, radiograph
from tests.builders.rows import analysed_study

SC = str(SecondaryCaptureImageStorage)


class Bench:
    """A filing with its surroundings, and a peer that is connected."""

    def __init__(
        self,
        tmp_path: Path,
        db: Database,
        *,
        forwards: bool = False,
        analysed: Collection[str] = ANALYSABLE,
    ) -> None:
        self.db = db
        self.spool = tmp_path / "spool"
        self.landing = Landing(Spool(self.spool), process="r0", min_free_mb=0)
        self.rows = AssociationRows(db, clock=lambda: 100.0)
        self.steps: list[str] = []
        self.filing = Filing(
            db=db,
            landing=self.landing,
            rows=self.rows,
            settings=StudySettings(),
            forwards=forwards,
            analysed=analysed,
            clock=lambda: 100.0,
            checkpoint=self.steps.append,
        )
        self.peer = Connection("192.0.2.1", ReceiveSettings(), calling_ae="MODALITY")

    def incoming(self, data: bytes) -> Incoming:
        incoming = self.landing.begin(b"head")
        incoming.write(memoryview(data))
        return incoming

    def store(self, ds: Any, *, data: bytes | None = None, **request: str) -> int:
        values = {
            "sop_class_uid": str(ds.SOPClassUID),
            "sop_instance_uid": str(ds.SOPInstanceUID),
            "context_sop_class_uid": str(ds.SOPClassUID),
            "transfer_syntax_uid": EXPLICIT,
        } | request
        incoming = self.incoming(encoded(ds) if data is None else data)
        return self.filing.store(StoreRequest(**values), incoming, self.peer).status

    def column(self, column: Any) -> list[Any]:
        with self.db.read() as connection:
            return list(connection.execute(select(column)).scalars())

    def left(self) -> list[str]:
        return [path.name for path in (self.spool / "incoming").rglob("*.dcm")]


@pytest.fixture
def bench(tmp_path: Path, db: Database) -> Iterator[Bench]:
    bench = Bench(tmp_path, db)
    yield bench
    bench.rows.close()
    bench.landing.close()


@pytest.fixture
def gateway(tmp_path: Path, db: Database) -> Iterator[Bench]:
    bench = Bench(tmp_path, db, forwards=True)
    yield bench
    bench.rows.close()
    bench.landing.close()


def test_what_a_route_adds_is_analysed(tmp_path: Path, db: Database) -> None:
    ct = radiograph(sop_class=CTImageStorage)
    for analysed in (ANALYSABLE, ANALYSABLE | {CTImageStorage}):
        bench = Bench(tmp_path, db, analysed=analysed)
        ct.SOPInstanceUID = f"1.2.{len(analysed)}"
        assert bench.store(ct) == 0x0000
        bench.rows.close()
        bench.landing.close()
    assert bench.column(instance.c.analysable) == [False, True]


def test_success_is_the_last_of_all_steps(bench: Bench) -> None:
    ds = radiograph()
    assert bench.store(ds) == 0x0000
    assert bench.steps == ["synced", "named", "recorded"]
    (path,) = bench.column(instance.c.path)
    assert (bench.spool / path).read_bytes() == b"head" + encoded(ds)
    assert bench.column(instance.c.analysable) == [True]
    assert bench.column(instance.c.association) == [bench.peer.key]
    assert bench.column(association.c.calling_ae) == ["MODALITY"]
    assert bench.left() == []


@pytest.mark.parametrize(
    ("request_values", "reason"),
    [
        ({"sop_instance_uid": "1.2.3"}, "Affected SOP Instance UID"),
        ({"sop_class_uid": SC, "context_sop_class_uid": SC}, "Affected SOP Class UID"),
        ({"context_sop_class_uid": SC}, "presentation context"),
    ],
)
def test_uids_must_agree(bench: Bench, request_values: dict[str, Any], reason: str) -> None:
    assert bench.store(radiograph(), **request_values) == 0xC000
    (row,) = bench.column(quarantine.c.reason)
    assert reason in row
    assert bench.column(instance.c.id) == []


@pytest.mark.parametrize("data", [b"", b"no data set", bytes(1000)])
def test_what_cannot_be_parsed_is_quarantined_once(bench: Bench, data: bytes) -> None:
    assert [bench.store(radiograph(), data=data) for _ in range(3)] == [0xC000] * 3
    (path,) = bench.column(quarantine.c.path)
    assert (bench.spool / path).read_bytes() == b"head" + data
    assert (bench.spool / path).with_suffix(".reason.txt").exists()
    assert bench.column(study.c.study_instance_uid) == []
    assert bench.left() == []


@pytest.mark.parametrize("error", [StorageError("locked"), StorageFull("full")])
@pytest.mark.parametrize("call", ["add", "open_association"])
def test_a_database_that_fails_means_out_of_resources(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, call: str, error: Exception
) -> None:
    monkeypatch.setattr(instances, call, _raising(error))
    assert bench.store(radiograph()) == 0xA700
    assert bench.column(instance.c.id) == []
    assert bench.left() == []


def test_a_disk_that_fails_means_out_of_resources(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Landing, "keep", _raising(OSError(5, "Input/output error")))
    assert bench.store(radiograph()) == 0xA700
    assert bench.left() == []


def test_a_file_that_retention_takes_away_meanwhile_is_not_acknowledged(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = radiograph()
    assert bench.store(ds) == 0x0000
    (path,) = bench.column(instance.c.path)
    with monkeypatch.context() as patch:
        patch.setattr(
            bench.filing, "_checkpoint", lambda step: (bench.spool / path).unlink(missing_ok=True)
        )
        assert bench.store(ds) == 0xA700
    assert bench.store(ds) == 0x0000
    assert (bench.spool / path).exists()


def test_a_failed_reception_means_out_of_resources(bench: Bench) -> None:
    ds = radiograph()
    incoming = bench.incoming(encoded(ds))
    incoming.failure = StorageFull("full")
    request = StoreRequest(DX, str(ds.SOPInstanceUID), DX, EXPLICIT)
    assert bench.filing.store(request, incoming, bench.peer).status == 0xA700


def test_a_fault_of_ours_is_no_success_and_says_nothing_of_the_patient(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instances, "add", _raising(ValueError("Secret^Patient")))
    with capture_logs() as logs:
        assert bench.store(radiograph()) == 0xC001
    assert bench.left() == []
    assert "Secret" not in str(logs)
    assert any(log["event"] == "instance_failed" and "ValueError" in log["error"] for log in logs)


def test_a_quarantine_that_fails_changes_nothing_for_the_sender(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instances, "record_quarantine", _raising(StorageError("locked")))
    assert bench.store(radiograph(), data=b"") == 0xC000


def test_no_log_names_the_patient(bench: Bench) -> None:
    with capture_logs() as logs:
        bench.store(radiograph())
        bench.store(radiograph(), data=b"Secret^Patient")
        bench.store(radiograph(), sop_instance_uid="1.2.3")
    assert {log["event"] for log in logs} == {"instance_stored", "instance_quarantined"}
    assert "ecret" not in str(logs)
    for log in logs:
        quoted = {key for key, value in log.items() if str(value).startswith("1.2.")}
        assert quoted <= {"study", "instance"}


def test_our_own_capture_comes_back_and_is_not_kept(bench: Bench) -> None:
    marked = radiograph(sop_class=SC)
    marked.InstanceCreatorUID = PROGRAM_UID
    assert bench.store(marked) == 0x0000
    analysed_study(bench.db, "1.9.9", now=100.0)
    (known,) = bench.column(report_file.c.sop_instance_uid)
    assert bench.store(radiograph(sop_class=SC, sop=known)) == 0x0000
    assert bench.left() == []
    assert len(bench.column(instance.c.id)) == 1  # the image of 1.9.9
    assert bench.steps == []


def test_our_own_copy_comes_back_and_is_no_evidence(bench: Bench) -> None:
    marked = radiograph(sop="2.25.7")
    marked.InstanceCreatorUID = PROGRAM_UID
    assert bench.store(marked) == 0x0000
    assert bench.column(instance.c.id) == []
    assert bench.store(radiograph(sop="2.25.8")) == 0x0000
    assert len(bench.column(instance.c.id)) == 1


def test_what_others_derive_from_our_copy_is_kept(bench: Bench) -> None:
    ours = Dataset()
    ours.SoftwareVersions = software_version()
    derived = radiograph(sop="2.25.9")
    derived.ContributingEquipmentSequence = [ours]
    derived.InstanceCreatorUID = "1.2.3"
    assert bench.store(derived) == 0x0000
    assert bench.column(instance.c.sop_instance_uid) == ["2.25.9"]


def test_a_capture_of_somebody_else_is_analysed(bench: Bench) -> None:
    assert bench.store(radiograph(sop_class=SC)) == 0x0000
    assert bench.column(instance.c.analysable) == [True]


def test_other_classes_are_kept_and_not_analysed(bench: Bench) -> None:
    assert bench.store(radiograph(sop_class="1.2.840.10008.5.1.4.1.1.7.2")) == 0x0000
    assert bench.column(instance.c.analysable) == [False]


def test_the_row_of_an_association_lives_from_first_instance_to_end(bench: Bench) -> None:
    bench.rows.end(bench.peer)
    assert bench.column(association.c.id) == []
    bench.store(radiograph())
    bench.store(radiograph())
    assert bench.column(association.c.alive_until) == [130.0]
    bench.rows._clock = lambda: 120.0
    bench.rows.renew()
    assert bench.column(association.c.alive_until) == [150.0]
    bench.rows.end(bench.peer)
    assert bench.column(association.c.id) == []


def _raising(error: Exception) -> Callable[..., None]:
    def call(*_args: object, **_kwargs: object) -> None:
        raise error

    return call


def queued(bench: Bench, ds: Any, *, copy: str = "") -> None:
    """Queue the one image that waits, as it is or as the copy at that path."""
    uid = str(ds.StudyInstanceUID)
    (one,) = forwards.waiting(bench.db, uid, before=100.0, limit=9)
    out = Outgoing(one, copy or one.path)
    assert forwards.queue(bench.db, uid, [out], ["pacs"], applied=None, now=101.0) == 1


def test_only_a_gateway_has_images_wait_to_be_forwarded(bench: Bench) -> None:
    assert bench.store(radiograph()) == 0x0000
    assert bench.column(forward.c.sop_instance_uid) == []


def test_what_is_filed_waits_to_be_forwarded_once_however_often_it_comes(gateway: Bench) -> None:
    ds = radiograph(sop_class=SC, sop=f"{UUID_ROOT}7")
    assert [gateway.store(ds), gateway.store(ds)] == [0x0000, 0x0000]
    assert gateway.column(forward.c.sop_instance_uid) == [ds.SOPInstanceUID]
    queued(gateway, ds)
    assert gateway.store(ds) == 0x0000
    assert forwards.studies_due(gateway.db, before=1e9, limit=9) == []
    assert gateway.column(instance.c.version) == [1]


def test_what_cannot_be_filed_is_not_forwarded(gateway: Bench) -> None:
    assert gateway.store(radiograph(), sop_instance_uid="1.2.3") == 0xC000
    assert gateway.column(forward.c.sop_instance_uid) == []


def test_a_version_that_comes_after_the_image_went_on_is_kept_and_said(gateway: Bench) -> None:
    """Also of a class of which our own reports are: forwarding makes it no object of ours."""
    ds = radiograph(sop_class=SC, sop=f"{UUID_ROOT}7")
    gateway.store(ds)
    ds.PatientID = "2"
    with capture_logs() as logged:
        assert gateway.store(ds) == 0x0000
    assert "version_not_forwarded" not in str(logged)  # it is this one that will go on
    queued(gateway, ds)
    ds.PatientID = "3"
    with capture_logs() as logged:
        assert gateway.store(ds) == 0x0000
    assert "version_not_forwarded" in str(logged)
    assert gateway.column(instance.c.version) == [1, 2, 3]


def test_an_image_that_comes_back_with_a_value_of_ours_is_not_kept(gateway: Bench) -> None:
    ds = radiograph()
    gateway.store(ds)
    queued(gateway, ds, copy="reports/aa/copy.dcm")
    age = Fill("PatientAge", "063Y", "dates")
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    back = dcmread(BytesIO(coerced(buffer.getvalue(), age, at=datetime.now(UTC)).content))
    assert gateway.store(back) == 0x0000
    assert gateway.column(instance.c.version) == [1]
    ds.PatientID = "corrected at the modality"
    assert gateway.store(ds) == 0x0000
    assert gateway.column(instance.c.version) == [1, 2]
