"""A real PACS: Orthanc forwards studies to the node, the reports land in the source studies."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_ai_node.demo import phantom
from dicom_ai_node.demo.images import radiograph
from dicom_ai_node.demo.validators import dciodvfy
from tests.acceptance.harness import Node
from tests.builders.orthanc import Orthanc, orthanc_in
from tests.conftest import require_tool

pytestmark = pytest.mark.peers


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    with orthanc_in(tmp_path / "orthanc") as running:
        yield running


def test_reports_land_in_the_source_study(tmp_path: Path, orthanc: Orthanc) -> None:
    storescu = require_tool("storescu")
    images = [
        radiograph(phantom.chest(60.0, "F", seed=1), study="orthanc-f", PatientSex="F"),
        radiograph(phantom.chest(40.0, "M", seed=2), study="orthanc-m", PatientAge="040Y"),
        radiograph(phantom.hand(seed=1), study="orthanc-hand"),
        radiograph(
            phantom.chest(50.0, "M", seed=3),
            study="orthanc-ok",
            PatientAge="050Y",
            PatientSex="M",
            PatientBirthDate="19750601",
        ),
    ]
    with Node(tmp_path / "node", destinations={"orthanc": ("ORTHANC", orthanc.dicom_port)}) as node:
        files = []
        for number, image in enumerate(images):
            path = tmp_path / f"{number}.dcm"
            image.save_as(path, enforce_file_format=True)
            files.append(str(path))
        modality = [storescu, "-aec"]
        to_pacs = [*modality, "ORTHANC", "127.0.0.1", str(orthanc.dicom_port)]
        to_node = [*modality, "DICOMAINODE", "127.0.0.1", str(node.port)]
        subprocess.run([*to_pacs, *files], check=True)
        subprocess.run([*to_node, *files], check=True)
        rows = node.wait_settled(len(images))
        assert {row.state for row in rows} == {"delivered"}
    for image in images:
        assert orthanc.modalities(image.StudyInstanceUID) == ["CR", "SR"]
    patients = orthanc.http.get("/patients").json()
    assert len(patients) == len(images), "a report must not split or merge patients"
    for instance in orthanc.http.get("/instances").json():
        content = orthanc.http.get(f"/instances/{instance}/file").content
        path = tmp_path / f"{instance}.dcm"
        path.write_bytes(content)
        assert dciodvfy(path) == []
