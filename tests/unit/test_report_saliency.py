"""Saliency maps as pictures and as Secondary Captures."""

from dataclasses import replace
from datetime import datetime
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_ai_node.answers import SaliencyMap, SaliencyMethod
from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.dicom.marks import is_own_report
from dicom_ai_node.errors import InvalidReport
from dicom_ai_node.pixels.contracts import CONTRACTS, PROJECTIONS
from dicom_ai_node.report.build import build_reports, build_saliency
from dicom_ai_node.report.capture import (
    BAND,
    LINE,
    PANEL,
    ExplainedImage,
    colours,
    overlay,
    picture,
)
from dicom_ai_node.report.check import check_report
from dicom_ai_node.report.identity import EncodedReport
from tests.builders.answers import with_part
from tests.builders.reports import MODEL, Sample, estimated, explained, samples, source

SETTINGS = ReportSettings(secondary_capture=True, saliency="grad-cam")


def build(sample: Sample, **changes: Any) -> tuple[EncodedReport, ...]:
    given: dict[str, Any] = {
        "settings": SETTINGS,
        "rules_version": "7",
        "digest": "d",
        "created": datetime(2024, 3, 16, 8, 0),
    }
    given |= {"explained": explained(sample)} | changes
    return build_saliency(sample.result, sample.sources, **given)


def read(report: EncodedReport) -> Dataset:
    return pydicom.dcmread(BytesIO(report.files[0].content))


def _linear(table: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray((table / 255.0) ** 2.2)


# Viénot, Brettel and Mollon 1999: what eyes without red or green cones see, in linear RGB.
PROTAN = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
DEUTAN = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])


@pytest.mark.parametrize("seen", [np.eye(3), PROTAN, DEUTAN])
def test_colours_become_lighter_to_every_eye(seen: NDArray[np.float64]) -> None:
    table = _linear(colours()) @ seen.T
    light = np.clip(table, 0, 1) @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(light) > -1e-3).all()
    assert (np.diff(light[::8]) > 0).all()
    assert light[0] < 0.05 < 0.6 < light[-1]


def test_there_are_256_colours_from_violet_to_yellow() -> None:
    assert colours().shape == (256, 3)
    assert colours().dtype == np.uint8
    assert colours()[0].tolist() == [0x44, 0x01, 0x54]
    assert colours()[255].tolist() == [0xFD, 0xE7, 0x25]


def test_where_the_map_is_zero_the_image_is_plain() -> None:
    pixels = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    values = np.zeros((8, 8), np.float32)
    values[0, 0] = 1
    mixed = overlay(pixels, values)
    plain = np.repeat((pixels * 255).round().astype(np.uint8)[..., None], 3, axis=2)
    assert np.array_equal(mixed[1:], plain[1:])
    assert mixed[0, 0].tolist() == [152, 139, 22]  # 0.6 of the yellow over black


def test_a_picture_is_the_maps_beside_each_other_over_the_warning() -> None:
    one = explained(samples()["one_image"])[0]
    both = picture(one)
    assert both.shape == (PANEL + BAND, 2 * PANEL, 3)
    single = picture(replace(one, maps=one.maps[1:]))
    assert single.shape == (PANEL + BAND, PANEL, 3)
    assert np.array_equal(both[:PANEL, PANEL:], single[:PANEL])
    assert not np.array_equal(both[:PANEL, :PANEL], both[:PANEL, PANEL:])
    assert single[-40:].max() == 255  # the warning


def test_each_view_of_an_input_has_the_map_over_it_and_is_named() -> None:
    one = explained(samples()["one_image"])[0]
    (pixels,) = one.views.values()
    age = replace(one, maps=one.maps[:1])
    views = CONTRACTS[PROJECTIONS].views(np.stack([pixels, 1 - pixels]))
    assert list(views) == ["coronal projection", "sagittal projection"]

    both = picture(replace(age, views=views))
    first, unnamed = picture(replace(age, views={"coronal projection": pixels})), picture(age)

    assert both.shape == (PANEL + BAND + LINE, 2 * PANEL, 3)
    assert np.array_equal(both[:PANEL, :PANEL], unnamed[:PANEL])
    assert not np.array_equal(both[:PANEL, PANEL:], unnamed[:PANEL])
    assert np.array_equal(both[:, :PANEL], first)
    name = slice(PANEL + BAND - 56, PANEL + BAND - 16)
    assert first[name].max() > 0
    assert not np.array_equal(both[name, PANEL:], first[name])  # another name
    assert np.array_equal(first[-40:], unnamed[-40:])  # the warning


def test_a_capture_says_which_views_it_shows() -> None:
    sample = samples()["one_image"]
    (plain,) = explained(sample)
    seen = np.zeros((2, 64, 64), np.float32)
    named = replace(plain, views=CONTRACTS[PROJECTIONS].views(seen))
    (report,) = build(sample, explained=[named])

    said = read(report).DerivationDescription

    assert said.startswith("Reduced as a network saw it (coronal projection and sagittal")


def test_a_flat_map_is_called_flat() -> None:
    zeros = np.zeros((64, 64), np.float32)
    flat = SaliencyMap("age", "quantity", SaliencyMethod.GRAD_CAM, zeros, flat=True)
    one = explained(samples()["one_image"])[0]
    said = picture(replace(one, maps=(flat,)))
    unsaid = picture(replace(one, maps=(replace(flat, flat=False),)))
    assert np.array_equal(said[:PANEL], unsaid[:PANEL])
    assert not np.array_equal(said[PANEL:], unsaid[PANEL:])


def test_each_image_has_a_capture_of_its_own_that_names_it() -> None:
    sample = samples()["two_images"]
    reports = build(sample)
    assert [one.kind for one in reports] == ["saliency", "saliency"]
    captures = [read(one) for one in reports]
    for report, ds in zip(reports, captures, strict=True):
        (named,) = ds.SourceImageSequence
        assert named.ReferencedSOPInstanceUID == report.subject
        assert named.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        assert ds.SOPInstanceUID == report.files[0].sop_instance_uid
    assert {one.subject for one in reports} == {str(ds.SOPInstanceUID) for ds in sample.sources}
    assert [ds.InstanceNumber for ds in captures] == [1, 2]
    assert len({ds.SOPInstanceUID for ds in captures}) == 2
    assert len({ds.SeriesInstanceUID for ds in captures}) == 1


def test_it_is_marked_as_what_it_is() -> None:
    ds = read(build(samples()["one_image"])[0])
    assert (ds.Modality, ds.SeriesNumber) == ("OT", 9902)
    assert ds.ImageType == ["DERIVED", "SECONDARY"]
    assert ds.BurnedInAnnotation == "YES"
    assert "age and sex rests on (grad-cam)" in ds.DerivationDescription
    assert "not a medical device" in ds.ImageComments
    assert is_own_report(ds)
    assert (ds.PhotometricInterpretation, ds.PlanarConfiguration) == ("RGB", 0)
    assert np.array_equal(ds.pixel_array, picture(explained(samples()["one_image"])[0]))


def test_nothing_inferred_enters_the_patient() -> None:
    sample = estimated(1, [source(PatientAge=b"64", PatientSex=b"")])
    ds = read(build(sample)[0])
    assert ds.get_item("PatientAge").value == b"64"
    assert not ds.get_item("PatientSex").value
    assert ds.get_item("StudyDescription").value.strip() == b"Chest PA"


def test_series_and_instances_are_not_those_of_the_text_capture() -> None:
    sample = samples()["one_image"]
    reports = build_reports(
        sample.result, sample.sources, settings=SETTINGS, rules_version="7", digest="d",
        created=datetime(2024, 3, 16, 8, 0),
    )  # fmt: skip
    text = read(reports[1])
    ds = read(build(sample)[0])
    assert ds.SeriesInstanceUID != text.SeriesInstanceUID
    assert ds.SOPInstanceUID != text.SOPInstanceUID
    assert ds.StudyInstanceUID == text.StudyInstanceUID


def test_the_same_gives_the_same_bytes_and_a_change_another_instance() -> None:
    sample = samples()["two_images"]
    backwards = replace(sample, sources=sample.sources[::-1])
    assert build(sample) == build(sample) == build(backwards)
    first = build(sample)[0].files[0].sop_instance_uid
    score = ReportSettings(saliency="score-cam")
    other = with_part(sample.result, model=replace(MODEL, sha256="f" * 64))
    for changed in (
        build(sample, digest="e"),
        build(sample, settings=score),
        build(replace(sample, result=other)),
    ):
        assert changed[0].files[0].sop_instance_uid != first


def test_what_was_compressed_with_loss_stays_so() -> None:
    header = source(LossyImageCompression=b"01", LossyImageCompressionRatio=b"10")
    ds = read(build(estimated(1, [header]))[0])
    assert (ds.LossyImageCompression, ds.LossyImageCompressionRatio) == ("01", 10)
    assert "LossyImageCompression" not in read(build(samples()["one_image"])[0])


def test_it_passes_the_check_and_a_fault_is_named() -> None:
    sample = samples()["two_images"]
    first, second = build(sample)
    content = first.files[0].content
    check_report(content, sources=sample.sources, subject=first.subject)
    with pytest.raises(InvalidReport, match="expected the one that it is about"):
        check_report(content, sources=sample.sources, subject=second.subject)
    with pytest.raises(InvalidReport, match="1 images that were read are not named"):
        check_report(content, sources=sample.sources)
    grey = read(first)
    grey.SamplesPerPixel = 1
    spoilt = BytesIO()
    pydicom.dcmwrite(spoilt, grey)
    with pytest.raises(InvalidReport, match="does not fit"):
        check_report(spoilt.getvalue(), subject=first.subject)


def test_an_image_without_a_map_has_no_capture() -> None:
    sample = samples()["two_images"]
    only: list[ExplainedImage] = explained(sample)[:1]
    reports = build_saliency(
        sample.result, sample.sources, only, settings=SETTINGS, rules_version="7", digest="d",
        created=datetime(2024, 3, 16, 8, 0),
    )  # fmt: skip
    assert [one.subject for one in reports] == [only[0].image.sop_instance_uid]
