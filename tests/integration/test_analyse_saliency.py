"""The analyser makes saliency captures when it is told to, and they reach who wants them."""

import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread, dcmwrite

from dicom_ai_node.analyse import saliency
from dicom_ai_node.analyse.pipeline import Pipeline
from dicom_ai_node.analyse.worker import Analyser
from dicom_ai_node.config import Config, parse_config
from dicom_ai_node.demo import phantom
from dicom_ai_node.demo.images import radiograph
from dicom_ai_node.demo.pacs import EmbeddedPacs
from dicom_ai_node.errors import StorageError
from dicom_ai_node.inference.bundle import default_bundle
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database
from dicom_ai_node.store.instances import record
from dicom_ai_node.store.queries import StudyDetail, show
from dicom_ai_node.store.studies import close_due
from dicom_ai_node.types import ImageRef, StoredInstance
from tests.builders.outbox import delivering, wait_for

EVERY_IMAGE_PASSES = {
    "analyse": "all",
    "min_chest": 0.0,
    "min_frontal": 0.0,
    "min_in_distribution": 0.0,
    "max_age_interval": 200.0,
    "min_sex_certainty": 0.5,
}


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return Estimator(default_bundle(), device="cpu")


class Node:
    """A node of which only the analyser is at work."""

    def __init__(self, folder: Path, estimator: Estimator, values: dict[str, Any]) -> None:
        storage = {"spool": str(folder / "spool"), "database": f"sqlite:///{folder}/node.db"}
        given = {"storage": storage, "policy": EVERY_IMAGE_PASSES, **values}
        self.config: Config = parse_config(given)
        self.db = Database(self.config.storage.database)
        self.db.upgrade()
        self.spool = Spool(self.config.storage.spool)
        self.spool.create()
        pipeline = Pipeline(estimator, rules=self.config.rules, policy=self.config.policy)
        self.analyser = Analyser(self.config, self.db, self.spool, pipeline)

    def receive(self, dataset: Dataset) -> None:
        content = BytesIO()
        dcmwrite(content, dataset, enforce_file_format=True)
        path = self.spool.instances / f"{dataset.SOPInstanceUID}.dcm"
        path.write_bytes(content.getvalue())
        names = (dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.SeriesInstanceUID)
        stored = StoredInstance(
            image=ImageRef(*map(str, names)),
            transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
            path=self.spool.relative(path),
            digest=hashlib.sha256(content.getvalue()).hexdigest(),
        )
        uid, settings = str(dataset.StudyInstanceUID), self.config.study
        record(
            self.db, stored, study_instance_uid=uid, analysable=True, settings=settings,
            now=time.time() - 1000,
        )  # fmt: skip

    def analyse(self, study: str) -> StudyDetail:
        close_due(self.db, now=time.time(), settings=self.config.study)
        with ThreadPoolExecutor(1) as decoders:
            assert self.analyser.run_once(decoders) == 1
        found = show(self.db, study)
        assert found is not None
        return found

    def captures(self) -> list[Dataset]:
        made = [dcmread(path) for path in self.spool.reports.rglob("*.dcm")]
        return [ds for ds in made if ds.get("SeriesNumber") == 9902]


def image(number: int = 1) -> Dataset:
    return radiograph(phantom.chest(62, "F", number, 256), study="saliency", number=number)


@pytest.fixture
def made(tmp_path: Path, estimator: Estimator) -> Iterator[Node]:
    node = Node(tmp_path, estimator, {"report": {"saliency": "grad-cam"}})
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
        values = {"report": {"saliency": "grad-cam"}, "destinations": destinations}
        node = Node(tmp_path, estimator, values)
        one = image()
        node.receive(one)
        detail = node.analyse(str(one.StudyInstanceUID))
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
        assert arrived.PixelData == capture.PixelData
        assert arrived.SourceImageSequence[0].ReferencedSOPInstanceUID == one.SOPInstanceUID
        assert capture.SOPInstanceUID not in archive.instances()
        node.db.close()


def test_none_is_made_unless_asked_for(tmp_path: Path, estimator: Estimator) -> None:
    node = Node(tmp_path, estimator, {})
    node.receive(image())
    assert kinds(node.analyse(str(image().StudyInstanceUID))) == ["sr"]
    node.db.close()


def test_a_late_image_brings_new_captures_of_all_in_the_same_series(made: Node) -> None:
    study = str(image().StudyInstanceUID)
    made.receive(image(1))
    made.analyse(study)
    made.receive(image(2))
    detail = made.analyse(study)
    assert kinds(detail) == ["sr", "saliency", "sr", "saliency", "saliency"]
    captures = made.captures()
    assert len({ds.SOPInstanceUID for ds in captures}) == 3
    assert len({ds.SeriesInstanceUID for ds in captures}) == 1


def test_a_failure_of_the_maps_costs_no_report(made: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(saliency, "explain", fails)
    made.receive(image())
    detail = made.analyse(str(image().StudyInstanceUID))
    assert kinds(detail) == ["sr"]
    assert detail.study.state in ("reported", "delivered")


def test_an_invalid_capture_is_not_stored(made: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    from dicom_ai_node.report import saliency as report

    monkeypatch.setattr(report, "source_image", lambda _: Dataset())
    made.receive(image())
    assert kinds(made.analyse(str(image().StudyInstanceUID))) == ["sr"]
    assert made.captures() == []


def test_a_full_disk_is_not_mistaken_for_a_fault_of_the_maps(
    made: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StorageError("spool: no room")

    monkeypatch.setattr(saliency, "store_report", full)
    made.receive(image())
    close_due(made.db, now=time.time(), settings=made.config.study)
    with ThreadPoolExecutor(1) as decoders, pytest.raises(StorageError, match="no room"):
        made.analyser.run_once(decoders)


def test_maps_that_would_come_too_late_are_left_out(made: Node) -> None:
    one = image()
    made.receive(one)
    names = (one.SOPClassUID, one.SOPInstanceUID, one.SeriesInstanceUID)
    files = [(ImageRef(*map(str, names)), next(made.spool.instances.rglob("*.dcm")))]
    pipeline = made.analyser.pipeline
    prepared = pipeline.prepare("1.2", files, priors=lambda _: (), today=date(2026, 3, 15))
    result = pipeline.conclude(prepared, pipeline.predict([prepared])[0])
    settings = made.config.report
    for deadline, count in ((time.monotonic() - 1, 0), (time.monotonic() + 600, 1)):
        captures = saliency.build_captures(
            pipeline.estimator, prepared, result, settings=settings, digest="d", deadline=deadline
        )
        assert len(captures) == count
