"""A header that is cut off, or takes too much: refused in words wherever a header is read."""

import json
import struct
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread, dcmwrite
from typer.testing import CliRunner

from dicom_ai_node.audit.campaign import AuditSpec
from dicom_ai_node.audit.sources.opening import open_source
from dicom_ai_node.cli import app
from dicom_ai_node.config import load_config
from dicom_ai_node.demo import phantom
from dicom_ai_node.demo.images import radiograph as chest
from tests.builders.dicom_bytes import EXPLICIT
from tests.builders.receiving import (
    DX,
    associated,
    encoded,
    radiograph,
    receiving,
    send_bytes,
)

CONFIG = "[limits]\nelements = 1000\ndepth = 6\nelement_bytes = 70000\nheader_bytes = 80000\n"
SPECIES, PRIVATE = 0x00102202, 0x00091001


OVERRUNNING = struct.pack("<HHL", 0xFFFE, 0xE000, 99)
"""An item that is longer than its sequence."""


def deep() -> bytes:
    value = b""
    for _ in range(8):
        value = EXPLICIT.sequence(SPECIES, [EXPLICIT.item(value)])
    return value


TOO_MUCH = {
    "elements": EXPLICIT.sequence(SPECIES, [EXPLICIT.item(b"") * 1200], undefined=True),
    "depth": deep(),
    "element_bytes": EXPLICIT.element(PRIVATE, "OB", bytes(75_000)),
    "header_bytes": b"".join(
        EXPLICIT.element(PRIVATE + number, "OB", bytes(45_000)) for number in range(2)
    ),
}
"""What goes beyond one limit of CONFIG, by the name of that limit."""


def before(data: bytes, attribute: bytes, more: bytes) -> bytes:
    at = data.index(attribute)
    return data[:at] + more + data[at:]


def damaged(data: bytes) -> dict[str, tuple[bytes, str]]:
    """A data set with everything that may be wrong with its header, and what is said of it."""
    sex, name = b"\x10\0\x40\0CS", b"\x10\0\x10\0PN"
    place = data.index(sex)
    found = {
        "cut": (data[:place], "ends within its header, behind (0010,"),
        "within": (data[: place + 6], "ends within its header, at (0010,0040) PatientSex"),
        "nested": (
            before(
                data, sex, EXPLICIT.sequence(SPECIES, [struct.pack("<HHL", 0xFFFE, 0xE000, 99)])
            ),
            "cannot be followed, at (0010,2202) PatientSpeciesCodeSequence",
        ),
    }
    for key, more in TOO_MUCH.items():
        at = name if struct.unpack_from("<H", more)[0] < 0x10 else sex
        found[key] = (before(data, at, more), f"limits.{key} = ")
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One good file, and damaged ones of the same image."""
    files = tmp_path / "files"
    files.mkdir()
    image = chest(phantom.chest(62, "F", 1, 128), study="good", PatientName="Secret^Patient")
    dcmwrite(files / "good.dcm", image, enforce_file_format=True)
    content = (files / "good.dcm").read_bytes()
    for name, (data, _) in damaged(content).items():
        (files / f"{name}.dcm").write_bytes(data)
    (tmp_path / "node.toml").write_text(CONFIG)
    return files


def expected(folder: Path) -> dict[str, str]:
    content = (folder / "good.dcm").read_bytes()
    return {name: why for name, (_, why) in damaged(content).items()}


def lines(*arguments: object) -> tuple[int, dict[str, dict[str, Any]]]:
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    documents = [json.loads(line) for line in done.stdout.splitlines()]
    return done.exit_code, {Path(one["path"]).stem: one for one in documents}


def test_check_header_says_where_and_goes_on(folder: Path) -> None:
    config = folder.parent / "node.toml"
    code, documents = lines("check-header", "--json", "-c", config, folder)
    assert code == 1
    good = documents.pop("good")
    assert good["error"] is None
    assert documents.keys() == expected(folder).keys()
    for name, why in expected(folder).items():
        assert why in documents[name]["error"]
        assert documents[name]["status"] is None
        assert documents[name]["proposals"] == documents[name]["findings"] == []
        assert "Secret" not in documents[name]["error"]
    # Within the limits as they come, the others have no fault but the cut.
    _, documents = lines("check-header", "--json", folder)
    assert {name for name, one in documents.items() if one["error"]} == {"cut", "within", "nested"}


def test_infer_refuses_them_and_answers_for_the_others(folder: Path) -> None:
    code, documents = lines("infer", "--json", "-c", folder.parent / "node.toml", folder)
    assert code == 1
    assert documents["good"]["recorded"] is not None
    for name, why in expected(folder).items():
        assert documents[name]["outcome"] == "refused"
        assert documents[name]["reason"]["code"] == "unreadable"
        assert why in documents[name]["reason"]["text"]
        assert documents[name]["status"] is None


def test_an_audit_has_a_fault_for_each(folder: Path, tmp_path: Path) -> None:
    source = open_source(f"folder:{folder}", load_config(tmp_path / "node.toml"))
    spec = AuditSpec(source=source.name, today=date(2026, 11, 1))
    found = [one for part in source.slices(spec) for one in source.list(spec, part)]
    faults = {one.fault.partition(".dcm: ")[0]: one.fault for one in found if one.fault}  # type: ignore[union-attr]
    assert faults.keys() == expected(folder).keys()
    for name, why in expected(folder).items():
        assert why in faults[name]
    assert [one for one in found if not one.fault]  # type: ignore[union-attr]


def test_the_receiver_refuses_them_and_goes_on(tmp_path: Path) -> None:
    limits = {"elements": 1000, "depth": 6, "element_bytes": 70_000, "header_bytes": 80_000}
    good = radiograph()
    good.PatientSex = "F"
    found = damaged(encoded(good))
    with receiving(tmp_path, limits=limits) as node, associated(node.port) as association:
        for data, _ in found.values():
            sop = str(good.SOPInstanceUID)
            assert send_bytes(association, data, sop_class=DX, sop=sop) == 0xC000
        assert association.send_c_store(good).Status == 0
        reasons = [row[0] for row in node.rows("SELECT reason FROM quarantine ORDER BY rowid")]
        assert len(reasons) == len(found)
        for reason, (_, why) in zip(reasons, found.values(), strict=True):
            assert why in reason
        assert len(node.files("instances")) == 1
        kept = [path for path in node.files("quarantine") if path.suffix == ".dcm"]
        assert len(kept) == len(found)
        assert dcmread(node.files("instances")[0]).PatientSex == "F"
