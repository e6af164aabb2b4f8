"""Rules over an archive: what they find, and the nearest thing that they leave alone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import MRImageStorage

from dicom_ai_node.answers import Category, ImageRef, ImageResult, Outcome, Prediction
from dicom_ai_node.archive.member import Collected, Member, StudyFacts
from dicom_ai_node.archive.rules import ARCHIVE_RULES, audit_archive, judge_groups
from dicom_ai_node.archive.statistics import (
    benjamini_hochberg,
    hypergeometric_tail,
    wilson_interval,
)
from dicom_ai_node.audit.campaign import AuditSpec
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.rules import TextHeader
from dicom_ai_node.types import AttributeStatus, HeaderCheck
from tests.builders.answers import study_result
from tests.builders.checks import age_and_sex
from tests.builders.headers import TODAY, header
from tests.builders.scores import concluded

SETTINGS = RulesSettings()


def study(
    key: str, listed: Mapping[str, str] | None = None, *, whole: bool = True, **changes: Any
) -> Collected:
    own = header(**{"StudyInstanceUID": f"1.2.{key}", "StationName": "A", **changes})
    answer = TextHeader(listed) if listed is not None else None
    return Collected(key, StudyFacts(f"1.2.{key}", (own,), answer, from_files=whole))


def checks(collected: Sequence[Collected], **settings: object) -> dict[str, HeaderCheck]:
    return {one.key: one.check for one in members(collected, **settings)}


def members(collected: Sequence[Collected], **settings: object) -> tuple[Member, ...]:
    return audit_archive(collected, settings=RulesSettings(**settings), today=TODAY)


def fired(rule: str, collected: Sequence[Collected], **settings: object) -> set[str]:
    return {key for key, one in checks(collected, **settings).items() if rule in one.rules}


def crowd(count: int, station: str = "B", start: int = 1000, **changes: Any) -> list[Collected]:
    """Sound studies of as many patients, of whom no two look alike."""
    return [
        study(
            str(start + at),
            StationName=station,
            PatientID=f"{station}{start + at}",
            PatientName=f"{_word(start + at)}^{_word(at)}",
            **changes,
        )
        for at in range(count)
    ]


def _word(number: int) -> str:
    return "".join(chr(97 + int(digit)) * 2 for digit in f"{number:04d}")


@given(st.integers(1, 30), st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_at_least_is_the_tail_of_the_hypergeometric_distribution(
    total: int, marked: int, drawn: int, found: int
) -> None:
    marked, drawn = min(marked, total), min(drawn, total)
    ways = sum(
        math.comb(marked, k) * math.comb(total - marked, drawn - k)
        for k in range(found, min(marked, drawn) + 1)
    )
    exact = Fraction(ways, math.comb(total, drawn))
    assert hypergeometric_tail(found, drawn, marked, total) == pytest.approx(float(exact), abs=1e-9)


@given(st.lists(st.floats(0, 1), max_size=30), st.floats(0.01, 0.5))
def test_discoveries_are_those_of_benjamini_and_hochberg(p: list[float], rate: float) -> None:
    found = benjamini_hochberg(p, rate)
    ranked = sorted(p)
    limits = [v for k, v in enumerate(ranked, 1) if v <= k / len(p) * rate]
    assert found.count(True) == (
        ranked.index(limits[-1]) + ranked.count(limits[-1]) if limits else 0
    )
    kept = [v for v, one in zip(p, found, strict=True) if one]
    left = [v for v, one in zip(p, found, strict=True) if not one]
    assert not kept or not left or max(kept) <= min(left)


def test_wilson_is_as_published() -> None:
    # Newcombe 1998, table I: 81 of 263, and 0 of 20.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson_interval(0, 0) == (0.0, 1.0)


def spike(count: int, age: str = "099Y", birth: str = "") -> list[Collected]:
    return crowd(count, "A", 5000, PatientAge=age, PatientBirthDate=birth)


def test_c3_finds_the_station_that_fills_in_an_age() -> None:
    found = checks([*spike(6), *crowd(20, "A"), *crowd(200, "B", 2000)])
    hit = {key for key, one in found.items() if "C3" in one.rules}
    assert hit == {one.key for one in spike(6)}
    assert {age_and_sex(found[key])[0] for key in hit} == {AttributeStatus.IMPLAUSIBLE}


def test_c3_leaves_alone_what_is_rare_what_is_everywhere_and_what_the_dates_say() -> None:
    others = [*crowd(20, "A"), *crowd(200, "B", 2000)]
    assert fired("C3", [*spike(4), *others]) == set()
    blank: dict[str, Any] = {"PatientAge": "099Y", "PatientBirthDate": ""}
    everywhere = [*crowd(40, "B", 7000, **blank), *crowd(130, "B", 8000)]
    assert fired("C3", [*spike(6), *crowd(20, "A"), *everywhere]) == set()
    # A children's ward, of birth dates that differ.
    ward = spike(12, "001Y", "20220301")
    assert fired("C3", [*ward, *others]) == set()
    assert fired("C3", [*spike(6), *others], disabled=("C3",)) == set()
    assert fired("C3", [*spike(4), *others], spike_minimum=3) != set()


def test_c6_counts_patients_of_one_station_and_day() -> None:
    same: dict[str, Any] = {"PatientBirthDate": "19600415"}
    assert len(fired("C6", crowd(4, **same))) == 4
    assert fired("C6", crowd(3, **same)) == set()
    assert fired("C6", [*crowd(3, "A", **same), *crowd(1, "B", 2000, **same)]) == set()
    one_patient = [study(str(at), PatientID="1", **same) for at in range(6)]
    assert fired("C6", one_patient) == set()
    assert len(fired("C6", crowd(2, **same), same_birth_date_patients=1)) == 2


def pair(first: str, second: str, **changes: Any) -> set[str]:
    return fired(
        "G5",
        [
            study("1", PatientName=first),
            study("2", **{"PatientName": second, **changes}),
        ],
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Meier^Anna", "MEIER^ANNA^^^"),
        ("Meier^Anna", "Schulz^Anna"),  # a marriage
        ("Meier^Anna", "Meier-Schulz^Anna Maria"),
        ("Meier^Anna", "Meier^A"),
        ("Meier^Anna", "Anna^Meier"),
        ("Meier^Anna", "Mejer^Ana"),
        ("Meier^Anna", "Meire^Anna"),
        ("Mueller^Zoe", "M\xfcller^Zo\xe9"),
        ("Muller^Zoe", "M\xfcller^Zoe"),
        ("Meier^Anna", "Meier, Anna"),
        ("Meier^Anna", ""),
        ("Meier^Anna", "UNKNOWN^TRAUMA"),
        ("Meier^Anna", "Meier^Anna=\xe9^\xe9"),
    ],
)
def test_g5_leaves_names_alone_that_may_be_one_persons(first: str, second: str) -> None:
    assert pair(first, second) == set()
    assert pair(second, first) == set()


@pytest.mark.parametrize("second", ["Tanaka^Jiro", "Bauer^Otto", "Meyerbeer^Giacomo"])
def test_g5_finds_two_persons_under_one_patient_id(second: str) -> None:
    assert pair("Meier^Anna", second) == {"1", "2"}


def test_g5_takes_a_family_for_several_persons_when_the_birth_dates_differ() -> None:
    assert pair("Meier^Anna", "Meier^Otto") == set()
    assert pair("Meier^Anna", "Meier^Otto", PatientBirthDate="19850703") == {"1", "2"}


def test_g5_leaves_deidentified_and_exempt_studies_alone() -> None:
    assert pair("Meier^Anna", "Tanaka^Jiro", PatientIdentityRemoved="YES") == set()
    assert pair("Meier^Anna", "Tanaka^Jiro", PatientSpeciesDescription="Canine") == set()
    assert pair("Meier^Anna", "Tanaka^Jiro", PatientID="") == set()


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, True),
        ({"PatientName": "meier^anna^"}, True),
        ({"IssuerOfPatientID": "OTHER"}, False),
        ({"PatientSex": "M"}, False),
        ({"PatientBirthDate": "19600416"}, False),
        ({"PatientName": "Meier^Anne"}, False),
        ({"PatientID": "4711"}, False),
    ],
)
def test_g5_finds_one_person_under_two_patient_ids(changes: dict[str, Any], found: bool) -> None:
    first = study("1", IssuerOfPatientID="H")
    second = study("2", **{"PatientID": "815", "IssuerOfPatientID": "H", **changes})
    assert (fired("G5", [first, second]) == {"1", "2"}) == found


@pytest.mark.parametrize("lacking", ["PatientBirthDate", "PatientSex", "PatientName"])
def test_g5_needs_all_three_to_say_that_two_are_one(lacking: str) -> None:
    lacks: dict[str, Any] = {lacking: ""}
    assert fired("G5", [study("1", **lacks), study("2", PatientID="815", **lacks)]) == set()
    unknown: dict[str, Any] = {"PatientBirthDate": "19000101"}
    assert fired("G5", [study("1", **unknown), study("2", PatientID="8", **unknown)]) == set()


def test_an_issuer_that_is_not_said_is_the_only_one_that_is_known() -> None:
    said, silent = study("1", IssuerOfPatientID="H", PatientSex="M"), study("2")
    undated: dict[str, Any] = {"StudyDate": ""}
    assert fired("G1", [said, study("2", **undated)]) == {"1", "2"}
    other = study("3", IssuerOfPatientID="K", PatientSex="M")
    assert fired("G1", [said, study("2", **undated), other]) == set()
    assert len({one.patient for one in members([said, silent])}) == 1


def test_what_is_not_held_against_a_study_is_not_held_against_others() -> None:
    undated: dict[str, Any] = {"StudyDate": ""}
    exempt: tuple[dict[str, Any], ...] = (
        {"PatientSex": "O", **undated},
        {"PatientSex": "M", "PatientSpeciesDescription": "Canine", **undated},
        {"PatientSex": "M", "LongitudinalTemporalInformationModified": "MODIFIED", **undated},
    )
    for changes in exempt:
        assert fired("G1", [study("1", **changes), study("2")]) == set()


ANSWER = {
    "PatientID": "4711",
    "PatientName": "Meier^Anna",
    "PatientBirthDate": "19600415",
    "PatientSex": "F",
    "StudyDate": "20230610",
    "AccessionNumber": "77",
}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"PatientName": "MEIER^ANNA^^^"},
        {"PatientName": " meier ^ Anna "},
        {"PatientName": "Meier^Anna=\u30de^\u30a2"},
        {"PatientSex": "f"},
        {"PatientBirthDate": "1960.04.15"},
        {"PatientID": " 4711 "},
        {"PatientName": ""},
        {"StudyDate": ""},
        {"AccessionNumber": "77\0"},
    ],
)
def test_g8_ignores_how_a_value_is_written(change: dict[str, str]) -> None:
    assert fired("G8", [study("1", {**ANSWER, **change}, AccessionNumber="77")]) == set()


@pytest.mark.parametrize(
    "change",
    [
        {"PatientName": "Meier^Anne"},
        {"PatientSex": "M"},
        {"PatientBirthDate": "19600514"},
        {"PatientID": "4712"},
        {"StudyDate": "20230611"},
        {"AccessionNumber": "78"},
    ],
)
def test_g8_finds_what_differs_and_quotes_no_identifier(change: dict[str, str]) -> None:
    one = checks([study("1", {**ANSWER, **change}, AccessionNumber="77")])["1"]
    (finding,) = (found for found in one.findings if found.rule == "G8")
    ((keyword, value),) = change.items()
    assert (value in finding.reason) == (keyword in {"PatientSex", "PatientBirthDate", "StudyDate"})
    assert (age_and_sex(one)[1] is AttributeStatus.CONFLICT_HEADER) == (keyword == "PatientSex")


def test_g8_knows_letters_that_a_character_set_lost() -> None:
    named: dict[str, Any] = {"PatientName": "M\xfcller^Zo\xe9"}
    assert fired("G8", [study("1", {"PatientName": "M?ller^Zo?"}, **named)]) == set()
    assert fired("G8", [study("1", {"PatientName": "M?ller^Z??"}, **named)]) == {"1"}
    assert fired("G8", [study("1", {"PatientName": "?????^????"})]) == {"1"}


def test_g8_needs_a_file_to_hold_the_listing_against() -> None:
    assert fired("G8", [study("1", {"PatientID": "4712"}, whole=False)]) == set()


def test_a_listing_is_not_blamed_for_what_it_was_not_asked() -> None:
    answer: dict[str, Any] = {"PatientAge": None, "PatientSex": None, "PatientBirthDate": None}
    one = checks([study("1", whole=False, **answer)])["1"]
    assert one.rules == ()
    assert age_and_sex(one) == (AttributeStatus.NOT_ASSESSED,) * 2
    assert fired("B2", [study("1", whole=False, PatientSex="")]) == {"1"}
    assert {"B1", "B3"} <= set(checks([study("1", **answer)])["1"].rules)


def test_a_study_that_could_not_be_had_is_a_finding() -> None:
    found = checks(
        [
            Collected("1", None, fault="the peer did not answer"),
            Collected("2", StudyFacts("", (header(),)), expected=3, arrived=2),
            Collected("3", StudyFacts("1.02.3", (header(),)), expected=3, arrived=3),
            Collected("4", StudyFacts("1.2.3", ())),
        ]
    )
    assert [found[key].rules for key in "1234"] == [("S1",), ("S2", "S3"), ("S3",), ()]
    assert age_and_sex(found["1"])[0] is AttributeStatus.NOT_ASSESSED


def test_g7_names_the_console_and_not_its_manufacturer() -> None:
    maker: dict[str, Any] = {"Manufacturer": "Acme"}
    bad = [*crowd(25, "BAD", 1000, PatientAge="", **maker), *crowd(5, "BAD", 1100, **maker)]
    good = [*crowd(60, "GOOD", 2000, **maker), *crowd(60, "FINE", 3000)]
    own, groups = judge_groups(members([*bad, *good]), SETTINGS)
    assert {(one.by, one.name) for one in groups if one.unusual} == {("station", "BAD")}
    told = [one for one in own if "G7" in one.check.rules]
    assert {one.key for one in told} == {one.key for one in bad[:25]}
    assert all("'BAD'" in one.check.findings[-1].reason for one in told)
    assert judge_groups(members(bad), RulesSettings(disabled=("G7",)))[1] == []


def test_g7_says_nothing_of_small_groups_nor_of_chance() -> None:
    few = crowd(10, "FEW", 1000, PatientAge="")
    even = [
        one
        for start in (2000, 3000, 4000)
        for one in (
            *crowd(5, f"S{start}", start, PatientAge=""),
            *crowd(45, f"S{start}", start + 50),
        )
    ]
    _, groups = judge_groups(members([*few, *even]), SETTINGS)
    assert [one.name for one in groups if one.unusual] == []


def test_a_patient_id_that_everybody_has_takes_no_forever() -> None:
    many = [study(str(at), PatientID="0", PatientSex="FM"[at % 2]) for at in range(700)]
    assert len(fired("G1", many)) == 700


def test_no_reason_quotes_a_name_or_an_identifier() -> None:
    studies = [
        study("1", ANSWER | {"PatientID": "X"}, PatientName="Secret^Person", PatientID="ID77"),
        study("2", ANSWER, PatientName="Hidden^Human", PatientID="ID77", AccessionNumber="AC9"),
        Collected("3", StudyFacts("1.2.3", (header(PatientID="ID77"), header(PatientID="ID78")))),
    ]
    reasons = " ".join(
        finding.reason for one in checks(studies).values() for finding in one.findings
    )
    assert "G5" in {rule for one in checks(studies).values() for rule in one.rules}
    for word in ("Secret", "Person", "Hidden", "Human", "ID77", "ID78", "AC9"):
        assert word not in reasons


def test_every_rule_over_an_archive_can_be_switched_off() -> None:
    studies = [Collected("1", None, fault="gone"), study("2", {"PatientID": "X"})]
    assert fired("S1", studies) == {"1"}
    off = checks(studies, disabled=tuple(ARCHIVE_RULES))
    assert [one.rules for one in off.values()] == [(), ()]


def test_the_day_of_a_study_is_its_study_date() -> None:
    (one,) = members([study("1", StudyDate="20230610")])
    assert one.day == date(2023, 6, 10)


def test_a_listing_tells_of_no_series_and_lacks_no_body_part() -> None:
    knee: dict[str, Any] = {"BodyPartExamined": "KNEE", "StudyDescription": "Knee"}
    lacking: dict[str, Any] = {"BodyPartExamined": None}
    listed = [study("a", whole=False, **lacking), study("b", whole=False, **knee)]
    files = [study("c", **lacking), study("d", **knee)]
    found = checks([*listed, *files])
    assert [found[key].flagged for key in "abcd"] == [False, False, True, False]
    assert [set(found[key].rules) & {"J1", "J4"} for key in "abcd"] == [
        set(),
        set(),
        {"J1"},
        {"J4"},
    ]


def test_the_body_part_is_compared_in_each_study_by_itself() -> None:
    """As a study alone has it, with no false discovery rate over the others."""
    shown = Category({"KNEE": 1.0}, "BodyPartExamined")
    image = ImageResult(
        ImageRef(MRImageStorage, "1.2.9", "1.2.8"),
        Outcome.ESTIMATED,
        prediction=Prediction({"region": shown}, {}, 0.5),
    )
    both = []
    for key, recorded in (("a", "SKULL"), ("b", "KNEE")):
        one = study(key, BodyPartExamined=recorded, StudyDescription="", Laterality="L")
        (member,) = members([one])
        answered = study_result(
            key, Outcome.ESTIMATED, member.check, images=(image,), answers={"region": shown}
        )
        both.append(replace(one, result=answered))
    found = {one.key: one for one in concluded(AuditSpec(source="node", today=TODAY), both).studies}
    assert ("J6" in found["a"].check.rules, "J6" in found["b"].check.rules) == (True, False)
    row = found["a"].check.attributes["BodyPartExamined"]
    assert row.status is AttributeStatus.CONFLICT_IMAGE
    assert not found["a"].suspicion.alert
