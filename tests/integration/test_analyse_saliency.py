"""The analyser makes saliency captures when it is told to, and they reach who wants them."""

import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from dicom_ai_node.analyse import results, saliency
from dicom_ai_node.answers import ImageRef
from dicom_ai_node.config.bundles import default_bundle
from dicom_ai_node.demo import phantom
from dicom_ai_node.demo.images import radiograph
from dicom_ai_node.demo.pacs import EmbeddedPacs
from dicom_ai_node.errors import StorageError
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.report.identity import EncodedReport
from dicom_ai_node.spool import Spool
from dicom_ai_node.store.queries import StudyDetail
from dicom_ai_node.store.reports import NewReport
from tests.builders.analysing import GATES_OPEN, Node
from tests.builders.outbox import delivering
from tests.builders.waiting import wait_for

POLICY = {"analyse": "all", "max_age_interval": 200.0, "min_sex_certainty": 0.5, **GATES_OPEN}


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return Estimator(default_bundle(), device="cpu")


def image(number: int = 1) -> Dataset:
    return radiograph(phantom.chest(62, "F", number, 256), study="saliency", number=number)


@pytest.fixture
def made(tmp_path: Path, estimator: Estimator) -> Iterator[Node]:
    node = Node(tmp_path, estimator, {"report": {"saliency": "grad-cam"}, "policy": POLICY})
    yield node
    node.db.close()


def kinds(detail: StudyDetail) -> list[str]:
    return [one["kind"] for one in detail.reports]


def test_a_capture_is_made_and_sent_to_whom_it_is_due(tmp_path: Path, estimator: Estimator) -> None:
    with EmbeddedPacs(tmp_path / "archive") as archive, EmbeddedPacs(tmp_path / "viewer") as viewer:
        peer = {"host": "127.0.0.1", "ae_title": "PACS", "timeout": 5.0}
        destinations = {
            "archive": peer | {"port": archive.port},
            "viewer": peer | {"port": viewer.port, "send": ["sr", "saliency"]},
        }
        report = {"saliency": "grad-cam"}
        values = {"report": report, "destinations": destinations, "policy": POLICY}
        node = Node(tmp_path, estimator, values)
        one = image()
        detail = node.analyse(one)
        assert detail.result is not None
        assert detail.result["outcome"] == "estimated"
        assert kinds(detail) == ["sr", "saliency"]
        assert all(not each["quarantined"] for each in detail.reports)
        sent = [(each["destination"], each["kind"]) for each in detail.deliveries]
        assert sorted(sent) == [("archive", "sr"), ("viewer", "saliency"), ("viewer", "sr")]
        (capture,) = node.captures()
        with delivering(node.config):
            wait_for(lambda: len(viewer.instances()) == 2 and len(archive.instances()) == 1)
        arrived = dcmread(viewer.instances()[capture.SOPInstanceUID])
        assert np.array_equal(arrived.pixel_array, capture.pixel_array)
        assert arrived.SourceImageSequence[0].ReferencedSOPInstanceUID == one.SOPInstanceUID
        assert capture.SOPInstanceUID not in archive.instances()
        node.db.close()


def test_none_is_made_unless_asked_for(tmp_path: Path, estimator: Estimator) -> None:
    node = Node(tmp_path, estimator, {"policy": POLICY})
    assert kinds(node.analyse(image())) == ["sr"]
    node.db.close()


def test_a_late_image_brings_new_captures_of_all_in_the_same_series(made: Node) -> None:
    made.analyse(image(1))
    detail = made.analyse(image(2))
    assert kinds(detail) == ["sr", "saliency", "sr", "saliency", "saliency"]
    captures = made.captures()
    assert len({ds.SOPInstanceUID for ds in captures}) == 3
    assert len({ds.SeriesInstanceUID for ds in captures}) == 1


def test_a_failure_of_the_maps_costs_no_report(made: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("dicom_ai_node.inference.saliency.explain", fails)
    detail = made.analyse(image())
    assert kinds(detail) == ["sr"]
    assert detail.study.state in ("reported", "delivered")


def test_an_invalid_capture_is_not_stored(made: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    from dicom_ai_node.report import capture

    monkeypatch.setattr(capture, "source_image", lambda _: Dataset())
    assert kinds(made.analyse(image())) == ["sr"]
    assert made.captures() == []


def test_a_full_disk_is_not_mistaken_for_a_fault_of_the_maps(
    made: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(spool: Spool, report: EncodedReport, *, fault: str = "") -> NewReport:
        if report.kind == "saliency":
            raise StorageError("spool: no room")
        return store(spool, report, fault=fault)

    store = results.store_report
    monkeypatch.setattr(results, "store_report", full)
    made.receive(image())
    with pytest.raises(StorageError, match="no room"):
        made.work()


def test_maps_that_would_come_too_late_are_left_out(made: Node) -> None:
    one = image()
    made.receive(one)
    names = (one.SOPClassUID, one.SOPInstanceUID, one.SeriesInstanceUID)
    files = [(ImageRef(*map(str, names)), next(made.spool.instances.rglob("*.dcm")))]
    pipeline = made.analyser.pipeline
    prepared = pipeline.prepare("1.2", files, priors=lambda _: (), today=date(2026, 3, 15))
    pipeline.predict([prepared])
    result = pipeline.conclude(prepared)
    settings = made.config.report
    for deadline, count in ((time.monotonic() - 1, 0), (time.monotonic() + 600, 1)):
        captures = saliency.build_captures(
            prepared, result, settings=settings, digest="d", deadline=deadline
        )
        assert len(captures) == count
