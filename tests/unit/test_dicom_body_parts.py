"""The table of body parts against the standard's codes, and what several parts make together."""

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.sr._concepts_dict import concepts

from dicom_ai_node.dicom.body_parts import (
    AREAS,
    BODY_PARTS,
    BY_CODE,
    LIMBS,
    BodyPart,
    agree,
    along_the_body,
    areas_of,
    combined,
    region_of,
)

SCT = {
    code for codes in cast(dict[str, dict[str, object]], concepts["SCT"]).values() for code in codes
}
TERMS = st.sampled_from(sorted(BODY_PARTS))


@pytest.mark.parametrize("part", BODY_PARTS.values(), ids=lambda part: part.term)
def test_a_row_is_one_of_the_standard(part: BodyPart) -> None:
    """VR CS holds 16 characters (PS3.5 6.2); only what is of a fetus has no code in table L-1."""
    assert len(part.term) <= 16
    assert part.term.isalnum()
    assert part.term == part.term.upper()
    assert part.code in SCT or (part.code == "" and part.term.startswith("FETAL"))
    assert part.meaning
    assert part.areas
    assert part.areas <= set(AREAS)


@pytest.mark.parametrize(
    ("term", "code", "areas"),
    [
        ("CHEST", "816094009", {"chest"}),
        ("CHESTABDPELVIS", "416775004", {"chest", "abdomen", "pelvis"}),
        ("CSPINE", "122494005", {"neck"}),
        ("LSPINE", "122496007", {"abdomen", "pelvis"}),
        ("BRAIN", "12738006", {"head"}),
        ("KNEE", "72696002", {"knee"}),
        ("WHOLEBODY", "38266002", set(AREAS)),
    ],
)
def test_rows_that_others_rely_on(term: str, code: str, areas: set[str]) -> None:
    part = BODY_PARTS[term]
    assert (part.code, set(part.areas)) == (code, areas)
    assert BY_CODE[code] is part


def test_of_terms_with_one_code_the_first_is_found_by_it() -> None:
    assert BY_CODE["80891009"].term == "HEART"
    assert BY_CODE["32849002"].term == "ESOPHAGUS"
    assert {part.code for part in BODY_PARTS.values()} - {""} == set(BY_CODE)


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("CHEST", "LUNG", True),
        ("CHESTABDOMEN", "LIVER", True),
        ("HEADNECK", "CSPINE", True),
        ("SPINE", "LSPINE", True),
        ("WHOLEBODY", "TOE", True),
        ("EXTREMITY", "KNEE", True),
        ("EXTREMITY", "SKULL", False),
        ("HEAD", "KNEE", False),
        ("CHEST", "PELVIS", False),
        ("BREAST", "CHEST", True),
        ("HIP", "PELVIS", True),
    ],
)
def test_two_parts_agree_where_their_areas_meet(one: str, other: str, meet: bool) -> None:
    assert agree(one, other) is agree(other, one) is meet


@pytest.mark.parametrize(
    ("terms", "term"),
    [
        ((), ""),
        (("KIDNEY",), "KIDNEY"),
        (("CHEST", "ABDOMEN"), "CHESTABDOMEN"),
        (("CHEST", "LIVER"), "CHESTABDOMEN"),
        (("CHEST", "PELVIS"), "CHESTABDPELVIS"),
        (("CHEST", "ABDOMEN", "PELVIS"), "CHESTABDPELVIS"),
        (("ABDOMEN", "PELVIS"), "ABDOMENPELVIS"),
        (("NECK", "CHEST"), "NECKCHEST"),
        (("NECK", "CHEST", "ABDOMEN", "PELVIS"), "NECKCHESTABDPELV"),
        (("BRAIN", "NECK"), "HEADNECK"),
        (("BRAIN", "ORBIT"), "HEAD"),
        (("HEART", "LUNG"), "CHEST"),
        (("CHEST", "BREAST"), "CHEST"),
        (("PELVIS", "HIP"), "PELVIS"),
        (("CSPINE", "TSPINE"), "CTSPINE"),
        (("TSPINE", "LSPINE"), "TLSPINE"),
        (("LSPINE", "SSPINE"), "LSSPINE"),
        (("CSPINE", "LSPINE"), "SPINE"),
        (("TLSPINE", "SSPINE"), "SPINE"),
        (("HAND", "WRIST"), "UPPERLIMB"),
        (("KNEE", "ANKLE"), "LEG"),
        (("THIGH", "FOOT"), "LEG"),
        (("HIP", "KNEE"), "PELVISLOWEXTREMT"),
        (("HAND", "FOOT"), "EXTREMITY"),
        (("HEAD", "CHEST"), ""),
        (("HEAD", "FOOT"), ""),
        (("HEAD", "NECK", "CHEST", "ABDOMEN", "PELVIS"), "WHOLEBODY"),
        (("CHEST", "ABDOMEN", "PELVIS", "THIGH"), "WHOLEBODY"),
    ],
)
def test_several_parts_make_one_region_or_none(terms: tuple[str, ...], term: str) -> None:
    assert combined(terms) == combined(terms[::-1]) == term


@given(st.sets(TERMS, max_size=5))
def test_a_region_has_what_it_was_made_of(terms: set[str]) -> None:
    made = combined(terms)
    assert not made or all(agree(made, term) for term in terms)
    assert combined(terms) == combined(sorted(terms))


@given(st.sets(st.sampled_from(AREAS)))
def test_a_region_is_of_the_areas_that_were_asked_for(areas: set[str]) -> None:
    region = region_of(areas)
    assert not region or areas <= areas_of(region)


def test_parts_are_in_order_from_head_to_foot() -> None:
    shuffled = ["FOOT", "ABDOMEN", "HEAD", "PELVIS", "CHEST", "NECK", "KNEE", "CHEST"]
    assert along_the_body(shuffled) == [
        "HEAD",
        "NECK",
        "CHEST",
        "ABDOMEN",
        "PELVIS",
        "KNEE",
        "FOOT",
    ]


def test_what_is_one_of_two_is_on_a_limb_or_is_a_breast() -> None:
    assert BODY_PARTS["KNEE"].one_of_two
    assert BODY_PARTS["BREAST"].one_of_two
    assert BODY_PARTS["HIP"].one_of_two
    assert BODY_PARTS["WRIST"].one_of_two
    # Paired, and shown on both sides at once.
    assert BODY_PARTS["KIDNEY"].paired
    assert not BODY_PARTS["KIDNEY"].one_of_two
    assert not BODY_PARTS["CHEST"].paired
    assert {"shoulder", "hand", "hip", "foot"} <= LIMBS
    assert "chest" not in LIMBS
