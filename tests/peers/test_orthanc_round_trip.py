"""A real PACS: Orthanc forwards studies to the node, the reports land in the source studies."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from dicom_ai_node.demo import phantom
from dicom_ai_node.demo.images import radiograph
from dicom_ai_node.report.validators import dciodvfy
from tests.acceptance.harness import Node, free_port, wait_until
from tests.conftest import require_tool

pytestmark = pytest.mark.peers


@dataclass
class Orthanc:
    """A running Orthanc and its REST interface."""

    dicom_port: int
    http: httpx.Client

    def study(self, uid: str) -> dict[str, object]:
        (one,) = self.http.post("/tools/lookup", content=uid).json()
        return dict(self.http.get(f"/studies/{one['ID']}").json())

    def modalities(self, uid: str) -> list[str]:
        series = self.study(uid)["Series"]
        assert isinstance(series, list)
        tags = [self.http.get(f"/series/{one}").json()["MainDicomTags"] for one in series]
        return sorted(str(one["Modality"]) for one in tags)


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    program = require_tool("Orthanc")
    dicom_port, http_port = free_port(), free_port()
    settings = {
        "Name": "PACS",
        "StorageDirectory": str(tmp_path / "orthanc"),
        "IndexDirectory": str(tmp_path / "orthanc"),
        "DicomAet": "ORTHANC",
        "DicomPort": dicom_port,
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowStore": True,
        "Plugins": [],
    }
    file = tmp_path / "orthanc.json"
    file.write_text(json.dumps(settings))
    process = subprocess.Popen(
        [program, str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    with httpx.Client(base_url=f"http://127.0.0.1:{http_port}", timeout=30) as http:

        def up() -> bool:
            try:
                return http.get("/system").status_code == 200
            except httpx.TransportError:
                return False

        wait_until("Orthanc", up)
        yield Orthanc(dicom_port, http)
    process.terminate()
    process.wait(timeout=30)


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
