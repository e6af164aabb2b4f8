"""Headers from data sets in every state, ages in AS, the settings, the document."""

import warnings
from datetime import date
from pathlib import Path

import pydicom
import pytest
from pydantic import ValidationError
from pydicom import Dataset
from pydicom.dataelem import RawDataElement

from dicom_ai_node.archive.rules import ALL_RULES, markdown_table
from dicom_ai_node.config.rules import RULE_IDS, RulesSettings
from dicom_ai_node.dicom.encoding import SEQUENCES
from dicom_ai_node.pixels import read_header
from dicom_ai_node.rules import TextHeader, check, parse_age
from dicom_ai_node.rules.ages_and_dates import encode_age_at, encode_estimate, salvage_age
from dicom_ai_node.rules.text_header import CLINICAL_SEX_PARAMETERS, ELEMENTS
from dicom_ai_node.types import AttributeStatus
from tests.builders.headers import TODAY, dataset, header
from tests.builders.series import enhanced, filed, item

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "header-rules.md"


def test_values_are_as_sent() -> None:
    sent = header(PatientAge="9", PatientSex=b" m\0", PatientBirthDate="", PatientSize=None)
    assert sent["PatientAge"] == "9 "
    assert sent["PatientSex"] == " m\0"
    assert sent.clean("PatientSex") == "m"
    assert "PatientBirthDate" in sent
    assert "PatientSize" not in sent
    assert sent["PatientSize"] == ""


def anatomy(side: str, *codes: tuple[str, str]) -> Dataset:
    """A functional group of an Enhanced object (PS3.3 C.7.6.16.2.8)."""
    frame = item(AnatomicRegionSequence=[
        item(CodeValue=value, CodingSchemeDesignator="SCT", CodeMeaning=meaning)
        for value, meaning in codes
    ])  # fmt: skip
    if side:
        frame.FrameLaterality = side
    return item(FrameAnatomySequence=[frame])


KNEE, CHEST, ABDOMEN = ("72696002", "Knee"), ("816094009", "Chest"), ("818981001", "Abdomen")


@pytest.mark.parametrize(
    ("shared", "frames", "region", "side"),
    [
        (anatomy("R", KNEE), [], "72696002\\Knee", "R"),
        (None, [anatomy("U", CHEST)] * 3, "816094009\\Chest", "U"),
        (
            None,
            [anatomy("", CHEST), anatomy("", ABDOMEN), anatomy("", CHEST)],
            "816094009\\Chest\\818981001\\Abdomen",
            "",
        ),
        (None, [anatomy("L", KNEE), anatomy("R", KNEE)], "72696002\\Knee", ""),
        (None, [item(), anatomy("L", KNEE)], "72696002\\Knee", "L"),
        (item(), [item()], "", ""),
    ],
)
def test_frames_of_an_enhanced_object_say_what_they_show(
    tmp_path: Path, shared: Dataset | None, frames: list[Dataset], region: str, side: str
) -> None:
    """Read from a file, where nothing is converted yet."""
    ds = enhanced(len(frames) or 1, study="one", Modality="MR")
    for at, frame in enumerate(frames):
        ds.PerFrameFunctionalGroupsSequence[at].update(frame)
    if shared is not None:
        ds.SharedFunctionalGroupsSequence[0].update(shared)
    ((_, path),) = filed(tmp_path, [ds])
    for given in (ds, read_header(path)):
        found = TextHeader.from_dataset(given)
        assert (found["AnatomicRegionSequence"], found["ImageLaterality"].strip()) == (region, side)
        checked = check([found], settings=RulesSettings(), today=TODAY)
        status = checked.attributes["BodyPartExamined"].status
        assert (status is AttributeStatus.CONSISTENT) == bool(region), "it need not be there"


def test_what_stands_at_the_top_goes_before_what_frames_say(tmp_path: Path) -> None:
    ds = enhanced(2, study="one", ImageLaterality="L")
    ds.AnatomicRegionSequence = [item(CodeValue="69536005", CodeMeaning="Head")]
    ds.SharedFunctionalGroupsSequence[0].update(anatomy("R", KNEE))
    found = TextHeader.from_dataset(ds)
    assert found["AnatomicRegionSequence"] == "69536005\\Head"
    assert found.clean("ImageLaterality") == "L"


def test_a_knee_whose_frames_say_the_side_lacks_no_laterality() -> None:
    ds = enhanced(2, study="one", Modality="MR", BodyPartExamined="KNEE")
    bare = check([TextHeader.from_dataset(ds)], settings=RulesSettings(), today=TODAY)
    ds.SharedFunctionalGroupsSequence[0].update(anatomy("R", KNEE))
    said = check([TextHeader.from_dataset(ds)], settings=RulesSettings(), today=TODAY)
    assert ("J4" in bare.rules, "J4" in said.rules) == (True, False)


def test_converted_elements_are_read_like_raw_ones() -> None:
    ds = Dataset()
    ds.PatientName, ds.PatientSex, ds.PatientAge = "Meier^Anna", "F", "063Y"
    ds.PatientWeight, ds.PregnancyStatus, ds.WindowCenter = "70.5", 4, ["40", "600"]
    ds.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    sent = TextHeader.from_dataset(ds)
    assert dict(sent.values) == {
        "SpecificCharacterSet": "\\ISO 2022 IR 87",
        "PatientName": "Meier^Anna",
        "PatientSex": "F",
        "PatientAge": "063Y",
        "PatientWeight": "70.5",
        "PregnancyStatus": "4",
        "WindowCenter": "40\\600",
    }


def test_numbers_follow_the_byte_order() -> None:
    ds = dataset(PregnancyStatus=3)
    little = ds.get_item(0x001021C0)
    assert isinstance(little, RawDataElement)
    ds[0x001021C0] = little._replace(value=b"\0\3", is_little_endian=False)
    assert TextHeader.from_dataset(ds)["PregnancyStatus"] == "3"


def test_a_sequence_where_text_belongs_is_no_text() -> None:
    ds = Dataset()
    item = Dataset()
    ds.add_new(0x00101010, "SQ", [item])
    assert TextHeader.from_dataset(ds)["PatientAge"] == ""
    item.PatientAge = "063Y"
    assert TextHeader.from_dataset(ds)["PatientAge"] == "(items)"


def test_values_are_cut() -> None:
    assert len(header(PatientAge=b"9" * 100_000)["PatientAge"]) < 5000


def test_the_parser_knows_the_sequences_that_pydicom_does_not() -> None:
    for keyword in CLINICAL_SEX_PARAMETERS:
        tag, vr = ELEMENTS[keyword]
        assert not pydicom.datadict.dictionary_has_tag(tag)
        assert (tag in SEQUENCES) == (vr == "SQ")


def test_every_real_file_can_be_checked(shared_data: Path) -> None:
    paths = sorted((shared_data / "dicom").rglob("*.dcm"))
    assert len(paths) > 200
    for path in paths:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        result = check([TextHeader.from_dataset(ds)], settings=RulesSettings(), today=TODAY)
        if path.name.startswith("ID_"):
            # SIIM: an age without its unit, which is clear all the same.
            assert result.rules == ("A1", "B4", "D4", "I4")
            assert [proposal.value[3] for proposal in result.proposals] == ["Y"]


@pytest.mark.parametrize(
    ("years", "text"), [(2.0, "002Y"), (62.4, "062Y"), (62.5, "063Y"), (62.9, "063Y")]
)
def test_an_estimate_is_the_nearest_year(years: float, text: str) -> None:
    assert encode_estimate(years) == text


@pytest.mark.parametrize("years", [1.99, -1.0, 999.5, float("nan"), float("inf")])
def test_an_estimate_below_two_years_has_no_value(years: float) -> None:
    with pytest.raises(ValueError, match="estimate"):
        encode_estimate(years)


def test_encode_age_at_goes_by_the_calendar() -> None:
    assert encode_age_at(date(2020, 2, 29), date(2022, 2, 28)) == "023M"
    assert encode_age_at(date(2020, 2, 29), date(2022, 3, 1)) == "002Y"
    assert encode_age_at(date(2020, 2, 29), date(2020, 2, 29)) == "000D"
    with pytest.raises(ValueError, match="not born"):
        encode_age_at(date(2020, 2, 29), date(2020, 2, 28))
    with pytest.raises(ValueError, match="not an age"):
        encode_age_at(date(1020, 2, 29), date(2020, 3, 1))


@pytest.mark.parametrize(
    ("text", "years"),
    [("063Y", 63.0), ("006M", 0.5), ("000D", 0.0), ("63Y", None), ("063y", None), ("", None)],
)
def test_parse_age(text: str, years: float | None) -> None:
    assert parse_age(text) == years


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("65", "065Y"),
        ("65Y", "065Y"),
        ("063y", "063Y"),
        ("63 yrs.", "063Y"),
        ("5 months", "005M"),
        ("10d", "010D"),
        ("UNK", None),
        ("63 x", None),
        ("1234", None),
        ("-3", None),
        ("\u0663\u0663", None),
    ],
)
def test_salvage_age(text: str, age: str | None) -> None:
    salvaged = salvage_age(text)
    assert (str(salvaged) if salvaged else None) == age


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"disabled": ("Z9",)}, "no such rule: Z9"),
        ({"placeholder_birth_dates": ("1.1.1900",)}, "pattern"),
        ({"test_names": ("",)}, "at least 2"),
        ({"maximum_age": 100, "remarkable_age": 111}, "remarkable_age"),
        ({"max_age": 100}, "Extra inputs"),
    ],
)
def test_settings_are_checked(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RulesSettings(**values)


def test_every_setting_has_a_description_and_a_rule() -> None:
    fields = RulesSettings.model_fields
    assert all(field.description and not field.is_required() for field in fields.values())
    used = {name for rule in ALL_RULES.values() for name in rule.tunables}
    assert used | {"disabled"} == set(fields)


def test_limits_change_what_fires() -> None:
    settings = RulesSettings(age_tolerance_units=2, age_conflict_years=5)
    changed = check([header(PatientAge="066Y")], settings=settings, today=TODAY)
    assert changed.rules == ("E1",)


def test_the_document_holds_the_rules_as_they_are() -> None:
    assert markdown_table() in DOCUMENT.read_text(encoding="utf-8"), (
        "run: python -m dicom_ai_node.archive.rules, and put the table into docs/header-rules.md"
    )


def test_the_settings_know_every_rule() -> None:
    assert tuple(ALL_RULES) == RULE_IDS
