"""What foreign programs say of copies: dciodvfy, dcentvfy and DCMTK's dcmdump."""

import re
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.demo.images import radiograph, set_pixels
from dicom_ai_node.demo.validators import dcentvfy, dciodvfy
from dicom_ai_node.errors import FillError
from dicom_ai_node.report.copies import Fill, coerced, filled_copy
from dicom_ai_node.report.copies.source import opened
from tests.builders.corpus import carried, completed
from tests.builders.reports import MODEL
from tests.conftest import require_tool
from tests.peers.test_report_validators import _require_dicom3tools

pytestmark = pytest.mark.peers

AT = datetime(2024, 3, 16, 8, 0, tzinfo=UTC)
COMPUTED = Fill("PatientAge", "063Y", "dates", rules=("B3",))
INFERRED = Fill("PatientAge", "063Y", "inference", low=55.1, high=71.2, rules=("B3",))
SEX = Fill("PatientSex", "F", "inference", probability=0.991, actor="somebody")
MODES = ("B", "C", "D")
DEFLATED = DeflatedExplicitVRLittleEndian
SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    RLELossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEG2000Lossless,
)
"""dciodvfy does not read DEFLATED."""
INTENDED = (
    *("(0008,0008)", "(0008,0012)", "(0008,0013)", "(0008,0014)", "(0008,0018)", "(0008,103e)"),
    *("(0008,2111)", "(0008,2112)", "(0010,0040)", "(0010,1010)", "(0010,4000)", "(0018,a001)"),
    *("(0020,000e)", "(0020,0011)", "(0400,0561)"),
)


def source_of(syntax: UID = ExplicitVRLittleEndian, **values: Any) -> bytes:
    pixels = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)
    image = radiograph(pixels, study="copies", **values)
    set_pixels(image, pixels, syntax)
    buffer = BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def copy_of(mode: str, content: bytes) -> bytes:
    if mode == "D":
        return coerced(content, COMPUTED, at=AT).content
    fills = [COMPUTED] if mode == "B" else [INFERRED, SEX]
    settings = ReportSettings()
    copy = filled_copy(content, fills, at=AT, settings=settings, model=MODEL, allow_sex=True)
    return copy.content


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / f"{name}.dcm"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda each: each.name)
def test_a_sound_source_makes_a_copy_without_an_error(
    syntax: UID, mode: str, tmp_path: Path
) -> None:
    _require_dicom3tools()
    content = source_of(syntax)
    assert dciodvfy(written(tmp_path, "source", content)) == []
    assert dciodvfy(written(tmp_path, "copy", copy_of(mode, content))) == []


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda each: each.name)
@pytest.mark.parametrize("before", ["", "UP_EXM", "KNEE"])
def test_a_body_part_makes_a_copy_without_an_error(
    syntax: UID, before: str, tmp_path: Path
) -> None:
    """In place of none, of one that is no defined term, and of another one."""
    _require_dicom3tools()
    source = source_of(syntax, BodyPartExamined=before)
    for fill in (
        Fill("BodyPartExamined", "CHEST", "header", rules=("J2",), actor="somebody"),
        Fill("BodyPartExamined", "CHESTABDOMEN", "inference", probability=0.97, rules=("J1",)),
    ):
        copy = filled_copy(source, [fill, COMPUTED], at=AT, settings=ReportSettings(), model=MODEL)
        path = written(tmp_path, fill.source, copy.content)
        assert dciodvfy(path) == []
        read = pydicom.dcmread(path)
        assert (read.BodyPartExamined, read.PatientAge) == (fill.value, "063Y")
        (original,) = read.OriginalAttributesSequence
        assert original.ReasonForTheAttributeModification == ("CORRECT" if before else "COERCE")
        assert fill.sentence in read.ContributingEquipmentSequence[-1].ContributionDescription


@pytest.mark.parametrize("mode", MODES)
def test_an_unsound_value_brings_no_error_into_the_copy(mode: str, tmp_path: Path) -> None:
    """Not even where the copy keeps it."""
    _require_dicom3tools()
    content = _with_age(source_of(), b"64")
    assert any("PatientAge" in line for line in dciodvfy(written(tmp_path, "source", content)))
    assert dciodvfy(written(tmp_path, "copy", copy_of(mode, content))) == []


def test_dcentvfy_sees_the_intended_difference_alone(tmp_path: Path) -> None:
    _require_dicom3tools()
    source = written(tmp_path, "source", source_of(PatientAge="021Y", PatientSex="M"))
    for mode, differing in {"B": {"PatientAge"}, "C": {"PatientAge", "PatientSex"}}.items():
        copy = written(tmp_path, mode, copy_of(mode, source.read_bytes()))
        errors = dcentvfy([source, copy])
        assert {re.findall(r"Element=<(\w+)>", line)[0] for line in errors} == differing


def test_dcentvfy_sees_no_difference_where_there_was_no_value(tmp_path: Path) -> None:
    _require_dicom3tools()
    source = written(tmp_path, "source", source_of())
    copy = written(tmp_path, "copy", copy_of("B", source.read_bytes()))
    assert dcentvfy([source, copy]) == []


@pytest.fixture(scope="module")
def real() -> list[tuple[Path, bytes]]:
    """The files of pydicom's package that copies can be made of, completed where it takes that."""
    found = []
    for path in carried():
        content = completed(path)
        if content is not None and "DICOMDIR" not in path.name:  # that one counts bytes itself
            with suppress(FillError):
                copy_of("C", content)
                found.append((path, content))
    assert len(found) > 100
    return found


@pytest.mark.timeout(900)
def test_real_files_bring_no_error_but_their_own(
    real: list[tuple[Path, bytes]], tmp_path: Path
) -> None:
    _require_dicom3tools()
    whole = [
        (path, content)
        for path, content in real
        if content == path.read_bytes() and opened(content).transfer_syntax_uid != DEFLATED
    ]
    for path, content in whole[::8]:
        own = set(map(_fault, dciodvfy(written(tmp_path, "source", content))))
        for mode in ("C", "D"):
            copy = written(tmp_path, "copy", copy_of(mode, content))
            assert set(map(_fault, dciodvfy(copy))) <= own, (path.name, mode)


@pytest.mark.timeout(900)
def test_dcmdump_prints_every_other_element_alike(
    real: list[tuple[Path, bytes]], tmp_path: Path
) -> None:
    program = require_tool("dcmdump")
    compared = 0
    for path, content in real:
        before = _dumped(program, written(tmp_path, "source", content))
        for mode in ("C", "D"):
            after = _dumped(program, written(tmp_path, "copy", copy_of(mode, content)))
            for tag in before.keys() | after.keys():
                if not _intended(tag):
                    assert before.get(tag) == after.get(tag), (path.name, mode, tag)
                    compared += 1
    assert compared > 5000


def _intended(tag: str) -> bool:
    group, element = tag[1:5], tag[6:10]
    length = element in ("0000", "0001") and any(each[1:5] == group for each in INTENDED)
    return tag in INTENDED or group in ("0002", "4149") or length


def _dumped(program: str, path: Path) -> dict[str, list[str]]:
    """What dcmdump prints of each element of the top level, with all below it."""
    done = subprocess.run([program, "-q", "+L", str(path)], capture_output=True, check=False)
    lines = done.stdout.decode("latin-1").splitlines()
    elements: dict[str, list[str]] = {}
    tag = ""
    for line in lines:
        if re.match(r"\([0-9a-f]{4},[0-9a-f]{4}\)", line) and not line.startswith("(fffe,e0"):
            tag = line[:11]
        elements.setdefault(tag, []).append(line)
    elements.pop("", None)
    return elements


def _fault(line: str) -> str:
    """What is wrong with a value, without where in the data set it stands."""
    line = re.sub(r" - Module=<\w+>", "", line)
    return re.sub(r"</.*?> - (Illegal root)", r"\1", line)


def _with_age(content: bytes, value: bytes) -> bytes:
    """Put a PatientAge behind PatientSex, which the samples leave empty."""
    sex = b"\x10\x00\x40\x00CS\0\0"
    assert content.count(sex) == 1
    age = b"\x10\x00\x10\x10AS" + len(value).to_bytes(2, "little") + value
    return content.replace(sex, sex + age)
