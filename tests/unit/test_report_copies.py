"""What a copy says: of the value, of its source, of who filled it in and how sure that is."""

import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.dicom.marks import PRIVATE_CREATOR, PRIVATE_GROUP, is_own_report
from dicom_ai_node.errors import FillError
from dicom_ai_node.report.copies import Fill, coerced, difference, filled_copy
from tests.builders.dicom_bytes import (
    AGE,
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    SEX,
    UIDS,
    Syntax,
    data_set,
    dicom_file,
)
from tests.builders.reports import MODEL

AT = datetime(2024, 3, 16, 8, 0, tzinfo=UTC)
COMPUTED = Fill("PatientAge", "063Y", "dates", rules=("B3", "B5"), actor="policy")
INFERRED = Fill("PatientAge", "063Y", "inference", low=55.1, high=71.24, rules=("B3",))
SEX_INFERRED = Fill("PatientSex", "F", "inference", probability=0.9912, actor="Mira^Roe")
PART = Fill("BodyPartExamined", "CHESTABDOMEN", "header", rules=("J2",), actor="Mira^Roe")
PART_INFERRED = Fill("BodyPartExamined", "KNEE", "inference", probability=0.953)
IMAGE = UIDS | {
    0x00080008: ("CS", rb"ORIGINAL\PRIMARY"),
    0x0008103E: ("LO", b"Chest PA"),
    0x00200011: ("IS", b"3 "),
    0x00104000: ("LT", b"a comment "),
    0x7FE00010: ("OW", b"\1\2" * 8),
}
ALL = (EXPLICIT, IMPLICIT, BIG_ENDIAN)


def file(syntax: Syntax = EXPLICIT, **more: Any) -> bytes:
    values = IMAGE | more.pop("values", {})
    return dicom_file(data_set({k: v for k, v in values.items() if v}, syntax), syntax)


def copy_of(content: bytes, *fills: Fill, **more: Any) -> Dataset:
    given: dict[str, Any] = {
        "at": AT,
        "settings": ReportSettings(),
        "model": MODEL,
        "allow_sex": True,
    } | more
    return pydicom.dcmread(BytesIO(filled_copy(content, fills, **given).content))


def coerced_of(content: bytes, fill: Fill = COMPUTED) -> Dataset:
    return pydicom.dcmread(BytesIO(coerced(content, fill, at=AT).content))


def test_a_computed_age_makes_a_new_instance_of_the_same_study() -> None:
    copy = copy_of(file(), COMPUTED)
    assert copy.PatientAge == "063Y"
    assert copy.StudyInstanceUID == "1.2.3"
    assert copy.SOPInstanceUID.startswith("2.25.")
    assert copy.SeriesInstanceUID.startswith("2.25.")
    assert copy.file_meta.MediaStorageSOPInstanceUID == copy.SOPInstanceUID
    assert copy.file_meta.MediaStorageSOPClassUID == copy.SOPClassUID
    assert copy.ImageType == ["DERIVED", "PRIMARY"]
    assert copy.SeriesNumber == 90003
    assert copy.SeriesDescription == "Chest PA [age filled]"
    assert "PatientComments" not in copy
    (image,) = copy.SourceImageSequence
    assert image.ReferencedSOPInstanceUID == "1.2.3.4"
    assert image.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    (equipment,) = copy.ContributingEquipmentSequence
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109103"
    assert equipment.ContributionDateTime == "20240316080000+0000"
    words = "PatientAge 063Y: from PatientBirthDate and StudyDate"
    assert equipment.ContributionDescription == words
    assert words in copy.DerivationDescription
    assert "inferred" not in copy.DerivationDescription
    assert is_own_report(copy)


def test_an_inferred_value_says_so_wherever_a_person_may_look() -> None:
    copy = copy_of(file(), SEX_INFERRED, INFERRED)
    assert (copy.PatientAge, copy.PatientSex) == ("063Y", "F")
    assert copy.SeriesDescription == "Chest PA [age and sex inferred, not verified]"
    for text in (
        copy.DerivationDescription,
        copy.ContributingEquipmentSequence[0].ContributionDescription,
    ):
        assert text.count("inferred from the image by a program, not verified") == 2
        assert "90 % prediction interval 55.1 to 71.2 years" in text
        assert "probability 99.1 %" in text


def test_the_private_block_is_for_programs() -> None:
    copy = copy_of(file(), INFERRED, SEX_INFERRED)
    block = copy.private_block(0x4149, "DICOM_AI_NODE")
    assert block[0x02].value == "chest-age-sex 1.0.0"
    assert block[0x03].value == MODEL.sha256
    assert block[0x04].value.startswith("dicom_ai_node ")
    age, sex = (item.private_block(0x4149, "DICOM_AI_NODE") for item in block[0x01].value)
    assert [age[n].value for n in (0x10, 0x11, 0x12)] == ["PatientAge", "063Y", "INFERENCE"]
    assert (age[0x13].value, age[0x14].value, age[0x16].value) == (55.1, 71.24, "B3")
    assert 0x15 not in age
    assert (sex[0x15].value, sex[0x17].value) == (0.9912, "Mira^Roe")


def test_a_block_that_somebody_else_has_reserved_is_left_alone() -> None:
    theirs = {0x41490010: ("LO", b"SOMEBODY"), 0x41491001: ("LO", b"theirs")}
    copy = copy_of(file(values=theirs), INFERRED)
    assert copy[0x41491001].value == "theirs"
    assert copy[0x41490011].value == "DICOM_AI_NODE"
    assert len(copy[0x41491101].value) == 1


@pytest.mark.parametrize(
    ("before", "value", "reason", "odd"),
    [
        (None, "", "COERCE", None),
        (("AS", b""), "", "COERCE", None),
        (("AS", b"000Y"), "000Y", "CORRECT", None),
        (("AS", b"64"), "", "CORRECT", b"64"),
        (("AS", b"063y"), "", "CORRECT", b"063y"),
    ],
)
@pytest.mark.parametrize("syntax", ALL, ids=lambda each: each.uid)
def test_the_value_before_is_kept(
    syntax: Syntax, before: Any, value: str, reason: str, odd: bytes | None
) -> None:
    """PS3.3 C.12.1.1.9: nothing for what was absent; what is no AS in a sequence of its own."""
    content = file(syntax, values={AGE: before})
    for copy in (coerced_of(content), copy_of(content, COMPUTED)):
        (item,) = copy.OriginalAttributesSequence
        assert item.SourceOfPreviousValues == ""
        assert item.AttributeModificationDateTime == "20240316080000+0000"
        assert item.ModifyingSystem.startswith("dicom_ai_node ")
        assert item.ReasonForTheAttributeModification == reason
        assert item.ModifiedAttributesSequence[0].PatientAge == value
        odds = item.get("NonconformingModifiedAttributesSequence", [])
        assert [each.NonconformingDataElementValue for each in odds] == ([odd] if odd else [])
        assert [each.SelectorAttribute for each in odds] == ([AGE] if odd else [])


def test_all_that_a_copy_replaces_is_kept_but_the_comments() -> None:
    copy = copy_of(file(values={SEX: ("CS", b"U ")}), SEX_INFERRED)
    (before,) = copy.OriginalAttributesSequence[0].ModifiedAttributesSequence
    assert {element.keyword: element.value for element in before} == {
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "SOPInstanceUID": "1.2.3.4",
        "SeriesDescription": "Chest PA",
        "PatientSex": "U",
        "SeriesInstanceUID": "1.2.3.5",
        "SeriesNumber": 3,
    }


@pytest.mark.parametrize("undefined", [True, False])
@pytest.mark.parametrize("vr", ["SQ", "UN"])
@pytest.mark.parametrize("syntax", ALL, ids=lambda each: each.uid)
def test_items_that_are_there_stay_in_their_place(syntax: Syntax, vr: str, undefined: bool) -> None:
    inner = IMPLICIT if vr == "UN" and not syntax.implicit else syntax
    item = inner.item(inner.element(0x04000563, "LO", b"an older system "), undefined=undefined)
    end = inner.pack("HHL", 0xFFFE, 0xE0DD, 0) if undefined else b""
    length = 0xFFFFFFFF if undefined else None
    existing = syntax.element(0x04000561, vr, item + end, length=length)
    head = data_set({tag: IMAGE[tag] for tag in IMAGE if tag < 0x04000561}, syntax)
    pixels = data_set({0x7FE00010: IMAGE[0x7FE00010]}, syntax)
    content = dicom_file(head + existing + pixels, syntax)
    for copy in (coerced(content, COMPUTED, at=AT), _made(content)):
        assert item in copy.content
        if vr == "SQ":  # pydicom cannot read every UN
            ds = pydicom.dcmread(BytesIO(copy.content))
            first, second = ds.OriginalAttributesSequence
            assert first.ModifyingSystem == "an older system"
            assert second.ModifiedAttributesSequence[0].PatientAge == ""
        changed = [each.path for each in difference(content, copy.content)]
        assert not [path for path in changed if path.startswith("(0400,0561)[1]")]
        assert "(0400,0561)[2].(0400,0563)" in changed
        assert "(0400,0561)[2].(0400,0550)[1].(0010,1010)" in changed


def test_the_same_arguments_make_the_same_bytes() -> None:
    assert _made(file()) == _made(file())
    assert coerced(file(), COMPUTED, at=AT) == coerced(file(), COMPUTED, at=AT)


def test_the_uids_follow_source_values_and_model_but_not_the_clock() -> None:
    def uids(content: bytes, *fills: Fill, **more: Any) -> tuple[str, str]:
        copy = copy_of(content, *fills, **more)
        return copy.SOPInstanceUID, copy.SeriesInstanceUID

    base = uids(file(), INFERRED)
    assert uids(file(), INFERRED, at=datetime(2025, 1, 1, tzinfo=UTC)) == base
    second = uids(file(values={0x00080018: ("UI", b"1.2.3.9\0")}), INFERRED)
    assert second[0] != base[0]
    assert second[1] == base[1]  # the images of one series stay together
    resent = uids(file(values={0x7FE00010: ("OW", b"\3\4" * 8)}), INFERRED)
    assert resent[0] != base[0]
    assert resent[1] == base[1]
    for other in (uids(file(), COMPUTED), uids(file(), INFERRED, model=None)):
        assert set(other).isdisjoint(base)
    assert uids(file(), SEX_INFERRED, INFERRED) == uids(file(), INFERRED, SEX_INFERRED)


def test_the_gateway_keeps_the_uids_and_adds_little() -> None:
    changed = {
        str(change).split(" =")[0]
        for change in difference(file(), coerced(file(), COMPUTED, at=AT).content)
    }
    top = {line for line in changed if "." not in line and "[" not in line}
    assert {line for line in top if "(0002," not in line} == {
        "+ (0010,1010) PatientAge",
        "+ (0400,0561) OriginalAttributesSequence",
        "+ (4149,0010)",
        "+ (4149,1001)",
        "+ (4149,1004)",
    }
    assert not is_own_report(coerced_of(file()))


@pytest.mark.parametrize("fills", [[SEX_INFERRED], [INFERRED, SEX_INFERRED]])
def test_sex_needs_a_permission(fills: Sequence[Fill]) -> None:
    with pytest.raises(FillError, match="PatientSex"):
        copy_of(file(), *fills, allow_sex=False)
    with pytest.raises(FillError, match="PatientSex is never filled"):
        coerced(file(), SEX_INFERRED, at=AT)


@pytest.mark.parametrize(
    ("fills", "message"),
    [
        ([], "nothing"),
        ([COMPUTED, INFERRED], "two values"),
        (
            [Fill("PatientName", "Doe", "header")],
            "expected one of PatientAge, PatientSex, BodyPartExamined",
        ),
        ([Fill("PatientAge", "63", "dates")], "three digits"),
        ([Fill("PatientSex", "U", "header")], "M or F"),
        ([Fill("PatientAge", "063Y", "a guess")], "a source among"),
        ([Fill("BodyPartExamined", "Chest^PA", "header")], "a defined term"),
    ],
)
def test_what_is_no_value_is_refused(fills: Sequence[Fill], message: str) -> None:
    with pytest.raises(FillError, match=message):
        copy_of(file(), *fills)


@pytest.mark.parametrize("syntax", ALL, ids=lambda one: one.uid)
def test_a_body_part_is_filled_in_with_where_it_comes_from(syntax: Syntax) -> None:
    """It is of the series: no destination has to be one for research."""
    wrong = {0x00180015: ("CS", b"THORAX/ABD")}
    copy = copy_of(file(syntax, values=wrong), PART, COMPUTED, allow_sex=False)
    assert copy.BodyPartExamined == "CHESTABDOMEN"
    assert copy.SeriesDescription == "Chest PA [age and body part filled]"
    (item,) = copy.OriginalAttributesSequence
    assert item.ReasonForTheAttributeModification == "CORRECT"
    assert not item.ModifiedAttributesSequence[0].BodyPartExamined
    (nonconforming,) = item.NonconformingModifiedAttributesSequence
    assert nonconforming.NonconformingDataElementValue == b"THORAX/ABD"
    assert "BodyPartExamined CHESTABDOMEN: from the header itself" in copy.DerivationDescription


def test_an_inferred_body_part_says_so() -> None:
    copy = copy_of(file(), PART_INFERRED)
    assert copy.BodyPartExamined == "KNEE"
    assert copy.SeriesDescription == "Chest PA [body part inferred, not verified]"
    assert "not verified, probability 95.3 %" in copy.DerivationDescription
    block = copy.private_block(PRIVATE_GROUP, PRIVATE_CREATOR)
    (private,) = (one.private_block(PRIVATE_GROUP, PRIVATE_CREATOR) for one in block[0x01].value)
    assert [private[at].value for at in (0x10, 0x11, 0x12)] == [
        "BodyPartExamined",
        "KNEE",
        "INFERENCE",
    ]
    (item,) = copy.OriginalAttributesSequence
    assert item.ReasonForTheAttributeModification == "COERCE"
    assert "BodyPartExamined" in item.ModifiedAttributesSequence[0]


def test_a_body_part_never_goes_under_the_uid_of_its_source() -> None:
    with pytest.raises(FillError, match="never filled in under the UID"):
        coerced(file(), PART, at=AT)


def test_what_this_program_made_is_not_filled_in_again() -> None:
    with pytest.raises(FillError, match="made by this program"):
        _made(_made(file()).content)


def test_an_image_with_functional_groups_is_not_derived() -> None:
    content = file(values={0x52009229: ("SQ", b"")})
    with pytest.raises(FillError, match="functional groups"):
        _made(content)
    assert coerced_of(content).PatientAge == "063Y"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, "[age inferred, not verified]"),
        (b"x" * 35, "x" * 35 + " [age inferred, not verified]"),
        (b"x" * 64, "x" * 35 + " [age inferred, not verified]"),
        (("ä" * 17).encode(), "ä" * 17 + " [age inferred, not verified]"),
        (("ä" * 32).encode(), "[age inferred, not verified]"),
    ],
)
def test_a_series_description_stays_within_its_length(before: bytes | None, after: str) -> None:
    values = {
        0x00080005: ("CS", b"ISO_IR 192"),
        0x0008103E: before and ("LO", before + b" " * (len(before) % 2)),
    }
    copy = copy_of(file(values=values), INFERRED)
    assert copy.SeriesDescription == after
    assert len(copy.SeriesDescription) <= 64


@pytest.mark.parametrize(
    ("before", "after"), [(b"", 90000), (b"7 ", 90007), (b"12345 ", 90000), (b"a1", 90000)]
)
def test_series_numbers(before: bytes, after: int) -> None:
    copy = copy_of(file(values={0x00200011: ("IS", before)}), INFERRED)
    assert copy.SeriesNumber == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, ["DERIVED", "SECONDARY"]),
        (b"ORIGINAL", ["DERIVED", "SECONDARY"]),
        (rb"DERIVED\PRIMARY\AP", ["DERIVED", "PRIMARY", "AP"]),
    ],
)
def test_image_types(before: bytes | None, after: list[str]) -> None:
    copy = copy_of(file(values={0x00080008: before and ("CS", before)}), INFERRED)
    assert copy.ImageType == after


def test_an_older_derivation_stays_in_front() -> None:
    copy = copy_of(file(values={0x00082111: ("ST", b"Edge enhanced ")}), COMPUTED)
    assert copy.DerivationDescription.startswith("Edge enhanced; Header values filled in")
    long = copy_of(file(values={0x00082111: ("ST", b"x" * 1000)}), COMPUTED)
    assert long.DerivationDescription.startswith("Header values filled in")
    (before,) = long.OriginalAttributesSequence[0].ModifiedAttributesSequence
    assert before.DerivationDescription == "x" * 1000


def test_dates_of_the_copy_are_in_the_zone_of_the_source() -> None:
    copy = copy_of(file(values={0x00080201: ("SH", b"-0930 ")}), COMPUTED)
    assert (copy.InstanceCreationDate, copy.InstanceCreationTime) == ("20240315", "223000")
    assert copy.ContributingEquipmentSequence[0].ContributionDateTime == "20240316080000+0000"


def test_the_difference_names_path_keyword_and_values() -> None:
    before = file(values={AGE: ("AS", b"64"), 0x00091001: ("UN", b"abc ")})
    after = file(
        values={
            AGE: ("AS", b"063Y"),
            0x00104000: None,
            0x7FE00010: ("OW", b"\1\3" * 8),
            0x0008103E: ("LO", b"y" * 64),
        }
    )
    found = {change.path: change for change in difference(before, after)}
    assert list(found) == sorted(found)
    assert str(found["(0010,1010)"]) == "~ (0010,1010) PatientAge = '64' -> '063Y'"
    assert str(found["(0010,4000)"]) == "- (0010,4000) PatientComments = 'a comment'"
    assert found["(0009,1001)"].after is None
    assert "64 bytes" in str(found["(0008,103E)"].after)
    pixels = found["(7FE0,0010)"]
    assert pixels.before != pixels.after
    assert str(pixels.before).startswith("16 bytes, blake3 ")
    assert len(found) == 5
    assert difference(before, before) == []


def test_the_difference_sees_into_every_level() -> None:
    def nested(value: bytes) -> bytes:
        code = EXPLICIT.item(EXPLICIT.element(0x00080100, "SH", value), undefined=True)
        sequence = EXPLICIT.sequence(0x0040A170, [code])
        items = [EXPLICIT.item(b""), EXPLICIT.item(sequence)]
        return dicom_file(EXPLICIT.sequence(0x00082112, items, undefined=True))

    (change,) = difference(nested(b"1234"), nested(b"1235"))
    assert change.path == "(0008,2112)[2].(0040,A170)[1].(0008,0100)"
    assert (change.name, change.before, change.after) == ("CodeValue", "'1234'", "'1235'")


def test_a_difference_in_vr_alone_is_one() -> None:
    one = dicom_file(EXPLICIT.element(0x00091001, "LO", b"ab"))
    other = dicom_file(EXPLICIT.element(0x00091001, "UN", b"ab"))
    assert [change.path for change in difference(one, other)] == ["(0009,1001)"]


def test_a_deflated_file_is_compared_inflated() -> None:

    def packed(level: int) -> bytes:
        deflater = zlib.compressobj(level=level, wbits=-15)
        return deflater.compress(data_set(IMAGE)) + deflater.flush()

    assert difference(dicom_file(packed(1), DEFLATED), dicom_file(packed(9), DEFLATED)) == []


def _made(content: bytes) -> Any:
    return filled_copy(content, [COMPUTED], at=AT, settings=ReportSettings())
