"""What descriptions and odd values of BodyPartExamined are read as, and what they are not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_ai_node.dicom.body_part_vocabulary import NOTHING, VOCABULARY
from dicom_ai_node.dicom.body_part_words import (
    areas_named,
    read_value,
    sides_named,
    term_named,
    terms_named,
)
from dicom_ai_node.dicom.body_parts import AREAS, BODY_PARTS

LINES = [line.split(": ") for line in VOCABULARY.strip().splitlines()]


@pytest.mark.parametrize(("term", "words"), LINES)
def test_each_word_of_the_vocabulary_is_read_as_its_part(term: str, words: str) -> None:
    part = BODY_PARTS[term.removeprefix("?")]
    for word in words.split(", "):
        text = word.replace("*", "EN")
        assert areas_named(f"MR {text.lower()} 3mm") == part.areas, word
        assert term_named(text) == ("" if term.startswith("?") else part.term), word


def test_no_word_stands_for_two_parts() -> None:
    words = [word for _, line in LINES for word in line.split(", ")]
    words += NOTHING.strip().replace("\n", ", ").split(", ")
    assert len(words) == len(set(words))


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("CT Thorax/Abdomen", "CHESTABDOMEN"),
        ("CT CHEST ABDOMEN PELVIS W CONTRAST", "CHESTABDPELVIS"),
        ("CHEST_TO_PELVIS", "CHESTABDPELVIS"),
        ("CT C/A/P", "CHESTABDPELVIS"),
        ("CT Abd+Pel (contrast)", "ABDOMENPELVIS"),
        ("MR Knie links", "KNEE"),
        ("cor lumbar", "LSPINE"),
        ("7.1 L-Spine 3 Level 2.5mm", "LSPINE"),
        ("Spine^Lumbar", "LSPINE"),
        ("CTL spine whole spine", "SPINE"),
        ("HEAD WO CONTRAST", "HEAD"),
        ("CT des Schädels", "HEAD"),
        ("Schaedel_nativ_1", "HEAD"),
        ("RM DE CRANIO", "HEAD"),
        ("Tête", "HEAD"),
        ("BRAIN SELLA", "HEAD"),
        ("ThoraxRoutine", "CHEST"),
        ("MRT Oberbauch", "ABDOMEN"),
        ("ABDOME/SUP.", "ABDOMEN"),
        ("XR MANUS", "HAND"),
        ("LWS ap", "LSPINE"),
        ("WRIST^RIGHT", "WRIST"),
        ("Finger und Daumen Routine", "HAND"),
        ("femoral neck", "HIP"),
        ("Extremity, knee", "KNEE"),
        ("radiographie du genou gauche", "KNEE"),
        ("RX DE RODILLA", "KNEE"),
        ("CT ABDOMEN r/o chest mass", "ABDOMEN"),
    ],
)
def test_a_description_names_one_part(text: str, term: str) -> None:
    assert term_named(text) == term


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Scout",
        "Topogramm 0.6 T20f",
        "chest pain",
        "R/O chest mass",
        "prostate cancer",
        "head first",
        "FEET FIRST SUPINE",
        "arm down",
        "C-arm",
        "BODY",
        "spine coil",
        "HEAD/NECK COIL 20 CH",
        "pelvic phased array coil",
        "no abdomen",
        "t2_tse_tra 5mm",
        "e+1",
    ],
)
def test_a_position_a_symptom_or_a_coil_names_no_part(text: str) -> None:
    assert areas_named(text) == frozenset()
    assert terms_named(text) == frozenset()


def test_what_may_be_two_parts_names_a_place_and_no_term() -> None:
    assert areas_named("SAG CERVICAL") == {"neck"}
    assert term_named("SAG CERVICAL") == ""
    assert term_named("CT neck cervical") == "NECK"
    assert term_named("CT head cervical") == ""


@pytest.mark.parametrize(
    ("value", "term"),
    [
        ("CHEST", "CHEST"),
        (" CHEST ", "CHEST"),
        ("chest", "CHEST"),
        ("THORAX", "THORAX"),
        ("Chest^PA", "CHEST"),
        ("CHEST PORTABLE", "CHEST"),
        ("LUNG", "LUNG"),
        ("ABD", "ABDOMEN"),
        ("CHEST/ABD", "CHESTABDOMEN"),
        ("C-SPINE", "CSPINE"),
        ("LUMBAR SPINE", "LSPINE"),
        ("SCHAEDEL", "HEAD"),
        ("Schädel", "HEAD"),
        ("SINUS", "HEAD"),
        ("UP_EXM", "UPPERLIMB"),
        ("LOW_EXM", "LOWERLIMB"),
        ("EXTREMITIES", "EXTREMITY"),
        ("HEAD_AND_NECK", "HEADNECK"),
        ("WHOLE BODY", "WHOLEBODY"),
        ("KNEE_LEFT", "KNEE"),
        ("Hand links", "HAND"),
        ("", ""),
        ("BODY", ""),
        ("CHEST PAIN", ""),
        ("CHEST OR NOT", ""),
        ("CERVICAL", ""),
        ("ROUTINE", ""),
        ("UNKNOWN", ""),
        ("XYZ", ""),
    ],
)
def test_a_value_in_a_wrong_form_is_read_where_it_is_sure(value: str, term: str) -> None:
    assert read_value(value) == term


@pytest.mark.parametrize(
    ("text", "sides"),
    [
        ("left knee", "L"),
        ("MR Knie links", "L"),
        ("RT ANKLE", "R"),
        ("KNEE LT 3 VIEWS", "L"),
        ("genou droit", "R"),
        ("XR HANDS BOTH", "LR"),
        ("Hüfte beidseits", "LR"),
        ("left and right foot", "LR"),
        ("CHEST RT", ""),
        ("RT PLAN PELVIS", ""),
        ("left lateral chest", ""),
        ("L-SPINE", ""),
        ("R/O left hip fracture", ""),
        ("", ""),
    ],
)
def test_sides_are_named_by_words_and_beside_a_limb_by_letters(text: str, sides: str) -> None:
    assert sides_named(text) == set(sides)


@pytest.mark.parametrize("term", BODY_PARTS)
def test_a_defined_term_is_read_as_itself_whatever_its_case(term: str) -> None:
    assert read_value(term) == read_value(f" {term.lower()}\0") == term


@given(st.text(max_size=80))
def test_no_text_makes_reading_fail(text: str) -> None:
    assert areas_named(text) <= set(AREAS)
    assert {read_value(text), term_named(text)} <= {*BODY_PARTS, ""}
    assert sides_named(text) <= {"L", "R"}


@given(st.lists(st.sampled_from([word for _, line in LINES for word in line.split(", ")])))
def test_a_sure_term_is_where_the_words_are(words: list[str]) -> None:
    text = " ".join(words).replace("*", "")
    term = term_named(text)
    assert not term or not BODY_PARTS[term].areas.isdisjoint(areas_named(text))
