"""The content tree: what a reader finds, and what it must never find."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from io import BytesIO

import pydicom
import pytest
from highdicom.sr import srread
from pydicom.dataset import Dataset

from dicom_ai_node.answers import Category, Quantity
from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.dicom.classes import REPORTS
from dicom_ai_node.errors import InvalidReport
from dicom_ai_node.report import codes
from dicom_ai_node.report.build import build_reports
from dicom_ai_node.report.check import check_report
from dicom_ai_node.report.text import summary
from tests.builders.answers import with_part
from tests.builders.reports import Sample, estimated, samples

KINDS = sorted(samples())
ESTIMATED = ["conflict", "half", "one_image", "one_of_two", "sex_other", "two_images", "uncertain"]
OTHERS = sorted(set(KINDS) - set(ESTIMATED))


def contents(sample: Sample) -> list[bytes]:
    (report,) = build_reports(
        sample.result,
        sample.sources,
        settings=ReportSettings(),
        rules_version="7",
        digest="d",
        created=datetime(2024, 3, 16, 8, 0),
    )
    return [file.content for file in report.files]


def tree(sample: Sample) -> Dataset:
    return pydicom.dcmread(BytesIO(contents(sample)[0]))


def items(node: Dataset) -> Iterator[Dataset]:
    for item in node.get("ContentSequence", ()):
        yield item
        yield from items(item)


def name(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue)


def values(parent: Dataset, concept: str) -> list[str]:
    found = [item for item in parent.ContentSequence if name(item) == concept]
    return [
        code.get("CodeValue") or code.LongCodeValue
        for item in found
        for code in item.ConceptCodeSequence
    ]


def numbers(parent: Dataset, concept: str) -> list[float]:
    return [
        float(item.MeasuredValueSequence[0].NumericValue)
        for item in parent.ContentSequence
        if item.ValueType == "NUM" and name(item) == concept
    ]


def comments(parent: Dataset) -> str:
    return "\n".join(item.TextValue for item in parent.ContentSequence if name(item) == "121106")


def groups(sample: Sample) -> dict[str, list[Dataset]]:
    """Measurement groups by their SCOPE, in order."""
    found: dict[str, list[Dataset]] = {}
    for item in items(tree(sample)):
        if name(item) == codes.MEASUREMENT_GROUP.value:
            found.setdefault(values(item, "SCOPE")[0], []).append(item)
    return found


def sources_of(item: Dataset) -> list[str]:
    return [
        child.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for child in item.ContentSequence
        if child.ValueType == "IMAGE"
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_every_report_has_one_answer_and_one_header_audit(kind: str) -> None:
    found = groups(samples()[kind])
    assert len(found["STUDY"]) == 1
    assert len(found["HEADER"]) == 1
    assert list(found)[:2] == ["HEADER", "STUDY"], "the header check is read first"


def test_the_root_is_a_measurement_report_in_the_order_of_its_template() -> None:
    root = tree(samples()["one_image"])
    assert root.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert [name(item) for item in root.ContentSequence] == [
        "121049",  # language
        "121005",  # observer: device
        "121012",
        "121013",
        "121014",
        "121015",
        "121016",
        "121024",  # subject: patient
        "121032",
        "121033",
        "121058",  # procedure reported
        "121111",  # summary
        "111028",  # image library
        "126010",  # imaging measurements
    ]


def test_an_estimate_reads_as_designed() -> None:
    (group,) = groups(samples()["one_image"])["STUDY"]
    found = {
        child.ContentSequence[0].ConceptCodeSequence[0].CodeValue: child
        for child in group.ContentSequence
        if name(child) == codes.AGE_ESTIMATED.value
    }
    assert list(found) == [code.value for code in codes.DERIVATIONS]
    assert numbers(group, "21611-9") == [63.2, 6.7, 52.0, 74.0]
    assert values(group, "121032") == ["F"]
    (sex,) = [child for child in group.ContentSequence if name(child) == "121032"]
    assert [name(child) for child in sex.ContentSequence] == ["121401", "111012"]
    assert numbers(sex, "111012") == [99.7]
    assert values(group, "111050") == ["111237"]
    assert values(group, "363698007") == ["816094009"]
    assert values(group, "111000") == ["123110"]
    versions = [child.TextValue for child in group.ContentSequence if name(child) == "111003"]
    assert versions == ["1.0.0 sha256:" + "0123456789abcdef" * 4]


@pytest.mark.parametrize("kind", KINDS)
def test_every_estimated_age_bears_a_derivation_and_its_images(kind: str) -> None:
    for item in items(tree(samples()[kind])):
        if name(item) != codes.AGE_ESTIMATED.value:
            continue
        children = {name(child): child.RelationshipType for child in item.ContentSequence}
        assert children == {"121401": "HAS CONCEPT MOD", "121112": "INFERRED FROM"}


def test_one_image_is_not_reported_twice() -> None:
    found = groups(samples()["one_image"])
    assert "IMAGE" not in found


def test_of_two_images_the_first_group_is_pooled_and_names_both() -> None:
    sample = samples()["two_images"]
    found = groups(sample)
    (study,) = found["STUDY"]
    uids = sorted(one.image.sop_instance_uid for one in sample.result.images)
    assert numbers(study, "21611-9")[0] == 63.2
    assert sorted(sources_of(study)) == uids
    for item in study.ContentSequence:
        if name(item) == "21611-9":
            assert sorted(sources_of(item)) == uids
    assert sorted(numbers(one, "21611-9")[0] for one in found["IMAGE"]) == [61.0, 63.0]
    assert sorted(sources_of(one)[0] for one in found["IMAGE"]) == uids


def test_a_lateral_beside_an_estimated_image_says_why_it_has_none() -> None:
    sample = samples()["one_of_two"]
    found = groups(sample)
    (study,), (lateral,) = found["STUDY"], found["IMAGE"]
    assert sources_of(study) == [sample.result.images[0].image.sop_instance_uid]
    assert sources_of(lateral) == [sample.result.images[1].image.sop_instance_uid]
    assert values(lateral, "111065") == ["111224"]
    assert values(lateral, "111052") == ["NOT_FRONTAL"]
    assert "not_frontal" in comments(lateral)


@pytest.mark.parametrize("kind", OTHERS)
def test_without_an_estimate_there_is_no_number_and_no_sex(kind: str) -> None:
    """The record's own ages, in the subject and the header group, are not the network's."""
    found = groups(samples()[kind])
    for group in found["STUDY"] + found.get("IMAGE", []):
        assert not [item for item in items(group) if item.ValueType == "NUM"]
        assert values(group, "121032") == []
        assert values(group, "111065")[0] in ("111224", "111225")
        assert values(group, "111052")
        assert "No estimate: " in comments(group)


def test_a_refused_image_is_not_attempted_and_a_broken_one_failed() -> None:
    found = groups(samples()["refused"])
    by_status = {values(group, "111065")[0]: values(group, "111052") for group in found["IMAGE"]}
    assert by_status == {"111225": ["NOT_PROJECTION_RADIOGRAPH"], "111224": ["111218"]}
    assert values(found["STUDY"][0], "111050") == ["111235"]


def test_a_header_only_report_says_nothing_of_the_images_quality() -> None:
    (study,) = groups(samples()["header_only"])["STUDY"]
    assert values(study, "111050") == []
    assert values(study, "111065") == ["111225"]


def test_a_study_withholds_what_its_images_would_say() -> None:
    found = groups(samples()["abstained"])
    for group in found["STUDY"] + found["IMAGE"]:
        assert values(group, "111052") == ["TOO_UNCERTAIN"]


def test_the_header_group_holds_the_record() -> None:
    (header,) = groups(samples()["one_image"])["HEADER"]
    assert numbers(header, "21612-7") == [63.0]
    assert numbers(header, "29553-5") == [63.4]
    assert values(header, "AGESTAT") == ["CONSISTENT"]
    assert "PatientAge='063Y'; PatientSex='F'" in comments(header)


def test_a_conflict_is_worded_as_a_difference_and_never_as_a_wrong_patient() -> None:
    sample = samples()["conflict"]
    (header,) = groups(sample)["HEADER"]
    assert values(header, "AGESTAT") == values(header, "SEXSTAT") == ["CONFLICT_IMAGE"]
    assert "Inferred characteristics differ from the record" in comments(header)
    assert b"wrong patient" not in contents(sample)[0].lower()


def test_an_other_sex_is_recorded_as_sent_and_nothing_is_inferred() -> None:
    sample = samples()["sex_other"]
    root = tree(sample)
    assert values(root, "121032") == ["121102"]
    for group in groups(sample)["STUDY"]:
        assert values(group, "121032") == []
        assert numbers(group, "21611-9")


@pytest.mark.parametrize(
    ("age", "years", "unit"),
    [("063Y", 63.0, "a"), ("018M", 1.5, "mo"), ("003W", 0.06, "wk"), ("005D", 0.01, "d")],
)
def test_a_recorded_age_keeps_its_unit(age: str, years: float, unit: str) -> None:
    root = tree(_recorded(age, years))
    (item,) = [one for one in root.ContentSequence if name(one) == "121033"]
    measured = item.MeasuredValueSequence[0]
    assert float(measured.NumericValue) == float(age[:3])
    assert measured.MeasurementUnitsCodeSequence[0].CodeValue == unit


@pytest.mark.parametrize(
    "age", ["", "64", "000Y", "UNK", "0635Y", "\N{LATIN SMALL LETTER E WITH ACUTE}"]
)
def test_an_age_that_cannot_be_used_is_left_out(age: str) -> None:
    sample = _recorded(age, None)
    assert "121033" not in [name(item) for item in tree(sample).ContentSequence]
    (header,) = groups(sample)["HEADER"]
    assert numbers(header, "21612-7") == []
    assert f"PatientAge={age!a}" in comments(header)


@pytest.mark.parametrize("kind", KINDS)
def test_the_three_objects_hold_one_tree_that_highdicom_reads(kind: str) -> None:
    read = [srread(BytesIO(content)) for content in contents(samples()[kind])]
    assert [one.SOPClassUID for one in read] == list(REPORTS)
    assert len({one.SOPInstanceUID for one in read}) == 3
    trees = {one.to_json_dict()["0040A730"]["Value"].__repr__() for one in read}
    assert len(trees) == 1
    for one in read:
        assert one.content.get_image_measurement_groups()
        assert one.content.get_observer_contexts()


def _recorded(age: str, years: float | None) -> Sample:
    sample = estimated(1)
    check = sample.result.check
    row = replace(check.attributes["PatientAge"], recorded=age, value=years)
    attributes = {**check.attributes, "PatientAge": row}
    result = replace(sample.result, check=replace(check, attributes=attributes))
    return Sample(result, sample.sources)


@pytest.mark.parametrize("kind", KINDS)
def test_every_container_is_separate_so_that_renderers_name_the_values(kind: str) -> None:
    root = tree(samples()[kind])
    containers = [item for item in (root, *items(root)) if item.ValueType == "CONTAINER"]
    assert len(containers) > 4
    assert {item.ContinuityOfContent for item in containers} == {"SEPARATE"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_summary_says_header_image_and_that_nobody_verified(kind: str) -> None:
    root = tree(samples()[kind])
    (summary,) = [item.TextValue for item in root.ContentSequence if name(item) == "121111"]
    assert summary.index("Header: ") < summary.index("Image: ") < summary.index("not verified")
    assert "not a medical device" in summary
    assert summary.isascii()
    assert "wrong patient" not in summary


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("conflict", "Header: age '021Y' (21 years), sex 'M' (male). Image: 63.2 years (90 %"
                     " prediction interval 52 to 74) and female (certainty 99.7 %). Recorded"
                     " age and sex differ from what the image suggests: please review the record."),
        ("half", "Header: no age, sex 'F' (female). Image: female (certainty 99.7 %); no age: the"
                 " 90 % interval of the age, 31 to 88 years, is wider than 45 years. Recorded age"
                 " is missing."),
        ("uncertain", "Image: 60.4 years, uncertain (90 % prediction interval 31 to 88) and female,"
                      " uncertain (certainty 62.0 %)."),
        ("abstained", "no age and no sex: neither age nor sex is certain enough to be stated."
                      " Nothing speaks against the recorded age and sex."),
        ("sex_other", "sex 'O' (other)"),
    ],
)  # fmt: skip
def test_the_summary_in_words(kind: str, words: str) -> None:
    assert words in summary(samples()[kind].result)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_uncertain_is_marked_for_machines_and_in_words_in_each_group(kind: str) -> None:
    sample = samples()[kind]
    doubtful = {
        head
        for head, answer in sample.result.parts[0].stated.items()
        if isinstance(answer, Quantity | Category) and not answer.certain
    }
    assert doubtful == ({"age", "sex"} if kind == "uncertain" else set())
    found = groups(sample)
    for group in (*found["STUDY"], *found.get("IMAGE", ())):
        for head in ("age", "sex"):
            marks = values(group, codes.how_certain(head).value)
            assert marks == (["UNCERTAIN"] if head in doubtful else [])
            words = f"Too little is known to hold the {head} against the record"
            assert (words in comments(group)) == (head in doubtful)


@pytest.mark.parametrize("kind", KINDS)
def test_the_study_says_why_of_each_attribute_that_it_does_not_state(kind: str) -> None:
    sample = samples()[kind]
    (study,) = groups(sample)["STUDY"]
    for attribute in ("age", "sex"):
        code = codes.no_answer(attribute)
        unanswered = sample.result.parts[0].unanswered
        reasons = [unanswered[attribute]] if attribute in unanswered else []
        assert values(study, code.value) == [codes.reason_code(one).value for one in reasons]
        assert all(one.text in comments(study) for one in reasons)


def test_a_silent_half_does_not_pass_the_check() -> None:
    sample = samples()["half"]
    silent = Sample(with_part(sample.result, answers=sample.result.parts[0].stated), sample.sources)
    with pytest.raises(InvalidReport, match="age is neither stated nor"):
        check_report(contents(silent)[0])
