"""DCMTK's storescu and echoscu send to a receiver, real images among others."""

import csv
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3
from pydicom import dcmread
from pydicom.uid import JPEGLosslessSV1

from dicom_ai_node.dicom.classes import storage_classes
from dicom_ai_node.dicom.syntaxes import ACCEPTED_SYNTAXES
from tests.builders.receiving import Node, dcmtk, radiograph, receiving
from tests.conftest import lacks

pytestmark = pytest.mark.peers

# How storescu of DCMTK 3.6.7 is told to propose a syntax; it knows no HTJ2K and no JPEG process 14.
_OPTION = {
    "1.2.840.10008.1.2": "-xi",
    "1.2.840.10008.1.2.1": "-xe",
    "1.2.840.10008.1.2.2": "-xb",
    "1.2.840.10008.1.2.1.99": "-xd",
    "1.2.840.10008.1.2.4.50": "-xy",
    "1.2.840.10008.1.2.4.51": "-xx",
    JPEGLosslessSV1: "-xs",
    "1.2.840.10008.1.2.4.80": "-xt",
    "1.2.840.10008.1.2.4.81": "-xu",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.4.91": "-xw",
    "1.2.840.10008.1.2.5": "-xr",
}


def program(name: str) -> str:
    return dcmtk(name) or lacks(f"DCMTK {name}")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with receiving(tmp_path, storage={"min_free_mb": 0}) as node:
        yield node


def dcmtk_run(name: str, *options: str, port: int, files: tuple[str, ...] = ()) -> int:
    command = [program(name), *options, "-aec", "DICOMAINODE", "127.0.0.1", str(port), *files]
    return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode


def test_echo(node: Node) -> None:
    assert dcmtk_run("echoscu", port=node.port) == 0


def test_echo_calling_another_title_is_rejected(node: Node) -> None:
    command = [program("echoscu"), "-aec", "OTHER", "127.0.0.1", str(node.port)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode != 0
    assert "Called AE Title Not Recognized" in answer.stdout + answer.stderr


@pytest.mark.parametrize("pdu", ["4096", "16384", "131072"])
def test_a_folder_over_one_association(node: Node, tmp_path: Path, pdu: str) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(5):
        radiograph(seed=seed).save_as(folder / f"{seed}.dcm", enforce_file_format=True)
    sent = ("--max-send-pdu", pdu, "+sd")
    assert dcmtk_run("storescu", *sent, port=node.port, files=(str(folder),)) == 0
    assert len(node.rows("SELECT * FROM instance")) == 5
    assert len(node.files("instances")) == 5


def real_images(shared_data: Path) -> dict[str, list[Path]]:
    """Up to two small real images for each transfer syntax, of classes that are accepted."""
    found: dict[str, list[Path]] = {}
    with (shared_data / "dicom" / "index.csv").open() as file:
        for row in csv.DictReader(file):
            path, syntax = shared_data / row["path"], row["transfer_syntax"]
            fits = row["sop_class"] in storage_classes() and syntax in ACCEPTED_SYNTAXES
            if fits and path.is_file() and path.stat().st_size < 2_000_000 and _can_be_sent(path):
                found.setdefault(syntax, []).append(path)
    return {syntax: paths[:2] for syntax, paths in found.items()}


def _can_be_sent(path: Path) -> bool:
    """Some collections carry names in place of UIDs; those are refused (see the unit tests)."""
    keywords = ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"]
    ds = dcmread(path, specific_tags=keywords)
    values = [ds.get_item(keyword).value if keyword in ds else b"" for keyword in keywords]
    return all(re.fullmatch(rb"[0-9.]{1,64}\0?", value or b"") for value in values)


def test_real_images_arrive_byte_by_byte_in_their_syntax(node: Node, shared_data: Path) -> None:
    images = real_images(shared_data)
    sent = set()
    for syntax, paths in images.items():
        if syntax not in _OPTION:
            continue
        for path in paths:
            files = (str(path),)
            assert dcmtk_run("storescu", _OPTION[syntax], port=node.port, files=files) == 0, path
            sent.add((str(dcmread(path, stop_before_pixels=True).SOPInstanceUID), syntax))
    rows = node.rows("SELECT sop_instance_uid, transfer_syntax_uid, digest, path FROM instance")
    assert {row[:2] for row in rows} == sent
    assert len({syntax for _, syntax in sent}) >= 4
    for _, syntax, digest, path in rows:
        content = (node.spool / path).read_bytes()
        meta = dcmread(node.spool / path, specific_tags=[]).file_meta
        assert meta.TransferSyntaxUID == syntax
        # 128 bytes, "DICM", the group length element of 12 bytes, and what it counts
        offset = 144 + meta.FileMetaInformationGroupLength
        assert blake3(content[offset:]).hexdigest() == digest
