"""What a bundle says of each series of a study: pooled, withheld, compared, stored."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from dicom_ai_node.analyse.results import result_key
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
from dicom_ai_node.decide.proposals import propose
from dicom_ai_node.decide.stored import result_from_json, result_to_json
from dicom_ai_node.decide.study import combine, decide
from dicom_ai_node.types import AttributeStatus, HeaderCheck
from tests.builders.headers import Changes, checked

CT, DX = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.1.1"
PARTS = ("BRAIN", "CHEST", "ABDOMEN", "PELVIS", "KNEE", "FOOT")
POLICY = PolicySettings()
Shown = tuple[str, float]
"""The part that an image shows, and how probably."""


def images(series: str, *shown: Shown, gate: float | None = None) -> list[ImageResult]:
    found = []
    for at, (term, certainty) in enumerate(shown):
        rest = (1 - certainty) / (len(PARTS) - 1)
        shares = {**dict.fromkeys(PARTS, rest), term: certainty}
        answer = Category(shares, "BodyPartExamined", (term,))
        seen = Prediction({"region": answer}, {} if gate is None else {"chest": gate}, 0.5)
        ref = ImageRef(CT if gate is None else DX, f"{series}.{at}", series)
        found.append(ImageResult(ref, Outcome.ESTIMATED, prediction=seen))
    return found


def recorded(**parts: str) -> HeaderCheck:
    """A study whose series record these parts; '' for none."""
    headers: list[Changes] = [
        {
            "StudyDescription": "",
            "Modality": "CT",
            "SeriesInstanceUID": uid,
            "BodyPartExamined": part,
            "Laterality": "L",
        }
        for uid, part in parts.items()
    ]
    return checked(*headers)


def said(check: HeaderCheck, seen: Sequence[ImageResult], **policy: Any) -> StudyResult:
    settings = PolicySettings(**policy)
    part = decide(
        check, seen, heads=("region",), model=ModelIdentity("regions", "1", "0" * 64),
        ages=(0, 110), policy=settings,
    )  # fmt: skip
    return combine("1", check, [part], policy=settings)


def by_series(result: StudyResult) -> dict[str, str]:
    (part,) = result.parts
    answers = {one.series_instance_uid: one.answers["region"] for one in part.series}
    return {
        uid: answer.code if isinstance(answer, Reason) else getattr(answer, "value", "")
        for uid, answer in answers.items()
    }


def of_study(result: StudyResult) -> str:
    answer = result.parts[0].answers["region"]
    return answer.code if isinstance(answer, Reason) else getattr(answer, "value", "")


BRAINS, ABDOMENS, CHESTS = [("BRAIN", 0.97)] * 4, [("ABDOMEN", 0.97)] * 4, [("CHEST", 0.97)] * 4


def test_a_head_beside_an_abdomen_is_told_by_series() -> None:
    """It used to be 'not assessed', for no one term has both."""
    check = recorded(a="HEAD", b="ABDOMEN")
    result = said(check, [*images("a", *BRAINS), *images("b", *ABDOMENS)])
    assert result.outcome is Outcome.ESTIMATED
    assert of_study(result) == "region_differs"
    assert by_series(result) == {"a": "BRAIN", "b": "ABDOMEN"}
    assert result.check.attributes["BodyPartExamined"].status is AttributeStatus.CONSISTENT
    assert {"J6", "H4"}.isdisjoint(result.check.rules)
    assert len(result.parts[0].differing) == 2


def test_series_that_one_term_has_are_a_span_and_told_by_series() -> None:
    result = said(
        recorded(a="CHEST", b="ABDOMEN"), [*images("a", *CHESTS), *images("b", *ABDOMENS)]
    )
    assert of_study(result) == "CHESTABDOMEN"
    assert by_series(result) == {"a": "CHEST", "b": "ABDOMEN"}


def test_series_that_agree_need_no_lines_of_their_own() -> None:
    result = said(recorded(a="CHEST", b="CHEST"), [*images("a", *CHESTS), *images("b", *CHESTS)])
    assert of_study(result) == "CHEST"
    assert by_series(result) == {"a": "CHEST", "b": "CHEST"}
    assert result.parts[0].differing == ()


def test_one_series_is_the_study() -> None:
    result = said(recorded(a="CHEST"), images("a", *CHESTS))
    assert (of_study(result), result.parts[0].series) == ("CHEST", ())


def test_a_series_that_is_not_certain_has_its_reason_and_no_say() -> None:
    unsure = images("b", *[("KNEE", 0.5)] * 4)
    result = said(recorded(a="HEAD", b="KNEE"), [*images("a", *BRAINS), *unsure])
    assert by_series(result) == {"a": "BRAIN", "b": "region_uncertain"}
    why = result.parts[0].series[1].answers["region"]
    assert isinstance(why, Reason)
    assert why.text.startswith("the most probable region is 50 % certain")
    assert of_study(result) != "region_differs", "one series alone is sure"
    assert result.outcome is Outcome.ESTIMATED


def test_where_no_series_is_certain_nothing_is_said() -> None:
    seen = [*images("a", *[("BRAIN", 0.5)] * 4), *images("b", *[("KNEE", 0.5)] * 4)]
    result = said(recorded(a="HEAD", b="KNEE"), seen)
    assert result.outcome is Outcome.ABSTAINED
    assert result.parts[0].series == ()


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"a": "HEAD", "b": "ABDOMEN"}, ""),
        # Of both together, one has the part of the other: no finding before.
        ({"a": "ABDOMEN", "b": "HEAD"}, "ABDOMEN BRAIN, HEAD ABDOMEN"),
        ({"a": "FOOT", "b": "ABDOMEN"}, "FOOT BRAIN"),
        ({"a": "HEAD", "b": "FOOT"}, "FOOT ABDOMEN"),
        ({"a": "ABDOMEN", "b": "ABDOMEN"}, "ABDOMEN BRAIN"),
        ({"a": "", "b": "FOOT"}, "FOOT ABDOMEN"),
        ({"a": "XYZ", "b": "ABDOMEN"}, ""),
    ],
)
def test_each_series_is_judged_by_its_own_images(record: dict[str, str], words: str) -> None:
    result = said(recorded(**record), [*images("a", *BRAINS), *images("b", *ABDOMENS)])
    reasons = [found.reason for found in result.check.findings if found.rule == "J6"]
    expected = [pair.split() for pair in words.split(", ") if pair]
    assert len(reasons) == len(expected)
    for reason, (part, shown) in zip(reasons, expected, strict=True):
        assert f"recorded body part {part} has probability 0.0" in reason
        assert f"the images show {shown} (in 1 of 2 series)" in reason
    status = result.check.attributes["BodyPartExamined"].status
    if "XYZ" not in record.values():
        assert (status is AttributeStatus.CONFLICT_IMAGE) == bool(expected)
    stored = json.loads(json.dumps(result_to_json(result)))
    assert result_from_json(stored) == result


def test_series_that_are_alike_make_one_line() -> None:
    seen = [found for uid in "abc" for found in images(uid, *BRAINS)]
    result = said(recorded(a="FOOT", b="FOOT", c="HEAD"), seen)
    (reason,) = [found.reason for found in result.check.findings if found.rule == "J6"]
    assert reason.endswith("the images show BRAIN (in 2 of 3 series)")


def test_a_header_that_contradicts_itself_keeps_that_status() -> None:
    headers: list[Changes] = [
        {
            "StudyDescription": "",
            "Modality": "CT",
            "SeriesInstanceUID": uid,
            "BodyPartExamined": part,
            "SeriesDescription": words,
        }
        for uid, part, words in (("a", "HEAD", "CT knee"), ("b", "HEAD", ""))
    ]
    result = said(checked(*headers), [*images("a", *BRAINS), *images("b", *ABDOMENS)])
    assert result.check.attributes["BodyPartExamined"].status is AttributeStatus.CONFLICT_HEADER
    assert {"J3", "J6"} <= set(result.check.rules)


def test_the_gate_of_chest_radiographs_judges_each_series() -> None:
    """A hand labelled CHEST beside a chest: the chest in another series is no excuse."""
    chest, hand = images("a", ("CHEST", 0.99), gate=0.99), images("b", ("CHEST", 0.99), gate=0.001)
    check = recorded(a="CHEST", b="CHEST")
    part = BundleResult(Outcome.ABSTAINED, Reason("x", "why"), (*chest, *hand))
    after = combine("1", check, [part], policy=POLICY).check
    (reason,) = [found.reason for found in after.findings if found.rule == "J6"]
    assert reason.endswith("a chest radiograph has probability 0.001 (in 1 of 2 series)")


def test_one_part_is_proposed_only_where_a_series_shows_all_of_it() -> None:
    def proposed(*series: Sequence[Shown]) -> list[str]:
        seen = [one for uid, shown in zip("ab", series, strict=True) for one in images(uid, *shown)]
        made = propose(said(recorded(a="", b=""), seen), FillSettings())
        return [one.value for one in made if one.keyword == "BodyPartExamined"]

    assert proposed(CHESTS, CHESTS) == ["CHEST"]
    assert proposed([*CHESTS, *ABDOMENS], CHESTS) == ["CHESTABDOMEN"]
    assert proposed(CHESTS, ABDOMENS) == [], "which is which takes a person"
    assert proposed(BRAINS, ABDOMENS) == []


def test_what_a_series_withholds_makes_another_result() -> None:
    check = recorded(a="HEAD", b="KNEE")
    sure = said(check, [*images("a", *BRAINS), *images("b", *[("KNEE", 0.97)] * 4)])
    unsure = said(check, [*images("a", *BRAINS), *images("b", *[("KNEE", 0.5)] * 4)])
    assert result_key(sure, ["d"], "s") != result_key(unsure, ["d"], "s")


def test_images_are_said_what_their_series_is() -> None:
    """So have maps and lines of ``infer``, also where the study has no answer in common."""
    check = recorded(a="HEAD", b="ABDOMEN")
    (part,) = said(check, [*images("a", *BRAINS), *images("b", *ABDOMENS)]).parts
    shown = [getattr(part.answers_of(uid)["region"], "value", "") for uid in "ab"]
    assert shown == ["BRAIN", "ABDOMEN"]
    assert isinstance(part.answers_of("c")["region"], Reason), "of a series that was not seen"
