"""Our own reports are known again, whatever an archive did to them."""

import subprocess
import sys
from datetime import datetime
from io import BytesIO

import pydicom
import pytest
from pydicom.dataset import Dataset

from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.dicom.marks import is_own_report
from dicom_ai_node.report.build import build_reports
from tests.builders.reports import samples, source

MARKS = (
    "InstanceCreatorUID",
    "ContributingEquipmentSequence",
    "CodingSchemeIdentificationSequence",
)


def objects() -> list[Dataset]:
    sample = samples()["one_image"]
    settings = ReportSettings(
        manufacturer="Somebody", model_name="Something", secondary_capture=True
    )
    reports = build_reports(
        sample.result,
        sample.sources,
        settings=settings,
        rules_version="7",
        digest="d",
        created=datetime(2024, 3, 16, 8, 0),
    )
    return [pydicom.dcmread(BytesIO(file.content)) for report in reports for file in report.files]


def test_every_object_is_known_again() -> None:
    assert [is_own_report(ds) for ds in objects()] == [True] * 4


@pytest.mark.parametrize("kept", MARKS)
@pytest.mark.parametrize("decoded", [False, True])
def test_one_mark_suffices(kept: str, *, decoded: bool) -> None:
    for ds in objects():
        for mark in set(MARKS) - {kept}:
            del ds[mark]
        if decoded:
            str(ds)
        assert is_own_report(ds)


def test_without_marks_it_is_anybodys() -> None:
    for ds in objects():
        for mark in MARKS:
            del ds[mark]
        assert not is_own_report(ds)


@pytest.mark.parametrize("kind", sorted(samples()))
def test_images_are_not_ours(kind: str) -> None:
    assert not any(is_own_report(ds) for ds in samples()[kind].sources)


def test_the_equipment_of_others_is_not_ours() -> None:
    item = Dataset()
    item.SoftwareVersions = ["9.1", "x"]
    ds = source()
    ds.ContributingEquipmentSequence = [item, Dataset()]
    ds.CodingSchemeIdentificationSequence = []
    ds.InstanceCreatorUID = "1.2.3"
    assert not is_own_report(ds)


def test_malformed_marks_do_not_raise() -> None:
    assert not is_own_report(source(ContributingEquipmentSequence=b"\xff\xff\x00garbage."))


def test_they_can_be_imported_without_highdicom() -> None:
    code = "import sys, dicom_ai_node.dicom.marks\nsys.exit('highdicom' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
