"""Values as text, patients by their ID, UIDs: the same from bytes of every character set."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from dicom_ai_node.analyse.headers import check_file
from dicom_ai_node.audit.sources.dicom_json import header_of
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.dicom.uids import is_uid
from dicom_ai_node.dicom.values import decoded, patient_key, text_of
from dicom_ai_node.rules import TextHeader, check
from dicom_ai_node.types import AttributeStatus
from tests.builders.checks import age_and_sex
from tests.builders.dicom_bytes import BIG_ENDIAN, EXPLICIT, IMPLICIT, Syntax
from tests.builders.headers import TODAY, dataset
from tests.unit.test_dicom_header import image

LATIN, UTF8, KANJI = "ISO_IR 100", "ISO_IR 192", "\\ISO 2022 IR 87"
GREEK, GB, KOREAN = "ISO_IR 126", "GB18030", "\\ISO 2022 IR 149"


def patient(value: bytes, charset: str | None = None, issuer: bytes = b"") -> Dataset:
    ds = Dataset()
    elements = {0x00080005: charset and charset.encode(), 0x00100020: value, 0x00100021: issuer}
    for tag, content in elements.items():
        if content:
            ds[tag] = RawDataElement(Tag(tag), "LO", len(content), content, 0, False, True)
    return ds


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("Ä123".encode("latin-1"), LATIN), ("Ö123".encode("latin-1"), LATIN)),
        (("Ä123".encode(), UTF8), ("Ö123".encode(), UTF8)),
        (("東1".encode(), UTF8), ("西1".encode(), UTF8)),
        (("東1".encode("iso2022_jp"), KANJI), ("西1".encode("iso2022_jp"), KANJI)),
        (("東1".encode("gb18030"), GB), ("西1".encode("gb18030"), GB)),
        ((b"\xc4123", LATIN), (b"\xc4123", GREEK)),
        # No character set, one that is none, one that does not fit: told apart by their bytes.
        ((b"\xc4123", None), (b"\xd6123", None)),
        ((b"\xc4123", "LATIN"), (b"\xd6123", "LATIN")),
        ((b"\xc4123", UTF8), (b"\xd6123", UTF8)),
        ((b"\xc4123", None), ("Ä123".encode(), UTF8)),
        ((b"\x1b$Z123", None), (b"\x1b$Y123", None)),
        ((b"A 1", None), (b"A1", None)),
        ((b"a1", None), (b"A1", None)),
    ],
)
def test_other_ids_are_other_patients(one: tuple[Any, Any], other: tuple[Any, Any]) -> None:
    assert patient_key(patient(*one)) != patient_key(patient(*other))


@pytest.mark.parametrize(
    ("text", "forms"),
    [
        ("Ä123", [(LATIN, "latin-1"), (UTF8, "utf-8"), (GB, "gb18030")]),
        ("東1", [(KANJI, "iso2022_jp"), (UTF8, "utf-8"), (GB, "gb18030")]),
        ("Ω1", [(GREEK, "iso8859_7"), (UTF8, "utf-8")]),
        ("P1", [(None, "ascii"), (LATIN, "ascii"), (UTF8, "ascii"), (KANJI, "ascii")]),
    ],
)
@pytest.mark.parametrize("padding", [b"", b" ", b"\0", b"  \0"])
def test_one_id_is_one_patient_in_every_character_set(
    text: str, forms: list[tuple[str | None, str]], padding: bytes
) -> None:
    keys = {
        patient_key(patient(side + text.encode(codec) + padding, charset))
        for charset, codec in forms
        for side in (b"", b" ")
    }
    # As every version made it of an ASCII ID: what is in the database stays linked.
    assert keys == {hashlib.sha256(f"\0{text}".encode()).hexdigest()}


def test_korean_is_read_with_its_escape_sequence() -> None:
    value = b"\x1b$)C" + "김1".encode("euc_kr")
    assert patient_key(patient(value, KOREAN)) == patient_key(patient("김1".encode(), UTF8))


def test_the_issuer_counts_and_nothing_is_nobody() -> None:
    assert patient_key(patient(b"1", issuer=b"A")) != patient_key(patient(b"1", issuer=b"B"))
    assert patient_key(patient(b"1", LATIN, b"\xc4")) != patient_key(patient(b"1", LATIN, b"\xd6"))
    assert patient_key(patient(b"1", issuer=b"A \0")) == patient_key(patient(b"1 ", issuer=b"A"))
    assert {patient_key(patient(value)) for value in (b"", b"  ", b"\0\0")} == {""}


def test_text_is_read_without_loss_and_without_padding() -> None:
    ds = patient(b" \xc4\0 ")
    assert decoded(ds, "PatientID") == ("Ä", False)
    assert text_of(ds, 0x00100020) == "Ä"
    assert text_of(ds, "StudyDate") == ""
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    assert text_of(ds, "ImageType") == "ORIGINAL\\PRIMARY"


@pytest.mark.parametrize(
    "text",
    ["1.2.840.10008.1.2", "0.1", "1.02.003", "2.25.329800735698586629295641978511506172918", "1",
     "1" * 64],
)  # fmt: skip
def test_what_is_a_uid(text: str) -> None:
    assert is_uid(text)


@pytest.mark.parametrize(
    "text",
    ["", ".", "...", "1.", ".1", "1..2", "1.2.", "1.a", "1. 2", " 1", "1.2\n", "-1.2", "1,2",
     "\N{SUPERSCRIPT ONE}.2", "1" * 65, "1.2" * 22],
)  # fmt: skip
def test_what_is_none(text: str) -> None:
    assert not is_uid(text)


BLANK = (b"", b" ", b"\0\0", b"  \0 ", b"\\", b"^^=")
ANIMAL, DEIDENTIFIED = (0x00102202, 0x00102293), 0x00120064
SEQUENCES = (*ANIMAL, DEIDENTIFIED, 0x00100041, 0x00100043, 0x00100044, 0x00100046)


def emptied(syntax: Syntax, undefined: bool) -> list[bytes]:
    """Values of a sequence in which nothing is said, as bytes."""
    item = syntax.item(b"", undefined=undefined)
    nested = syntax.sequence(0x00081140, [item], undefined=undefined)
    scheme = syntax.element(0x00080102, "SH", b"SRT ")
    blanks = [syntax.element(0x00080100, "SH", blank) for blank in BLANK]
    contents = [b"", nested, scheme, *blanks, syntax.element(0x00080104, "LO", b"  ") + nested]
    return [b"", *(syntax.item(content, undefined=undefined) for content in contents), item * 3]


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN], ids=lambda each: each.uid)
@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("tag", SEQUENCES, ids=hex)
def test_an_item_without_content_says_nothing(
    tmp_path: Path, syntax: Syntax, undefined: bool, tag: int
) -> None:
    path = tmp_path / "a.dcm"
    for value in emptied(syntax, undefined):
        path.write_bytes(image(syntax, {tag: syntax.sequence(tag, [value], undefined=undefined)}))
        document = check_file(path, RulesSettings(), today=TODAY)
        assert document["status"] == dict.fromkeys(("age", "sex", "body_part"), "CONSISTENT")
        assert not {"F4", "F6", "D10", "E8"} & set(document["rules"])
    said = syntax.item(syntax.element(0x00080100, "SH", b"L-80A2"), undefined=undefined)
    path.write_bytes(image(syntax, {tag: syntax.sequence(tag, [said], undefined=undefined)}))
    document = check_file(path, RulesSettings(), today=TODAY)
    expected = {"F4"} if tag in ANIMAL else set() if tag == DEIDENTIFIED else {"F6"}
    assert set(document["rules"]) & {"F4", "F6"} == expected


@pytest.mark.parametrize(
    "keyword",
    ["PatientSpeciesDescription", "PatientSexNeutered", "PatientBreedDescription",
     "SexParametersForClinicalUseCategoryComment", "GenderIdentityComment",
     "ResponsiblePersonRole", "DeidentificationMethod"],
)  # fmt: skip
@pytest.mark.parametrize("value", [*BLANK, b"\r\n", b"\t", b"\\\\ "])
def test_a_value_of_mere_padding_says_nothing(keyword: str, value: bytes) -> None:
    result = check(
        [TextHeader.from_dataset(dataset(**{keyword: value}))],
        settings=RulesSettings(),
        today=TODAY,
    )
    assert result.exempt == ""
    assert age_and_sex(result) == (AttributeStatus.CONSISTENT,) * 2
    assert not {"F4", "F6"} & set(result.rules)


@pytest.mark.parametrize("tag", SEQUENCES, ids=hex)
@pytest.mark.parametrize(
    "value",
    [[], [{}], [None], [{}, {}], [{"00080100": {"vr": "SH"}}],
     [{"00080102": {"vr": "SH", "Value": ["SRT"]}}],
     [{"00080100": {"vr": "SH", "Value": [None]}}], [{"00080100": {"vr": "SH", "Value": [" "]}}],
     [{"00081140": {"vr": "SQ", "Value": [{}]}}]],
)  # fmt: skip
def test_json_items_without_content_say_nothing(tag: int, value: list[Any]) -> None:
    key = f"{tag:08X}"
    keyword = next(iter(header_of({key: {"vr": "SQ", "Value": value}}).values))
    assert not header_of({key: {"vr": "SQ", "Value": value}}).says(keyword)
    said = [{"00081140": {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["x"]}}]}}]
    assert header_of({key: {"vr": "SQ", "Value": said}})[keyword] == "(items)"


def test_a_sequence_that_is_still_raw_is_looked_into() -> None:
    """As pydicom leaves a sequence of defined length in an answer to C-FIND."""
    for content, expected in ((b"", ""), (EXPLICIT.element(0x00080104, "LO", b"Canine"), "Canine")):
        value = EXPLICIT.item(content)
        ds = Dataset()
        ds[0x00102202] = RawDataElement(Tag(0x00102202), "SQ", len(value), value, 0, False, True)
        assert TextHeader.from_dataset(ds)["PatientSpeciesCodeSequence"] == expected
    assert TextHeader.from_dataset(Dataset())["PatientSpeciesCodeSequence"] == ""
    ds = Dataset()
    ds.add_new(0x00102202, "SQ", Sequence([Dataset(), Dataset()]))
    assert not TextHeader.from_dataset(ds).says("PatientSpeciesCodeSequence")
