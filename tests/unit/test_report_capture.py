"""The Secondary Capture: readable, marked, and without the patient's name."""

from dataclasses import replace
from datetime import datetime
from io import BytesIO

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from dicom_ai_node.report.build import build_reports
from dicom_ai_node.report.capture import COLUMNS, ROWS, lines, render
from dicom_ai_node.report.samples import Sample, samples
from dicom_ai_node.report.settings import ReportSettings
from dicom_ai_node.types import Finding, Severity


def capture(sample: Sample) -> Dataset:
    reports = build_reports(
        sample.result,
        sample.sources,
        settings=ReportSettings(secondary_capture=True),
        rules_version="7",
        digest="d",
        created=datetime(2024, 3, 16, 8, 0),
    )
    return pydicom.dcmread(BytesIO(reports[1].files[0].content))


def test_it_is_marked_and_names_its_images() -> None:
    sample = samples()["two_images"]
    ds = capture(sample)
    assert ds.BurnedInAnnotation == "YES"
    assert ds.BodyPartExamined == "CHEST"
    assert ds.PatientAge == "063Y"
    assert ds.StudyDescription == "Chest PA"
    assert "not a medical device" in ds.ImageComments
    named = [item.ReferencedSOPInstanceUID for item in ds.SourceImageSequence]
    assert sorted(named) == sorted(str(one.SOPInstanceUID) for one in sample.sources)


def test_the_pixels_are_the_lines() -> None:
    sample = samples()["conflict"]
    ds = capture(sample)
    page = lines(sample.result, study_date="20240315")
    assert ds.pixel_array.shape == (ROWS, COLUMNS)
    assert np.array_equal(ds.pixel_array, render(page))
    assert ds.pixel_array.max() == 255


@pytest.mark.parametrize("kind", sorted(samples()))
def test_every_page_says_what_it_is_and_not_whose(kind: str) -> None:
    sample = samples()[kind]
    page = "\n".join(lines(sample.result, study_date="20240315"))
    assert "NOT A MEDICAL DEVICE" in page
    assert "not verified" in page
    assert "SAMPLE-1" not in page
    assert "Sample" not in page
    assert "wrong patient" not in page.lower()


def test_an_other_sex_is_not_contradicted() -> None:
    page = lines(samples()["sex_other"].result, study_date="20240315")
    assert "Sex: not stated" in page


def test_without_an_estimate_the_reason_stands_there() -> None:
    page = lines(samples()["abstained"].result, study_date="")
    assert any("too_uncertain" in line for line in page)
    assert "Study of unknown date" in page


def test_a_long_page_ends_with_a_mark_instead_of_running_off() -> None:
    sample = samples()["one_image"]
    findings = tuple(
        Finding(f"X{number}", Severity.WARNING, "age", "reason") for number in range(300)
    )
    result = replace(sample.result, audit=replace(sample.result.audit, findings=findings))
    image = render(lines(result, study_date="20240315"))
    assert image.shape == (ROWS, COLUMNS)
    assert not image[-8:].any()
