"""Reports on other questions than age and sex: findings, body region, research answers."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from io import BytesIO
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.dicom.values import text_of
from dicom_ai_node.report.build import build_reports, build_saliency
from dicom_ai_node.report.capture import NOT_FOR_DIAGNOSIS, WARNING
from dicom_ai_node.report.check import check_report
from dicom_ai_node.report.modules import MOST_IMAGES
from dicom_ai_node.report.text import summary, verdict
from dicom_ai_node.types import AttributeStatus, CheckedAttribute
from tests.builders.questions import (
    BRAIN,
    KNEE,
    question_samples,
    region,
    regions_by_series,
    section_source,
)
from tests.builders.reports import Sample, explained, samples, source

SAMPLES = question_samples()


def built(sample: Sample) -> Dataset:
    """The report as the first of its SOP classes; every object passes our own check."""
    reports = build_reports(
        sample.result,
        sample.sources,
        settings=ReportSettings(secondary_capture=True),
        rules_version="7",
        digest="d",
        created=datetime(2024, 3, 16, 8, 0),
    )
    for report in reports:
        for file in report.files:
            check_report(file.content, sources=sample.sources, result=sample.result)
    return pydicom.dcmread(BytesIO(reports[0].files[0].content))


def name(item: Dataset) -> str:
    code = item.ConceptNameCodeSequence[0]
    return str(code.get("CodeValue") or code.LongCodeValue)


def values(parent: Dataset, concept: str) -> list[str]:
    found = [
        item.ConceptCodeSequence[0] for item in parent.ContentSequence if name(item) == concept
    ]
    return [str(code.get("CodeValue") or code.LongCodeValue) for code in found]


def certainties(group: Dataset, concept: str) -> list[float]:
    return [
        float(child.MeasuredValueSequence[0].NumericValue)
        for item in group.ContentSequence
        if name(item) == concept
        for child in item.ContentSequence
        if name(child) == "111012"
    ]


def comments(group: Dataset) -> str:
    return "\n".join(item.TextValue for item in group.ContentSequence if name(item) == "121106")


def items(node: Dataset) -> Iterator[Dataset]:
    for item in node.get("ContentSequence", ()):
        yield item
        yield from items(item)


def groups(report: Dataset, scope: str) -> list[Dataset]:
    found = [item for item in items(report) if name(item) == "125007"]
    return [group for group in found if values(group, "SCOPE") == [scope]]


def images(node: Dataset) -> list[str]:
    return [
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in node.ContentSequence
        if item.ValueType == "IMAGE"
    ]


def test_findings_are_coded_in_a_group_of_their_own_the_most_probable_first() -> None:
    _, group = groups(built(SAMPLES["findings"]), "STUDY")
    assert values(group, "FINDINGS") == ["PLEURAL_THICKENING", "8186001", "60046008", "27925004"]
    assert certainties(group, "FINDINGS") == [91.1, 71.3, 42.0, 3.1]
    assert values(group, "INTENDED_USE") == ["NOT_FOR_DIAGNOSIS"]
    assert "None is established or excluded by it. Not for diagnosis." in comments(group)
    assert not [item for item in group.ContentSequence if item.ValueType == "NUM"]


def test_an_improbable_finding_does_not_read_as_a_finding() -> None:
    _, group = groups(built(SAMPLES["findings"]), "STUDY")
    meanings = {
        item.ConceptNameCodeSequence[0].CodeMeaning
        for item in group.ContentSequence
        if name(item) == "FINDINGS"
    }
    assert meanings == {"Findings looked for"}


def test_age_and_sex_beside_findings_are_marked_as_before() -> None:
    first, _ = groups(built(SAMPLES["findings"]), "STUDY")
    assert values(first, "INTENDED_USE") == []
    assert values(first, "121032") == ["F"]


def test_where_no_finding_is_stated_the_reason_is() -> None:
    (group,) = groups(built(SAMPLES["no_findings"]), "STUDY")
    assert values(group, "NOFINDINGS") == ["NOT_A_CHEST"]
    assert values(group, "FINDINGS") == []
    assert "No estimate: does not look like a chest radiograph" in comments(group)


def test_a_body_region_is_what_the_group_shows() -> None:
    report = built(SAMPLES["two_regions"])
    for group in groups(report, "STUDY") + groups(report, "IMAGE"):
        assert values(group, "363698007") == ["816094009", "818981001"], "chest, then abdomen"
        assert values(group, "123014") == ["416550000"], "CHESTABDOMEN"
        assert certainties(group, "123014") == [93.4]
    assert "from head to foot: chest, abdomen." in comments(groups(report, "STUDY")[0])


def test_series_that_differ_have_a_group_each() -> None:
    sample = SAMPLES["regions_by_series"]
    report = built(sample)
    chest, abdomen, unsure = groups(report, "SERIES")
    assert [values(one, "123014") for one in (chest, abdomen)] == [["816094009"], ["818981001"]]
    assert [values(one, "363698007") for one in (chest, abdomen)] == [["816094009"], ["818981001"]]
    for at, group in enumerate((chest, abdomen, unsure)):
        members = [text_of(one, "SOPInstanceUID") for one in sample.sources[2 * at : 2 * at + 2]]
        assert images(group) == sorted(members), "the evidence says of which series they are"
    assert values(unsure, "NOBODY_REGION") == ["BODY_REGION_UNCERTAIN"]
    (study,) = groups(report, "STUDY")
    assert values(study, "123014") == ["416550000"], "one term has both"
    tracking = [
        item.UID for group in (study, chest, abdomen, unsure) for item in group.ContentSequence
        if item.ValueType == "UIDREF"
    ]  # fmt: skip
    assert len(set(tracking)) == 4


def test_series_of_which_no_one_term_names_all_have_no_answer_in_common() -> None:
    report = built(SAMPLES["regions_apart"])
    (study,) = groups(report, "STUDY")
    assert values(study, "NOBODY_REGION") == ["BODY_REGION_DIFFERS"]
    assert values(study, "111065") == ["111222"], "the analysis succeeded"
    assert values(study, "123014") == values(study, "363698007") == []
    brain, knee, _ = groups(report, "SERIES")
    assert [values(one, "123014") for one in (brain, knee)] == [["12738006"], ["72696002"]]
    assert "body region by series: brain in 1, knee in 1, not stated in 1 of 3" in summary(
        SAMPLES["regions_apart"].result
    )


def test_many_series_that_differ_are_counted() -> None:
    more = regions_by_series(*[BRAIN, KNEE] * 20)
    report = built(more)
    assert len(groups(report, "SERIES")) == MOST_IMAGES
    assert "body region by series: brain in 20, knee in 20, not stated in 1 of 41" in comments(
        groups(report, "STUDY")[0]
    )


def test_without_a_region_the_images_are_not_said_to_show_a_chest() -> None:
    (group,) = groups(built(SAMPLES["no_region"]), "STUDY")
    assert values(group, "363698007") == []
    assert values(group, "NOBODY_REGION") == ["BODY_REGION_UNCERTAIN"]


def test_a_series_of_a_thousand_images_is_one_group() -> None:
    sample = SAMPLES["region"]
    report = built(sample)
    assert groups(report, "IMAGE") == []
    (group,) = groups(report, "STUDY")
    read = [one.image.sop_instance_uid for one in sample.result.images]
    assert images(group) == sorted(read[:-1]), "the last could not be decoded"
    said = comments(group)
    assert "19 of 1000 images were read, spread over each series." in said
    assert "No answer from 1 image: the pixel data cannot be decoded [undecodable]" in said
    (library,) = [item for item in items(report) if name(item) == "126200"]
    assert set(images(library)) == set(read)
    (header,) = groups(report, "HEADER")
    assert len(images(header)) == 1
    assert "Headers of 1000 images were read" in comments(header)
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    assert len(study.ReferencedSeriesSequence[0].ReferencedSOPSequence) == 1000


def test_a_study_of_many_images_that_were_all_read_is_one_group_too() -> None:
    few, many = region(MOST_IMAGES, 0), region(MOST_IMAGES + 1, 0)
    assert len(groups(built(few), "IMAGE")) == MOST_IMAGES
    report = built(many)
    assert groups(report, "IMAGE") == []
    assert len(images(groups(report, "STUDY")[0])) == MOST_IMAGES + 1


def test_a_research_answer_says_so_in_codes_and_words() -> None:
    report = built(SAMPLES["research"])
    for group in groups(report, "STUDY") + groups(report, "IMAGE"):
        assert values(group, "INTENDED_USE") == ["113009", "NOT_FOR_DIAGNOSIS"]
        assert "not held against the record, and never proposed" in comments(group)
        assert (
            name(next(one for one in group.ContentSequence if one.ValueType == "NUM")) == "21611-9"
        )


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("findings", "Image by chest-findings (not for diagnosis): findings: Pleural Thickening"
                     " 91.1 %, Cardiomegaly 71.3 %, Effusion 42.0 %, the most probable of 4 that"
                     " were looked for."),
        ("region", "Image: body region: CHESTABDOMEN, that is chest and abdomen (certainty 93.4 %);"
                   " 19 of 1000 images were read."),
        ("research", "Image (for research, not for diagnosis): 58.4 years"),
        ("no_region", "no body region: no region is certain enough to be stated"),
    ],
)  # fmt: skip
def test_the_summary_in_words(kind: str, words: str) -> None:
    assert words in summary(SAMPLES[kind].result)


@pytest.mark.parametrize("kind", sorted(SAMPLES))
def test_a_series_is_named_by_what_was_asked(kind: str) -> None:
    asked = "Age and sex audit" if kind == "research" else "Header and image audit"
    assert built(SAMPLES[kind]).SeriesDescription == f"{asked}, not verified"


def test_every_part_has_its_group_whatever_the_questions() -> None:
    report = built(SAMPLES["all_at_once"])
    found = groups(report, "STUDY")
    networks = [
        item.TextValue for one in found for item in one.ContentSequence if name(item) == "111001"
    ]
    assert networks == ["chest-age-sex", "chest-findings", "ct-mr-region", "ct-age-slice"]
    tracking = [item.UID for item in items(report) if name(item) == "112040"]
    assert len(set(tracking)) == len(tracking)


def captures(sample: Sample) -> list[Dataset]:
    """The capture of the result, then those of the maps."""
    given: dict[str, Any] = {
        "settings": ReportSettings(secondary_capture=True, saliency="grad-cam"),
        "rules_version": "7",
        "digest": "d",
        "created": datetime(2024, 3, 16, 8, 0),
    }
    (_, drawing) = build_reports(sample.result, sample.sources, **given)
    maps = build_saliency(sample.result, sample.sources, explained(sample), **given)
    return [pydicom.dcmread(BytesIO(one.files[0].content)) for one in (drawing, *maps)]


@pytest.mark.parametrize(
    ("kind", "header", "part", "laterality"),
    [
        ("one_image", {}, "CHEST", None),
        ("findings", {}, "CHEST", None),
        ("findings", {"BodyPartExamined": b"LUNG"}, "LUNG", ""),
        ("findings", {"BodyPartExamined": b"RIBS AND SO ON"}, "CHEST", None),
        ("two_regions", {}, "CHESTABDOMEN", None),
        ("two_regions", {"BodyPartExamined": b"LSPINE"}, "LSPINE", None),
        ("two_regions", {"BodyPartExamined": b"KNEE", "ImageLaterality": b"L"}, "KNEE", "L"),
        ("two_regions", {"BodyPartExamined": b"KNEE"}, "KNEE", ""),
        ("no_region", {}, None, ""),
    ],
)
def test_a_capture_shows_the_part_of_its_image_and_not_always_a_chest(
    kind: str, header: dict[str, bytes], part: str | None, laterality: str | None
) -> None:
    sample = (SAMPLES | samples())[kind]
    made = section_source if "region" in kind else source
    sources = [made(number, **header) for number in range(1, len(sample.sources) + 1)]
    for capture in captures(Sample(sample.result, sources)):
        assert capture.get("BodyPartExamined") == part
        assert capture.get("Laterality") == laterality


def test_maps_of_findings_name_the_finding_and_are_not_for_diagnosis() -> None:
    of_age_and_sex, of_findings = explained(SAMPLES["findings"])
    assert of_age_and_sex.warning == WARNING
    assert of_findings.warning == NOT_FOR_DIAGNOSIS
    said = str(captures(SAMPLES["findings"])[2].DerivationDescription)
    assert "its answer to Pleural Thickening rests on" in said
    assert {one.warning for one in explained(SAMPLES["research"])} == {NOT_FOR_DIAGNOSIS}


def test_a_capture_of_a_thousand_images_names_those_that_were_read() -> None:
    sample = SAMPLES["region"]
    (drawing, *_) = captures(sample)
    named = {item.ReferencedSOPInstanceUID for item in drawing.SourceImageSequence}
    assert named == {one.image.sop_instance_uid for one in sample.result.images}


def test_attributes_with_one_fault_are_told_together() -> None:
    check = SAMPLES["region"].result.check
    for keyword in ("PatientAge", "PatientSex"):
        check = check.with_status(keyword, AttributeStatus.MISSING)
    part = CheckedAttribute("body_part", "HEAD", AttributeStatus.CONFLICT_IMAGE, "HEAD")
    check = replace(check, attributes={**check.attributes, "BodyPartExamined": part})
    assert verdict(check) == (
        "Recorded age and sex are missing and recorded body part differs from what the image"
        " suggests: please review the record."
    )
