"""A real archive of one test: Orthanc on loopback, with DICOMweb and peers that it may send to."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
from pydicom import Dataset, dcmwrite

from tests.builders.ports import free_port
from tests.builders.processes import running
from tests.builders.waiting import wait_until
from tests.conftest import lacks, require_tool

AE_TITLE = "ORTHANC"
_PLUGINS = (Path("/usr/share/orthanc/plugins"), Path("/usr/local/share/orthanc/plugins"))


@dataclass
class Orthanc:
    """A running Orthanc and its REST interface."""

    dicom_port: int
    http_port: int
    http: httpx.Client

    @property
    def dicomweb(self) -> str:
        """Root of its DICOMweb service."""
        return f"http://127.0.0.1:{self.http_port}/dicom-web"

    def add(self, datasets: Iterable[Dataset]) -> None:
        """File data sets, each in the transfer syntax of its file meta information."""
        for dataset in datasets:
            buffer = BytesIO()
            dcmwrite(buffer, dataset, enforce_file_format=True)
            self.http.post("/instances", content=buffer.getvalue()).raise_for_status()

    def study(self, uid: str) -> dict[str, object]:
        """The study with that UID, as Orthanc describes it."""
        (one,) = self.http.post("/tools/lookup", content=uid).json()
        return dict(self.http.get(f"/studies/{one['ID']}").json())

    def instances(self) -> list[str]:
        """Orthanc's own names of all its instances."""
        return list(self.http.get("/instances").json())

    def modalities(self, uid: str) -> list[str]:
        """Modality of each of its series."""
        series = self.study(uid)["Series"]
        assert isinstance(series, list)
        tags = [self.http.get(f"/series/{one}").json()["MainDicomTags"] for one in series]
        return sorted(str(one["Modality"]) for one in tags)


@contextmanager
def orthanc_in(
    folder: Path,
    *,
    dicomweb: bool = False,
    peers: Mapping[str, tuple[str, int]] | None = None,
    **settings: Any,
) -> Iterator[Orthanc]:
    """Run an Orthanc below ``folder``.

    ``peers`` are AE title and port by name: the destinations of C-MOVE. ``settings`` are
    Orthanc's own.
    """
    program = require_tool("Orthanc")
    folder.mkdir(parents=True, exist_ok=True)
    dicom_port, http_port = free_port(), free_port()
    values = {
        "Name": "PACS",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "DicomAet": AE_TITLE,
        "DicomPort": dicom_port,
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowMove": True,
        "DicomAlwaysAllowStore": True,
        "DicomModalities": {
            name: [ae_title, "127.0.0.1", port] for name, (ae_title, port) in (peers or {}).items()
        },
        "Plugins": [_dicomweb_plugin()] if dicomweb else [],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    } | settings
    file = folder / "orthanc.json"
    file.write_text(json.dumps(values))
    with (
        running(program, file, log=folder / "orthanc.log"),
        httpx.Client(base_url=f"http://127.0.0.1:{http_port}", timeout=30) as http,
    ):

        def up() -> bool:
            try:
                return http.get("/system").status_code == 200
            except httpx.TransportError:
                return False

        wait_until("Orthanc", up)
        yield Orthanc(dicom_port, http_port, http)


def _dicomweb_plugin() -> str:
    found = [path for folder in _PLUGINS for path in folder.glob("libOrthancDicomWeb.so*")]
    return str(min(found)) if found else lacks("orthanc-dicomweb")
