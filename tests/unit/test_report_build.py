"""What a report is as an object: its UIDs, dates, evidence, and what it replaces."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_ai_node.answers import ImageRef, ImageResult, Outcome, Reason
from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.dicom.classes import REPORTS
from dicom_ai_node.errors import InvalidReport
from dicom_ai_node.report.build import build_reports
from dicom_ai_node.report.identity import EncodedReport, Predecessor, series_instance_uid
from dicom_ai_node.report.modules import named_images
from tests.builders.answers import with_part
from tests.builders.reports import MODEL, Sample, estimated, samples, source

CREATED = datetime(2024, 3, 16, 8, 0)


def build(sample: Sample, **changes: Any) -> tuple[EncodedReport, ...]:
    given: dict[str, Any] = {
        "settings": ReportSettings(secondary_capture=True),
        "rules_version": "7",
        "digest": "d",
        "created": CREATED,
    }
    return build_reports(sample.result, sample.sources, **(given | changes))


def first(sample: Sample, **changes: Any) -> Dataset:
    return pydicom.dcmread(BytesIO(build(sample, **changes)[0].files[0].content))


def uids(reports: tuple[EncodedReport, ...]) -> list[str]:
    return [file.sop_instance_uid for report in reports for file in report.files]


def evidence(ds: Dataset) -> dict[str, str]:
    """SOP Instance UID -> Series Instance UID."""
    (study,) = ds.CurrentRequestedProcedureEvidenceSequence
    assert study.StudyInstanceUID == ds.StudyInstanceUID
    return {
        one.ReferencedSOPInstanceUID: series.SeriesInstanceUID
        for series in study.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    }


def test_the_kinds_and_their_order() -> None:
    sr, sc = build(samples()["one_image"])
    assert (sr.kind, sc.kind) == ("sr", "sc")
    assert [file.sop_class_uid for file in sr.files] == list(REPORTS)
    (only,) = build(samples()["one_image"], settings=ReportSettings())
    assert only.kind == "sr"


@pytest.mark.parametrize("kind", sorted(samples()))
def test_the_same_result_gives_the_same_bytes(kind: str) -> None:
    assert build(samples()[kind]) == build(samples()[kind])


def test_the_order_in_which_images_came_does_not_matter() -> None:
    sample = samples()["two_images"]
    result = with_part(sample.result, images=sample.result.images[::-1])
    assert build(Sample(result, sample.sources[::-1])) == build(sample)


def test_files_bear_the_uids_that_they_are_announced_with() -> None:
    for report in build(samples()["one_image"]):
        for file in report.files:
            ds = pydicom.dcmread(BytesIO(file.content))
            assert ds.SOPInstanceUID == file.sop_instance_uid
            assert ds.SOPClassUID == file.sop_class_uid
            assert ds.file_meta.MediaStorageSOPInstanceUID == file.sop_instance_uid
            assert UID(ds.SOPInstanceUID).is_valid
            assert UID(ds.SeriesInstanceUID).is_valid


@pytest.mark.parametrize("change", [{"digest": "e"}, {"rules_version": "8"}])
def test_other_content_gets_other_uids_in_the_same_series(change: dict[str, str]) -> None:
    sample = samples()["one_image"]
    assert set(uids(build(sample))).isdisjoint(uids(build(sample, **change)))
    assert first(sample).SeriesInstanceUID == first(sample, **change).SeriesInstanceUID


def test_another_network_gets_other_uids_and_another_series() -> None:
    sample = samples()["one_image"]
    other = Sample(with_part(sample.result, model=replace(MODEL, sha256="f" * 64)), sample.sources)
    assert set(uids(build(sample))).isdisjoint(uids(build(other)))
    assert first(sample).SeriesInstanceUID != first(other).SeriesInstanceUID


def test_structured_report_and_capture_are_in_series_of_their_own() -> None:
    sr, sc = build(samples()["one_image"])
    series = {pydicom.dcmread(BytesIO(one.files[0].content)).SeriesInstanceUID for one in (sr, sc)}
    assert len(series) == 2


def test_each_object_names_its_counterpart_in_the_report_that_it_replaces() -> None:
    sample = samples()["one_image"]
    old = build(sample)[0]
    before = Predecessor(
        series_instance_uid(sample.result.study_uid, model_sha256=MODEL.sha256, kind="sr"),
        {file.sop_class_uid: file.sop_instance_uid for file in old.files},
    )
    assert before.series_instance_uid == first(sample).SeriesInstanceUID
    new = build(sample, digest="e", predecessor=before)[0]
    for was, now in zip(old.files, new.files, strict=True):
        (study,) = pydicom.dcmread(BytesIO(now.content)).PredecessorDocumentsSequence
        (series,) = study.ReferencedSeriesSequence
        (named,) = series.ReferencedSOPSequence
        assert series.SeriesInstanceUID == before.series_instance_uid
        assert named.ReferencedSOPClassUID == was.sop_class_uid
        assert named.ReferencedSOPInstanceUID == was.sop_instance_uid
    assert "PredecessorDocumentsSequence" not in first(sample)


def test_a_report_does_not_replace_itself() -> None:
    sample = samples()["one_image"]
    own = {file.sop_class_uid: file.sop_instance_uid for file in build(sample)[0].files}
    with pytest.raises(InvalidReport, match="replace itself"):
        build(sample, predecessor=Predecessor("1.2", own))


@pytest.mark.parametrize("kind", sorted(samples()))
def test_every_image_that_was_read_is_evidence(kind: str) -> None:
    sample = samples()[kind]
    found = evidence(first(sample))
    for ds in sample.sources:
        assert found[ds.SOPInstanceUID] == ds.SeriesInstanceUID
    assert len(found) == len(sample.sources)


def test_an_image_that_could_not_be_read_is_evidence_too() -> None:
    sample = samples()["one_image"]
    lost = ImageResult(
        ImageRef(str(sample.sources[0].SOPClassUID), "1.2.3.4", "1.2.3"),
        Outcome.REFUSED,
        reason=Reason("unreadable", "the file cannot be read as DICOM"),
    )
    result = with_part(sample.result, images=(*sample.result.images, lost))
    assert evidence(first(Sample(result, sample.sources)))["1.2.3.4"] == "1.2.3"


def test_evidence_of_a_file_whose_data_set_names_no_class() -> None:
    header = source(1)
    stated = header.SOPClassUID
    del header.SOPClassUID
    assert header.file_meta.MediaStorageSOPClassUID == stated
    assert [one.image.sop_class_uid for one in named_images([header], ())] == [stated]


def test_sources_of_two_studies_are_an_error() -> None:
    sample = samples()["one_image"]
    stranger = source(2, StudyInstanceUID=b"1.2.3")
    with pytest.raises(InvalidReport, match="2 studies"):
        build(Sample(sample.result, [*sample.sources, stranger]))


def test_no_source_is_an_error() -> None:
    with pytest.raises(InvalidReport, match="at least one"):
        build(Sample(samples()["one_image"].result, []))


def test_the_request_of_the_image_is_the_request_of_the_report() -> None:
    header = source(AccessionNumber=b"A-17")
    request = Dataset()
    request.RequestedProcedureID = "RP-1"
    request.RequestedProcedureDescription = "Thorax p.a."
    header.RequestAttributesSequence = [request]
    (named,) = first(estimated(1, [header])).ReferencedRequestSequence
    assert named.RequestedProcedureID == "RP-1"
    assert named.RequestedProcedureDescription == "Thorax p.a."
    assert named.AccessionNumber == "A-17"
    assert named.StudyInstanceUID == header.StudyInstanceUID
    assert named.FillerOrderNumberImagingServiceRequest == ""
    assert "ReferencedRequestSequence" not in first(samples()["one_image"])


def test_flags_say_that_nobody_verified_it() -> None:
    ds = first(samples()["one_image"])
    assert (ds.CompletionFlag, ds.PreliminaryFlag, ds.VerificationFlag) == (
        "COMPLETE",
        "PRELIMINARY",
        "UNVERIFIED",
    )
    (equipment,) = ds.ContributingEquipmentSequence
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    (scheme,) = ds.CodingSchemeIdentificationSequence
    assert scheme.CodingSchemeDesignator.startswith("99")


def test_times_are_those_that_were_passed() -> None:
    ds = first(samples()["one_image"])
    assert (ds.ContentDate, ds.ContentTime) == ("20240316", "080000")
    assert (ds.InstanceCreationDate, ds.InstanceCreationTime) == ("20240316", "080000")


@pytest.mark.parametrize(
    ("offset", "wanted"),
    [
        (b"+0900", ("20240317", "080000")),
        (b"-0330", ("20240316", "193000")),
        (b"nonsense", ("20240316", "230000")),
        (b"+9999", ("20240316", "230000")),
        (None, ("20240316", "230000")),
    ],
)
def test_times_are_in_the_zone_that_the_source_declares(
    offset: bytes | None, wanted: tuple[str, str]
) -> None:
    sample = estimated(1, [source(TimezoneOffsetFromUTC=offset)])
    ds = first(sample, created=datetime(2024, 3, 16, 23, 0, tzinfo=UTC))
    assert (ds.ContentDate, ds.ContentTime) == wanted


def test_a_zone_of_the_caller_is_kept_where_the_source_has_none() -> None:
    created = datetime(2024, 3, 16, 23, 0, tzinfo=timezone(timedelta(hours=2)))
    assert first(samples()["one_image"], created=created).ContentTime == "230000"


def test_texts_from_outside_are_folded_to_ascii() -> None:
    sample = samples()["refused"]
    reason = Reason("zu_groß", "Bild zu groß \\ 画像\x00")
    report, _ = build(Sample(with_part(sample.result, reason=reason), sample.sources))
    assert b"No estimate: Bild zu gro? / ??? [zu_gro?]" in report.files[0].content
