"""A node between modality and archive: what Orthanc has in the end, held against what was sent."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import CTImageStorage, JPEGLosslessSV1

from dicom_ai_node.demo.images import radiograph, set_pixels
from dicom_ai_node.demo.validators import dciodvfy
from dicom_ai_node.report.copies import difference
from dicom_ai_node.report.copies.source import opened
from dicom_ai_node.store import Database
from dicom_ai_node.store.queries import show
from tests.acceptance.harness import Node, send
from tests.builders.orthanc import Orthanc, orthanc_in
from tests.builders.waiting import wait_until
from tests.peers.test_report_validators import _require_dicom3tools

pytestmark = pytest.mark.peers

BORN = {"PatientBirthDate": "19600101", "StudyDate": "20260314"}


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    with orthanc_in(tmp_path / "orthanc") as running:
        yield running


def image(study: str, **values: Any) -> Dataset:
    seed = sum(study.encode())
    pixels = np.random.default_rng(seed).integers(0, 4096, (64, 48), dtype=np.uint16)
    made = radiograph(pixels, study=study, **values)
    if study == "jpeg":
        set_pixels(made, pixels, JPEGLosslessSV1)
    return made


def images() -> dict[str, Dataset]:
    return {
        "plain": image("plain", **BORN),
        "jpeg": image("jpeg", **BORN),
        "other class": image("other class", SOPClassUID=CTImageStorage, Modality="CT", **BORN),
        "has an age": image("has an age", PatientAge="066Y", **BORN),
        "no birth date": image("no birth date"),
    }


def encoded(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def held(orthanc: Orthanc, kind: str = "CT CR") -> dict[str, bytes]:
    """The archive's files of images, by SOP Instance UID."""
    found = {}
    for name in orthanc.http.get("/instances").json():
        tags = orthanc.http.get(f"/instances/{name}/simplified-tags").json()
        if tags["Modality"] in kind:
            content = orthanc.http.get(f"/instances/{name}/file").content
            found[tags["SOPInstanceUID"]] = content
    return found


def forwarded(node: Node) -> list[tuple[str, str]]:
    """Kind and state of every image in the outbox."""
    db = Database(node.config.storage.database)
    try:
        details = [show(db, row.study_instance_uid) for row in node.studies()]
    finally:
        db.close()
    return sorted(
        (one["kind"], one["state"])
        for detail in details
        if detail is not None
        for one in detail.deliveries
        if one["kind"] in ("received", "coerced")
    )


def faults(path: Path, content: bytes) -> set[str]:
    path.write_bytes(content)
    return set(dciodvfy(path))


def test_the_archive_has_what_was_sent_and_the_ages_that_were_missing(
    tmp_path: Path, orthanc: Orthanc
) -> None:
    _require_dicom3tools()
    node = Node(
        tmp_path / "node",
        destinations={"orthanc": ("ORTHANC", orthanc.dicom_port)},
        extra='[fill]\nauto_accept = ["dates"]',
        kept_classes=[CTImageStorage],
    )
    node.path.write_text(node.path.read_text() + 'forward = "coerced"\n')
    sent = images()
    with node:
        assert send(node.port, list(sent.values())) == [0x0000] * len(sent)
        wait_until("all images", lambda: len(held(orthanc)) == len(sent))
        node.wait_settled(len(sent))
        back = held(orthanc)
        for name, dataset in sent.items():
            before, after = encoded(dataset), back[str(dataset.SOPInstanceUID)]
            changed = {one.path[:11] for one in difference(before, after)} - {""}
            changed = {one for one in changed if not one.startswith("(0002")}
            if name in ("plain", "jpeg"):
                copy = dcmread(BytesIO(after))
                assert copy.PatientAge == "066Y"
                assert copy.PixelData == dataset.PixelData
                assert copy.file_meta.TransferSyntaxUID == dataset.file_meta.TransferSyntaxUID
                assert {"(0010,1010)", "(0400,0561)"} <= changed
                rest = changed - {"(0010,1010)", "(0400,0561)"}
                assert rest
                assert all(one.startswith("(4149") for one in rest)
            else:
                assert opened(after).data == opened(before).data, name
            assert faults(tmp_path / "after.dcm", after) <= faults(tmp_path / "before.dcm", before)
        expected = [("coerced", "delivered")] * 2 + [("received", "delivered")] * 3
        assert forwarded(node) == expected

        # What the archive sends back goes no second time round.
        orthanc.http.put(
            "/modalities/node", json={"AET": "DICOMAINODE", "Host": "127.0.0.1", "Port": node.port}
        ).raise_for_status()
        orthanc.http.post(
            "/modalities/node/store",
            json={"Resources": orthanc.http.get("/instances").json(), "Synchronous": True},
        ).raise_for_status()
        last = image("last")
        assert send(node.port, [last]) == [0x0000]
        wait_until("the last image", lambda: str(last.SOPInstanceUID) in held(orthanc))
        node.wait_settled(len(sent) + 1)
        assert forwarded(node) == [*expected, ("received", "delivered")]
        assert {uid: held(orthanc)[uid] for uid in back} == back
        log = node.log.read_text()
        assert log.count("own_report_ignored") >= 2
        for secret in ("066Y", str(last.StudyInstanceUID), "Demo^"):
            assert secret not in log
