"""What four foreign validators say of every kind of report, in every SOP class.

A sound header: no error at all. A dirty one: no error but those that the same validator finds in
the source itself, because its patient and study are copied as they are.
"""

import re
import subprocess
import sys
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.demo.validators import dcentvfy, dciodvfy
from dicom_ai_node.dicom.uids import uid_of
from dicom_ai_node.dicom.values import text_of
from dicom_ai_node.report.build import build_reports, build_saliency
from dicom_ai_node.report.check import check_report
from dicom_ai_node.report.elements import encode, verbatim
from dicom_ai_node.report.identity import Predecessor
from dicom_ai_node.report.text import subject
from tests.builders.questions import question_samples
from tests.builders.reports import Sample, estimated, explained, samples, source
from tests.conftest import REQUIRE_PEERS, lacks, require_tool

pytestmark = pytest.mark.peers

SAMPLES = samples() | question_samples()
KINDS = [*sorted(SAMPLES), "superseding"]
PIXELMED = Path("/usr/share/java/pixelmed.jar")
BATCH = """
public class Batch {
  public static void main(String[] files) throws Exception {
    var validator = new com.pixelmed.validate.DicomSRValidator();
    for (var file : files) System.out.println("=== " + file + "\\n" + validator.validate(file));
  }
}
"""
DIRTY: dict[str, dict[str, Any]] = {
    "siim_like": {
        "PatientAge": b"64",
        "PatientID": b"",
        "PatientName": b"",
        "PatientBirthDate": b"",
        "SOPClassUID": b"1.2.840.10008.5.1.4.1.1.7",
        "Modality": b"CR",
    },
    "bad_dates_and_sex": {"PatientBirthDate": b"1961.04.15", "PatientSex": b"Male"},
    "utf8": {"SpecificCharacterSet": b"ISO_IR 192", "PatientName": "Йожев^Ян".encode()},
    "iso2022": {
        "SpecificCharacterSet": rb"\ISO 2022 IR 87",
        "PatientName": b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
    },
    "no_charset": {"SpecificCharacterSet": None, "PatientName": b"M\xfcller^J\xf6rg"},
    "no_patient": dict.fromkeys(
        ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge")
    ),
}


def write(
    folder: Path, name: str, sample: Sample, *, predecessor: Predecessor | None = None
) -> list[Path]:
    """Write all objects of a report, the captures last; each passes our own check."""
    settings = ReportSettings(secondary_capture=True, saliency="grad-cam")
    given: dict[str, Any] = {
        "settings": settings,
        "rules_version": "7",
        "digest": name,
        "created": datetime(2024, 3, 16, 8, 0),
    }
    reports = (
        *build_reports(sample.result, sample.sources, predecessor=predecessor, **given),
        *build_saliency(sample.result, sample.sources, explained(sample), **given),
    )
    paths = []
    for number, report in enumerate(reports):
        for file in report.files:
            check_report(
                file.content, sources=sample.sources, subject=report.subject, result=sample.result
            )
            code = file.sop_class_uid.rsplit(".", 1)[1]
            paths.append(folder / f"{name}-{report.kind}-{number}-{code}.dcm")
            paths[-1].write_bytes(file.content)
    return paths


def write_source(folder: Path, name: str, header: Dataset) -> Path:
    """Write a header as a file, its values as they are."""
    path = folder / f"{name}-source.dcm"
    path.write_bytes(_file_of(header))
    return path


def of_kind(kind: str) -> Sample:
    return SAMPLES["one_image" if kind == "superseding" else kind]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """The objects of each kind of report."""
    folder = tmp_path_factory.mktemp("sound")
    written = {kind: write(folder, kind, of_kind(kind)) for kind in SAMPLES}
    old = [pydicom.dcmread(path) for path in written["one_image"][:3]]
    before = Predecessor(
        old[0].SeriesInstanceUID, {str(ds.SOPClassUID): str(ds.SOPInstanceUID) for ds in old}
    )
    kind = "superseding"
    return written | {kind: write(folder, kind, of_kind(kind), predecessor=before)}


@pytest.mark.parametrize("kind", KINDS)
def test_dciodvfy_finds_no_error(kind: str, sound: dict[str, list[Path]]) -> None:
    _require_dicom3tools()
    assert {path.name: dciodvfy(path) for path in sound[kind]} == {
        path.name: [] for path in sound[kind]
    }


@pytest.mark.parametrize("kind", KINDS)
def test_dcentvfy_finds_reports_and_sources_at_one(
    kind: str, sound: dict[str, list[Path]], tmp_path: Path
) -> None:
    _require_dicom3tools()
    headers = [
        write_source(tmp_path, f"{number}", header)
        for number, header in enumerate(of_kind(kind).sources)
    ]
    replaced = sound["one_image"] if kind == "superseding" else []
    assert dcentvfy([*headers, *replaced, *sound[kind]]) == []


@pytest.mark.parametrize("kind", KINDS)
def test_dcmtk_reads_every_structured_report(kind: str, sound: dict[str, list[Path]]) -> None:
    program = require_tool("dsrdump")
    for path in sound[kind][:3]:
        done = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"{subject(of_kind(kind).result)}, not verified" in done.stdout


@pytest.mark.timeout(1800)
def test_pixelmed_finds_no_error(sound: dict[str, list[Path]], tmp_path: Path) -> None:
    java = require_tool("java")
    if not PIXELMED.exists():
        lacks("pixelmed.jar")
    batch = tmp_path / "Batch.java"
    batch.write_text(BATCH)
    limits = [f"-Djdk.xml.{name}=0" for name in _XPATH_LIMITS]
    # The three objects hold one tree and validating costs seconds: each kind in one SOP class, in
    # turn; where peers are required, in all of them.
    files = [
        str(path)
        for turn, paths in enumerate(sound.values())
        for number, path in enumerate(paths[:3])
        if REQUIRE_PEERS or number == turn % 3
    ]
    command = [
        java,
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        *limits,
        "-cp",
        str(PIXELMED),
        str(batch),
        *files,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("IOD validation complete") == len(files)
    assert done.stdout.count("Found Root Template TID_1500 (MeasurementReport)") == len(files)
    assert [line for line in done.stdout.splitlines() if "Error" in line] == []


@pytest.mark.parametrize("name", DIRTY)
@pytest.mark.filterwarnings("ignore:Unknown encoding")
def test_a_dirty_header_brings_no_error_but_its_own(name: str, tmp_path: Path) -> None:
    _require_dicom3tools()
    header = source(**DIRTY[name])
    own = own_faults(write_source(tmp_path, name, header))
    for path in write(tmp_path, name, estimated(1, [header])):
        assert set(map(_fault, dciodvfy(path))) <= own


def test_the_faults_of_the_dirty_headers_are_really_found(tmp_path: Path) -> None:
    """So that the test above cannot pass because nothing was looked at."""
    _require_dicom3tools()
    header = source(PatientAge=b"64")
    path = write(tmp_path, "age", estimated(1, [header]))[0]
    (fault,) = dciodvfy(path)
    assert "PatientAge" in fault
    assert _fault(fault) in own_faults(write_source(tmp_path, "age", header))


def test_real_headers_bring_no_error_but_their_own(shared_data: Path, tmp_path: Path) -> None:
    _require_dicom3tools()
    folder = shared_data / "dicom" / "chest"
    chosen = sorted(folder.glob("*.dcm"))[::12] + sorted(folder.glob("siim_*.dcm"))[:3]
    for number, path in enumerate(chosen):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = _identified(pydicom.dcmread(path, stop_before_pixels=True), number)
            own = own_faults(write_source(tmp_path, f"{number}", header))
            for report in write(tmp_path, f"{number}", estimated(1, [header])):
                assert set(map(_fault, dciodvfy(report))) <= own, path.name


def test_dcmtk_reads_a_report_of_every_character_set(tmp_path: Path) -> None:
    program = require_tool("dsrdump")
    for name in ("utf8", "iso2022"):
        path = write(tmp_path, name, estimated(1, [source(**DIRTY[name])]))[0]
        done = subprocess.run([program, str(path)], capture_output=True, check=False)
        assert done.returncode == 0
        assert b"E: " not in done.stderr


def own_faults(path: Path) -> set[str]:
    return set(map(_fault, dciodvfy(path)))


_XPATH_LIMITS = ("xpathExprGrpLimit", "xpathExprOpLimit", "xpathTotalOpLimit")


def _require_dicom3tools() -> None:
    if not (Path(sys.executable).parent / "dciodvfy").exists():
        require_tool("dciodvfy")


def _fault(line: str) -> str:
    """The attribute and what is wrong with it, without where in which module."""
    return re.sub(r" - Module=<\w+>", "", line)


def _identified(header: Dataset, number: int) -> Dataset:
    """Give a header the UIDs that some public files lack; a receiver files nothing without."""
    given = {
        "StudyInstanceUID": uid_of("real", "study", str(number)),
        "SeriesInstanceUID": uid_of("real", "series", str(number)),
        "SOPInstanceUID": uid_of("real", "instance", str(number)),
    }
    for keyword, uid in given.items():
        if not UID(str(header.get(keyword) or "")).is_valid:
            setattr(header, keyword, uid)
    return header


def _file_of(header: Dataset) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(text_of(header, "SOPClassUID"))
    meta.MediaStorageSOPInstanceUID = UID(text_of(header, "SOPInstanceUID"))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(uid_of("sample"))
    fp = DicomBytesIO()
    fp.write(bytes(128) + b"DICM")
    write_file_meta_info(fp, meta)
    copies = (verbatim(header, tag) for tag in sorted(header.keys()))
    return fp.getvalue() + encode(copy for copy in copies if copy is not None)
