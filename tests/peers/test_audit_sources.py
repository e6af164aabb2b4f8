"""The same studies in Orthanc by C-GET, C-MOVE and DICOMweb, and in DCMTK's dcmqrscp."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_ai_node import pixels
from dicom_ai_node.audit.campaign import AuditSpec
from dicom_ai_node.audit.sources import Fetched, Listed, Source
from dicom_ai_node.audit.sources.opening import open_source
from dicom_ai_node.audit.sources.selection import DistinctStudies
from dicom_ai_node.config import parse_config
from dicom_ai_node.demo.images import set_pixels, uid
from dicom_ai_node.errors import PeerUnavailable
from dicom_ai_node.rules import TextHeader
from tests.acceptance.harness import noise
from tests.builders.orthanc import Orthanc, orthanc_in
from tests.builders.ports import free_port
from tests.builders.processes import running
from tests.builders.receiving import Node, receiving
from tests.builders.waiting import wait_until_listening
from tests.conftest import require_tool

pytestmark = pytest.mark.peers

SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEG2000Lossless,
)
SPEC = AuditSpec(
    source="any", first_date=date(2026, 3, 13), last_date=date(2026, 3, 15), today=date(2026, 4, 1)
)


def image(study: str, number: int, syntax: Any, **values: object) -> Dataset:
    dataset = noise(study, number, **values)
    set_pixels(dataset, dataset_pixels(dataset), syntax)
    return dataset


def dataset_pixels(dataset: Dataset) -> Any:
    shape = (dataset.Rows, dataset.Columns)
    return np.frombuffer(dataset.PixelData, "<u2").reshape(shape)


def archive() -> list[Dataset]:
    """Six studies of two images, one of them of a series of CT beside; one study of CT alone."""
    found = []
    for number, syntax in enumerate(SYNTAXES):
        study = f"study{number}"
        about = {
            "PatientSex": "F" if number % 2 else "M",
            "PatientAge": f"{number + 40:03}Y",
            "PatientName": "Müller^Zoë",
            "StudyDate": f"202603{13 + number % 3}",
            "StationName": f"STATION{number}",
        }
        other = SYNTAXES[number - 1]
        found += [image(study, 1, syntax, **about), image(study, 2, other, **about)]
    ct = {"Modality": "CT", "StudyDate": "20260313"}
    found.append(
        image("study0", 3, SYNTAXES[0], SeriesInstanceUID=uid("demo", "study0", "ct"), **ct)
    )
    found.append(image("ct", 1, SYNTAXES[0], **ct))
    found.append(image("later", 1, SYNTAXES[0], StudyDate="20260316"))
    return found


@dataclass
class Place:
    orthanc: Orthanc
    node: Node
    move_port: int

    def source(self, name: str) -> Source:
        pacs = {"kind": "pacs", "host": "127.0.0.1", "port": self.orthanc.dicom_port}
        pacs |= {"ae_title": "ORTHANC", "timeout": 20.0}
        storage = self.node.config.storage
        tables: dict[str, Any] = {
            "get": pacs,
            "move": pacs
            | {"retrieve": "move", "move_ae_title": "AUDIT", "move_port": self.move_port}
            | {"move_bind": "127.0.0.1"},
            "tonode": pacs | {"retrieve": "move"},
            "web": {"kind": "web", "url": self.orthanc.dicomweb, "page": 2},
        }
        config = parse_config(
            {
                "sources": tables,
                "storage": {"spool": str(storage.spool), "database": storage.database},
            }
        )
        return open_source(name, config)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("archive")
    move_port = free_port()
    with receiving(folder) as node:
        peers = {"audit": ("AUDIT", move_port), "node": ("DICOMAINODE", node.port)}
        with orthanc_in(folder / "orthanc", dicomweb=True, peers=peers) as orthanc:
            orthanc.add(archive())
            yield Place(orthanc, node, move_port)


def listing(source: Source) -> dict[str, Listed]:
    found = {}
    for part in source.slices(SPEC):
        for one in DistinctStudies(None).of(source.list(SPEC, part)):
            assert one.key not in found
            found[one.key] = one
    return found


def contents(fetched: Fetched) -> dict[str, tuple[str, bytes, TextHeader]]:
    """Transfer syntax, pixel data element and header of each file by SOP Instance UID."""
    found = {}
    for path in fetched.files:
        dataset = dcmread(path)
        header = TextHeader.from_dataset(pixels.read_header(path))
        syntax = str(dataset.file_meta.TransferSyntaxUID)
        found[str(dataset.SOPInstanceUID)] = (syntax, dataset.PixelData, header)
    return found


def expected() -> dict[str, dict[str, tuple[str, bytes]]]:
    studies: dict[str, dict[str, tuple[str, bytes]]] = {}
    for one in archive():
        if one.Modality == "CR" and one.StudyDate in ("20260313", "20260314", "20260315"):
            content = str(one.file_meta.TransferSyntaxUID), one.PixelData
            studies.setdefault(one.StudyInstanceUID, {})[str(one.SOPInstanceUID)] = content
    return studies


SOURCES = ["pacs:get", "pacs:move", "pacs:tonode", "web:web"]


@pytest.mark.parametrize("name", SOURCES)
def test_the_studies_and_their_images_are_those_of_the_archive(
    place: Place, tmp_path: Path, name: str
) -> None:
    source = place.source(name)
    try:
        found = listing(source)
        assert found.keys() == expected().keys()
        for key, images in expected().items():
            fetched = source.fetch(found[key], tmp_path)
            assert (fetched.faults, fetched.expected) == ({}, 2)
            came = contents(fetched)
            assert {uid: one[:2] for uid, one in came.items()} == images
    finally:
        source.close()


def test_all_ways_bring_equal_headers(place: Place, tmp_path: Path) -> None:
    key = next(iter(expected()))
    headers = {}
    for name in SOURCES:
        folder = tmp_path / name.replace(":", "-")
        folder.mkdir()
        source = place.source(name)
        try:
            came = contents(source.fetch(listing(source)[key], folder))
        finally:
            source.close()
        headers[name] = {uid: header for uid, (_, _, header) in came.items()}
    first, *others = headers.values()
    assert all(one == first for one in others)


@pytest.mark.parametrize("name", ["pacs:get", "web:web"])
def test_headers_without_pixels_say_what_the_files_say(
    place: Place, tmp_path: Path, name: str
) -> None:
    source = place.source(name)
    try:
        for key, listed in listing(source).items():
            files = contents(source.fetch(listed, tmp_path))
            headers = source.headers(listed)
            assert len(headers) == len(files)
            (whole,) = {one[2].clean("PatientAge") for one in files.values()}
            for header in headers:
                assert header.clean("PatientAge") == whole
                assert header.clean("PatientName") == "Müller^Zoë"
                assert header.clean("StudyInstanceUID") == key
                assert header.clean("Modality") == "CR"
                assert header.clean("StationName").startswith("STATION")
    finally:
        source.close()


@pytest.mark.parametrize("name", SOURCES)
def test_a_probe_is_answered_and_that_of_a_peer_that_ended_is_not(
    place: Place, tmp_path: Path, name: str
) -> None:
    source = place.source(name)
    source.probe()
    source.probe()
    source.close()
    with orthanc_in(tmp_path / "orthanc", dicomweb=True) as short_lived:
        source = replace(place, orthanc=short_lived).source(name)
        source.probe()
    with pytest.raises(PeerUnavailable):
        source.probe()
    source.close()


@contextmanager
def dcmqrscp(folder: Path, files: list[Path], *, move_port: int) -> Iterator[int]:
    """Run DCMTK's archive over ``files``; give its port."""
    port, data = free_port(), folder / "data"
    data.mkdir()
    settings = folder / "dcmqrscp.cfg"
    settings.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        f"HostTable BEGIN\naudit = (AUDIT, localhost, {move_port})\nHostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nPACS {data} RW (200, 1024mb) ANY\nAETable END\n"
    )
    subprocess.run([require_tool("dcmqridx"), str(data), *map(str, files)], check=True)
    command = [require_tool("dcmqrscp"), "-c", str(settings), "+x=", str(port)]
    with running(*command, log=folder / "dcmqrscp.log"):
        wait_until_listening(port)
        yield port


@pytest.mark.parametrize("retrieve", ["get", "move"])
def test_dcmqrscp_gives_what_it_was_given(tmp_path: Path, retrieve: str) -> None:
    native = [one for one in archive() if one.file_meta.TransferSyntaxUID in SYNTAXES[:2]]
    files = []
    for number, dataset in enumerate(native):
        files.append(tmp_path / f"{number}.dcm")
        dataset.save_as(files[-1], enforce_file_format=True)
    move_port = free_port()
    came = tmp_path / "came"
    came.mkdir()
    with dcmqrscp(tmp_path, files, move_port=move_port) as port:
        table = {"kind": "pacs", "host": "127.0.0.1", "port": port, "ae_title": "PACS"}
        table |= {"retrieve": retrieve, "move_ae_title": "AUDIT", "move_port": move_port}
        source = open_source("pacs:main", parse_config({"sources": {"main": table}}))
        try:
            source.probe()
            found = listing(source)
            truth = {key: {one: content for one, content in images.items()
                           if content[0] in SYNTAXES[:2]}
                     for key, images in expected().items()}  # fmt: skip
            assert found.keys() == {key for key, images in truth.items() if images}
            for key, listed in found.items():
                fetched = source.fetch(listed, came)
                assert (fetched.faults, fetched.expected) == ({}, len(truth[key]))
                pixels_of = {uid: one[1] for uid, one in contents(fetched).items()}
                assert pixels_of == {uid: one[1] for uid, one in truth[key].items()}
        finally:
            source.close()
