"""BodyPartExamined carried through: its row, what is proposed, what images say against it (J6)."""

from typing import Any

import pytest

from dicom_ai_node.answers import (
    BundleResult,
    Category,
    ImageRef,
    ImageResult,
    ModelIdentity,
    Outcome,
    Prediction,
    Reason,
    StudyResult,
)
from dicom_ai_node.config.stages import FillSettings, PolicySettings
from dicom_ai_node.decide.images import pool_spans
from dicom_ai_node.decide.proposals import accepted_by_policy, propose
from dicom_ai_node.decide.stored import check_from_json, check_to_json
from dicom_ai_node.decide.study import combine
from dicom_ai_node.rules.attributes import trusted_part, trusted_part_of
from dicom_ai_node.types import AttributeStatus, HeaderCheck, ProposalSource
from tests.builders.answers import prediction, with_part
from tests.builders.headers import Changes, checked

KEYWORD = "BodyPartExamined"
CONSISTENT, MISSING = AttributeStatus.CONSISTENT, AttributeStatus.MISSING
MALFORMED, NOT_ASSESSED = AttributeStatus.MALFORMED, AttributeStatus.NOT_ASSESSED
CONFLICT, AGAINST_IMAGE = AttributeStatus.CONFLICT_HEADER, AttributeStatus.CONFLICT_IMAGE
POLICY = PolicySettings()
DX = "1.2.840.10008.5.1.4.1.1.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
WORDS = "descriptions of study and series"


def series(uid: str, **changes: Any) -> Changes:
    return {"StudyDescription": "", "SeriesInstanceUID": uid, "Modality": "CT", **changes}


@pytest.mark.parametrize(
    ("instances", "recorded", "status", "stated"),
    [
        ([{}], "CHEST", CONSISTENT, "CHEST"),
        ([{KEYWORD: "LUNG"}], "LUNG", CONSISTENT, "LUNG"),
        ([{KEYWORD: ""}], "", MISSING, None),
        ([{KEYWORD: None}], "", MISSING, None),
        ([{KEYWORD: "Chest^PA"}], "Chest^PA", MALFORMED, "CHEST"),
        ([{KEYWORD: "XYZ"}], "XYZ", MALFORMED, None),
        ([{KEYWORD: b"CHEST   "}], "CHEST", MALFORMED, "CHEST"),
        ([{KEYWORD: "CHEST\\CHEST"}], "CHEST\\CHEST", MALFORMED, "CHEST"),
        ([{KEYWORD: "KNEE"}], "KNEE", CONFLICT, "KNEE"),
        ([{KEYWORD: "", "PatientSpeciesDescription": "Canine"}], "", NOT_ASSESSED, None),
        # It need not be there where the region is coded.
        ([{KEYWORD: None, "AnatomicRegionSequence": b"T-D3000\\Chest"}], "", CONSISTENT, "CHEST"),
        ([{KEYWORD: None, "AnatomicRegionSequence": b"99\\?"}], "", MISSING, None),
        # Series differ, and one term names what they show together.
        (
            [series("1", BodyPartExamined="CHEST"), series("2", BodyPartExamined="ABDOMEN")],
            "ABDOMEN, CHEST",
            CONSISTENT,
            "CHESTABDOMEN",
        ),
        (
            [series("1", BodyPartExamined="HEAD"), series("2", BodyPartExamined="FOOT")],
            "FOOT, HEAD",
            CONSISTENT,
            None,
        ),
        # One series that is two parts cannot be held against its images.
        (
            [series("1", BodyPartExamined="HEAD"), series("1", BodyPartExamined="FOOT")],
            "FOOT, HEAD",
            NOT_ASSESSED,
            None,
        ),
        # A scout without it flags nothing.
        (
            [series("1", BodyPartExamined="HEAD"), series("2", BodyPartExamined=None)],
            "HEAD",
            CONSISTENT,
            "HEAD",
        ),
    ],
)
def test_its_row(
    instances: list[Changes], recorded: str, status: AttributeStatus, stated: str | None
) -> None:
    check = checked(*instances)
    row = check.attributes[KEYWORD]
    assert (row.recorded, row.status, row.stated) == (recorded, status, stated)
    assert check.flagged == (status not in {CONSISTENT, NOT_ASSESSED})
    trusted = stated if status in {CONSISTENT, MALFORMED} else None
    assert (check.trusted(KEYWORD), trusted_part(check)) == (trusted, trusted or "")
    assert check_from_json(check_to_json(check)) == check


@pytest.mark.parametrize(
    ("instances", "trusted"),
    [
        ([series("1", BodyPartExamined="HEAD"), series("2", BodyPartExamined="FOOT")], "HEAD FOOT"),
        ([series(n, BodyPartExamined="HEAD") for n in "12"], "HEAD HEAD"),
        ([series("1", BodyPartExamined="HEAD"), series("2", BodyPartExamined=None)], "HEAD -"),
        (
            [series("1", BodyPartExamined="Chest^PA"), series("2", BodyPartExamined="XYZ")],
            "CHEST -",
        ),
        (
            [
                series("1", BodyPartExamined="HEAD", SeriesDescription="CT knee"),
                series("2", BodyPartExamined="ABDOMEN"),
            ],
            "- ABDOMEN",
        ),
        (
            [
                series("1", BodyPartExamined=None, AnatomicRegionSequence=b"72696002\\Knee"),
                series("2", BodyPartExamined="HEAD"),
            ],
            "KNEE HEAD",
        ),
        (
            [
                series("1", BodyPartExamined="HEAD"),
                series("1", BodyPartExamined="FOOT"),
                series("2", BodyPartExamined="FOOT"),
            ],
            "- FOOT",
        ),
        (
            [
                series("1", BodyPartExamined="HEAD", PatientSpeciesDescription="Canine"),
                series("2", BodyPartExamined="FOOT"),
            ],
            "- -",
        ),
    ],
)
def test_each_series_is_held_against_what_it_records(
    instances: list[Changes], trusted: str
) -> None:
    check = checked(*instances)
    assert [trusted_part_of(check, uid) or "-" for uid in "12"] == trusted.split()
    assert check_from_json(check_to_json(check)) == check


def test_what_a_disabled_rule_would_doubt_is_not_compared_where_it_has_no_form() -> None:
    padded = [series("1", BodyPartExamined="Chest^PA"), series("2", BodyPartExamined="HEAD")]
    check = checked(*padded, disabled=("J2",))
    assert [trusted_part_of(check, uid) for uid in "12"] == ["", "HEAD"]
    against = [
        series("1", BodyPartExamined="HEAD", SeriesDescription="CT knee"),
        series("2", BodyPartExamined="ABDOMEN"),
    ]
    check = checked(*against, disabled=("J3",))
    assert [trusted_part_of(check, uid) for uid in "12"] == ["HEAD", "ABDOMEN"]


@pytest.mark.parametrize(
    ("instances", "value", "source"),
    [
        ([{KEYWORD: "Chest^PA"}], "CHEST", KEYWORD),
        ([{KEYWORD: b"CHEST   "}], "CHEST", KEYWORD),
        ([{KEYWORD: ""}], "CHEST", WORDS),
        ([{KEYWORD: "XYZ"}], "CHEST", WORDS),
        (
            [{KEYWORD: "", "AnatomicRegionSequence": b"72696002\\Knee"}],
            "KNEE",
            "AnatomicRegionSequence",
        ),
        ([{KEYWORD: "KNEE"}], "CHEST", WORDS),
        ([{KEYWORD: "", "StudyDescription": "CT Thorax/Abdomen"}], "CHESTABDOMEN", WORDS),
        ([{KEYWORD: "", "SeriesDescription": "Knie ap"}], "KNEE", WORDS),
        # All series that lack it agree.
        (
            [
                series("1", BodyPartExamined=""),
                series("2", BodyPartExamined="", ProtocolName="LWS"),
            ],
            "",
            "",
        ),
        (
            [series(n, BodyPartExamined="", ProtocolName="LWS") for n in "12"],
            "LSPINE",
            WORDS,
        ),
        (
            [
                series("1", BodyPartExamined="", SeriesDescription="Thorax"),
                series("2", BodyPartExamined="", SeriesDescription="Becken"),
            ],
            "",
            "",
        ),
        (
            [series("1", BodyPartExamined="Brain"), series("2", BodyPartExamined="")],
            "BRAIN",
            "BodyPartExamined of other series",
        ),
        ([{}], "", ""),
        ([{KEYWORD: "", "StudyDescription": "head first"}], "", ""),
        ([{KEYWORD: "", "StudyDescription": "CT Head, CT foot"}], "", ""),
    ],
)
def test_what_is_proposed_from_the_header(
    instances: list[Changes], value: str, source: str
) -> None:
    check = checked(*instances)
    found = [(one.value, one.source) for one in check.proposals if one.keyword == KEYWORD]
    assert found == ([(value, source)] if value else [])
    result = StudyResult("1", check, (BundleResult(Outcome.HEADER_ONLY),))
    proposals = [one for one in propose(result, FillSettings()) if one.keyword == KEYWORD]
    assert [(one.value, one.source) for one in proposals] == (
        [(value, ProposalSource.HEADER)] if value else []
    )
    assert all(one.rules and one.rules[0].startswith(("J", "A")) for one in proposals)


def test_what_is_stated_elsewhere_is_proposed_and_left_to_a_person() -> None:
    check = checked({KEYWORD: None, "AnatomicRegionSequence": b"816094009\\Chest"})
    assert not check.flagged
    (finding,) = [one for one in check.findings if one.rule == "J1"]
    assert "AnatomicRegionSequence says CHEST" in finding.reason
    result = StudyResult("1", check, (BundleResult(Outcome.HEADER_ONLY),))
    (proposed,) = propose(result, FillSettings())
    assert (proposed.keyword, proposed.value, proposed.rules) == (KEYWORD, "CHEST", ("J1",))
    by_header = FillSettings(auto_accept=(ProposalSource.HEADER,))
    assert accepted_by_policy(result, [proposed], by_header) == frozenset()


def test_a_check_that_was_stored_before_it_was_an_attribute_is_read() -> None:
    stored = check_to_json(checked({}))
    del stored["recorded"]["body_part"], stored["body_part"], stored["meant_body_part"]
    check = check_from_json(stored)
    assert list(check.statuses) == ["age", "sex"]
    assert check.trusted(KEYWORD) is None
    result = StudyResult("1", check, (BundleResult(Outcome.HEADER_ONLY),))
    assert propose(result, FillSettings()) == ()


def shown(
    check: HeaderCheck,
    *answers: Category,
    research: bool = False,
    disabled: tuple[str, ...] = (),
    outcome: Outcome = Outcome.ESTIMATED,
    series_of: str = "1",
) -> StudyResult:
    """What a bundle of regions says: the last of ``answers`` of the study, each of an image."""
    images = tuple(
        ImageResult(
            ImageRef(CT, f"1.{at}", series),
            Outcome.ESTIMATED,
            prediction=Prediction({"region": answer}, {}, 0.5),
        )
        for at, (series, answer) in enumerate(zip(series_of * len(answers), answers, strict=False))
    )
    part = BundleResult(
        outcome,
        None if outcome is Outcome.ESTIMATED else Reason("x", "why"),
        images,
        {"region": answers[-1]},
        ModelIdentity("regions", "1", "0" * 64),
        research=research,
    )
    return combine("1", check, [part], policy=POLICY, disabled=disabled)


def region(covered: tuple[str, ...] = (), **shares: float) -> Category:
    return Category(shares, KEYWORD, covered)


@pytest.mark.parametrize(
    ("recorded", "answer", "found"),
    [
        ("KNEE", region(CHEST=0.99, KNEE=0.01), True),
        ("KNEE", region(CHEST=0.97, KNEE=0.03), False),
        ("LEG", region(CHEST=0.97, KNEE=0.02, FOOT=0.01), False),
        ("CHEST", region(HEAD=0.995, CHEST=0.005), True),
        ("CHEST", region(ABDOMEN=0.99, CHEST=0.01), True),
        ("LUNG", region(CHEST=0.9, ABDOMEN=0.1), False),
        ("BRAIN", region(ORBIT=0.99, KNEE=0.01), False),
        ("WHOLEBODY", region(KNEE=1.0), False),
        ("EXTREMITY", region(KNEE=1.0), False),
        ("HEAD", region(SCOUT=0.99, KNEE=0.01), False),
        # Headers say CHEST of slices from shoulder to pelvis: the span touches it.
        ("CHEST", region(("CHEST", "ABDOMEN"), ABDOMENPELVIS=0.99), False),
        ("CHEST", region(CHESTABDPELVIS=0.99), False),
        ("HEAD", region(("CHEST", "ABDOMEN"), CHESTABDOMEN=0.99), True),
        ("HEAD", region(("CHEST", "ABDOMEN"), CHESTABDOMEN=0.9), False),
        ("Chest^PA", region(KNEE=1.0), True),
        ("XYZ", region(KNEE=1.0), False),
        ("", region(KNEE=1.0), False),
    ],
)
def test_images_contradict_a_part_of_which_they_show_nothing(
    recorded: str, answer: Category, found: bool
) -> None:
    before = checked({KEYWORD: recorded, "StudyDescription": "", "Laterality": "L"})
    check = shown(before, answer).check
    assert ("J6" in check.rules) == found
    assert (check.attributes[KEYWORD].status is AGAINST_IMAGE) == found
    assert {"H1", "H2", "H3"}.isdisjoint(check.rules)


def test_images_that_agree_are_no_more_certain_than_one() -> None:
    """Images of one series are alike: what each of them leaves possible, all of them do."""
    for left, found in ((0.03, False), (0.01, True)):
        one = region(("KNEE",), KNEE=1 - left, HEAD=left)
        together = pool_spans([[one] * 8, [one] * 8])
        assert together.probabilities["HEAD"] == pytest.approx(left)
        check = shown(checked({KEYWORD: "HEAD", "StudyDescription": ""}), together).check
        assert ("J6" in check.rules) == found


def test_the_finding_says_what_is_recorded_and_what_is_shown() -> None:
    check = shown(checked({KEYWORD: "HEAD", "StudyDescription": ""}), region(CHEST=1.0)).check
    (finding,) = [one for one in check.findings if one.rule == "J6"]
    assert finding.reason == (
        "inferred characteristics differ from the record: "
        "recorded body part HEAD has probability 0.000, the images show CHEST"
    )


def test_a_conflict_is_the_headers_own_where_its_words_say_so_first() -> None:
    check = shown(
        checked({KEYWORD: "HEAD", "StudyDescription": "CT chest"}), region(KNEE=1.0)
    ).check
    assert check.attributes[KEYWORD].status is CONFLICT
    assert "J6" not in check.rules


@pytest.mark.parametrize(
    "change",
    [{"research": True}, {"disabled": ("J6",)}, {"outcome": Outcome.ABSTAINED}],
)
def test_what_is_for_research_or_switched_off_contradicts_nothing(change: dict[str, Any]) -> None:
    check = shown(checked({KEYWORD: "HEAD", "StudyDescription": ""}), region(KNEE=1.0), **change)
    assert "J6" not in check.check.rules


def gate(recorded: str, *chests: float, sop_class: str = DX, **changes: str) -> HeaderCheck:
    """A study of chest radiographs by a bundle whose gate says so of each image."""
    header = {KEYWORD: recorded, "StudyDescription": "", "Laterality": "L", **changes}
    images = tuple(
        ImageResult(
            ImageRef(sop_class, f"1.{at}", "1"),
            Outcome.ABSTAINED,
            Reason("not_a_chest", "no chest"),
            prediction(chest=chest),
        )
        for at, chest in enumerate(chests)
    )
    reason = Reason("not_a_chest", "no chest")
    part = BundleResult(Outcome.ABSTAINED, reason, images, {"age": reason})
    return combine("1", checked(header), [part], policy=POLICY).check


@pytest.mark.parametrize(
    ("recorded", "chests", "found"),
    [
        ("CHEST", (0.001,), True),
        ("THORAX", (0.001,), True),
        ("Chest^PA", (0.001,), True),
        ("CHEST", (0.1,), False),
        ("CHEST", (0.001, 0.9), False),
        # Ribs, the thoracic spine or a shoulder are no chest radiograph and lie there.
        ("RIB", (0.001,), False),
        ("KNEE", (0.999,), True),
        ("KNEE", (0.9,), False),
        ("KNEE", (0.999, 0.001), False),
        ("ABDOMEN", (0.999,), False),
        ("SHOULDER", (0.999,), False),
        ("WHOLEBODY", (0.999,), False),
        ("KNEE", (0.001,), False),
    ],
)
def test_the_gate_of_chest_radiographs_is_the_same_rule(
    recorded: str, chests: tuple[float, ...], found: bool
) -> None:
    check = gate(recorded, *chests)
    assert ("J6" in check.rules) == found
    assert "H4" in check.rules
    assert (check.attributes[KEYWORD].status is AGAINST_IMAGE) == found


def test_the_gate_says_nothing_of_captures_and_of_what_is_exempt() -> None:
    assert "J6" not in gate("CHEST", 0.001, sop_class=CAPTURE).rules
    assert "J6" not in gate("CHEST", 0.001, QualityControlSubject="YES").rules


def inferred(result: StudyResult, **settings: float) -> list[tuple[str, float | None]]:
    made = propose(result, FillSettings(**settings))
    assert all(one.source is ProposalSource.INFERENCE for one in made if one.keyword == KEYWORD)
    return [(one.value, one.probability) for one in made if one.keyword == KEYWORD]


WITHOUT = checked({KEYWORD: "", "StudyDescription": ""})


def test_a_part_is_inferred_where_nothing_else_says_it() -> None:
    assert inferred(shown(WITHOUT, region(KNEE=0.95, FOOT=0.05))) == [("KNEE", 0.95)]
    unread = checked({KEYWORD: "ROUTINE", "StudyDescription": ""})
    assert inferred(shown(unread, region(KNEE=0.95, FOOT=0.05))) == [("KNEE", 0.95)]
    (made,) = propose(shown(WITHOUT, region(KNEE=0.95, FOOT=0.05)), FillSettings())
    assert made.detail == "probability of KNEE 0.950, regions 1"
    assert made.rules == ("J1",)


def test_a_part_is_not_inferred() -> None:
    assert inferred(shown(WITHOUT, region(KNEE=0.85, FOOT=0.15))) == []
    assert inferred(shown(WITHOUT, region(KNEE=0.95)), min_body_part_certainty=0.97) == []
    assert inferred(shown(WITHOUT, region(KNEE=0.95), research=True)) == []
    assert inferred(shown(WITHOUT, region(SCOUT=0.95))) == []
    recorded = checked({KEYWORD: "HEAD", "StudyDescription": ""})
    assert inferred(shown(recorded, region(KNEE=1.0))) == []
    described = checked({KEYWORD: "", "StudyDescription": "CT head"})
    made = propose(shown(described, region(KNEE=1.0)), FillSettings())
    assert [(one.value, one.source) for one in made] == [("HEAD", ProposalSource.HEADER)]


def test_a_span_is_inferred_and_series_that_differ_are_not() -> None:
    chest, abdomen = region(CHEST=1.0), region(ABDOMEN=1.0)
    span = region(("CHEST", "ABDOMEN"), CHESTABDOMEN=0.98)
    study = shown(WITHOUT, chest, abdomen, span, series_of="12")
    assert inferred(study) == [("CHESTABDOMEN", 0.98)]
    head, foot = region(HEAD=1.0), region(FOOT=1.0)
    apart = shown(WITHOUT, head, foot, series_of="12")
    assert inferred(with_part(apart, answers={"region": region(HEAD=0.95, FOOT=0.05)})) == []
