"""Patient and study of a report equal those of the source, to the byte."""

import copy
import warnings
from datetime import datetime
from io import BytesIO
from typing import Any

import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.dicom.encoding import tag_of
from dicom_ai_node.report.build import build_reports
from dicom_ai_node.report.check import check_report
from dicom_ai_node.report.modules import COPIED, TYPE_2, differing
from tests.builders.reports import estimated, source

DIRTY: dict[str, dict[str, Any]] = {
    "age without a unit": {"PatientAge": b"64"},
    "age that is no age": {"PatientAge": b"sixty-four years"},
    "empty id": {"PatientID": b""},
    "sex in words": {"PatientSex": b"Male"},
    "date with points": {"PatientBirthDate": b"1961.04.15"},
    "no character set, foreign bytes": {
        "SpecificCharacterSet": None,
        "PatientName": b"M\xfcller^J\xf6rg",
    },
    "unknown character set": {"SpecificCharacterSet": b"ISO_IR 999", "PatientName": b"\xff\xfe^"},
    "character set in odd case": {"SpecificCharacterSet": b"iso_ir 100 "},
    "UTF-8": {"SpecificCharacterSet": b"ISO_IR 192", "PatientName": "Йожев^Ян".encode()},
    "ISO 2022 name": {
        "SpecificCharacterSet": rb"\ISO 2022 IR 87",
        "PatientName": b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
    },
    "GB18030": {"SpecificCharacterSet": b"GB18030", "PatientName": "王^小东".encode("gb18030")},
    "name that its character set cannot decode": {
        "SpecificCharacterSet": b"ISO_IR 192",
        "PatientName": b"M\xfcller",
    },
    "several values": {"PatientSex": rb"M\F", "PatientID": rb"1\2"},
    "leading and trailing blanks": {"PatientID": b"  17  ", "StudyID": b" "},
    "study without dates": {"StudyDate": b"", "StudyTime": b"noon", "AccessionNumber": None},
    "no patient at all": dict.fromkeys(
        ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge")
    ),
    "numbers that are none": {"PatientWeight": b"heavy", "PatientSize": b"1,80"},
}


def report_on(header: Dataset) -> bytes:
    sample = estimated(1, [header])
    settings = ReportSettings(secondary_capture=True)
    reports = build_reports(
        sample.result,
        [header],
        settings=settings,
        rules_version="7",
        digest="d",
        created=datetime(2024, 3, 16, 8, 0),
    )
    for report in reports:
        for file in report.files:
            check_report(file.content, sources=[header])
    return reports[0].files[0].content


def read(content: bytes) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an unknown character set
        return pydicom.dcmread(BytesIO(content))


def raw(ds: Dataset, tag: int) -> bytes | None:
    if tag not in ds:
        return None
    element = ds.get_item(tag)
    if tag == 0x00080005 and not isinstance(element, RawDataElement):
        # the one element that pydicom decodes on reading
        terms = [element.value] if isinstance(element.value, str) else list(element.value or ())
        return "\\".join(terms).encode("latin-1")
    assert isinstance(element, RawDataElement)
    return element.value or b""


@pytest.mark.parametrize("name", DIRTY)
@pytest.mark.filterwarnings("ignore:Unknown encoding")
def test_values_are_copied_verbatim(name: str) -> None:
    header = source(**DIRTY[name])
    report = read(report_on(copy.deepcopy(header)))
    for tag in COPIED:
        wanted = raw(header, tag)
        if wanted is None and tag in TYPE_2:
            wanted = b""
        assert raw(report, tag) == wanted


def test_nothing_inferred_enters_the_patient() -> None:
    header = source(PatientAge=b"", PatientSex=b"", PatientBirthDate=b"")
    report = read(report_on(header))
    for keyword in ("PatientAge", "PatientSex", "PatientBirthDate"):
        assert raw(report, tag_of(keyword)) == b""


def test_the_source_stays_as_it_was() -> None:
    header = source(PatientAge=b"64")
    report_on(header)
    assert isinstance(header.get_item("PatientAge"), RawDataElement)


def test_sequences_are_copied_out_of_implicit_vr() -> None:
    inner = Dataset()
    inner.CodeValue = "R-1"
    inner.CodingSchemeDesignator = "99LOCAL"
    inner.CodeMeaning = "Chest"
    header = source()
    header.ProcedureCodeSequence = [inner]
    implicit = _reencoded(header, implicit=True)
    report = read(report_on(implicit))
    assert report.ProcedureCodeSequence[0].CodeMeaning == "Chest"
    assert differing(report, header) == []


def test_numbers_are_copied_out_of_big_endian() -> None:
    header = source()
    header.PregnancyStatus = 4
    report = read(report_on(_reencoded(header, little=False)))
    assert report.PregnancyStatus == 4


def test_gender_identity_unknown_to_pydicom_is_copied() -> None:
    code = Dataset()
    code.CodeValue = "446141000124107"
    item = Dataset()
    item.add_new(0x00100044, "SQ", [code])
    header = source()
    header.add_new(0x00100041, "SQ", [item])
    report = read(report_on(_reencoded(header, implicit=True)))
    assert raw(report, 0x00100041)
    assert report[0x00100041].value[0][0x00100044].value[0].CodeValue == "446141000124107"


def test_a_value_read_before_is_written_back() -> None:
    header = source(SpecificCharacterSet=b"ISO_IR 192", PatientName="Йожев^Ян".encode())
    untouched = copy.deepcopy(header)
    assert str(header.PatientName) == "Йожев^Ян"
    assert differing(read(report_on(header)), untouched) == []


def test_a_difference_is_named() -> None:
    changed = source(PatientID=b"OTHER")
    assert differing(read(report_on(source())), changed) == ["(0010,0020)"]


def _reencoded(header: Dataset, *, implicit: bool = False, little: bool = True) -> Dataset:
    fp = DicomBytesIO()
    fp.is_implicit_VR, fp.is_little_endian = implicit, little
    write_dataset(fp, header)
    return read_dataset(BytesIO(fp.getvalue()), implicit, little)
