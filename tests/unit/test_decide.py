from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_ai_node.answers import (
    Answer,
    Category,
    ImageRef,
    ImageResult,
    ModelIdentity,
    Outcome,
    Prediction,
    Quantity,
    Reason,
    StudyResult,
)
from dicom_ai_node.config.stages import PolicySettings
from dicom_ai_node.decide.images import Gates, judge, pool
from dicom_ai_node.decide.study import combine, decide, header_only, wants_network
from dicom_ai_node.types import AttributeStatus, HeaderCheck
from tests.builders.answers import gated, prediction
from tests.builders.checks import age_and_sex, header_check

IMAGE = ImageRef("1.2.840.10008.5.1.4.1.1.1", "1.2.3", "1.2")
GATES = Gates(
    thresholds={"chest": 0.5, "frontal": 0.5},
    reasons={"chest": Reason("not_a_chest", "x"), "frontal": Reason("not_frontal", "y")},
    in_distribution=0.01,
    ages=(5, 95),
)
GOOD = prediction()
HEADS = ("age", "sex")
MODEL = ModelIdentity("m", "1", "0" * 64)
POLICY = PolicySettings()
STRICT = PolicySettings(max_age_interval=45.0, min_sex_certainty=0.8)
"""Of a site that wants nothing in place of little."""


def check(
    age: AttributeStatus = AttributeStatus.CONSISTENT,
    sex: AttributeStatus = AttributeStatus.CONSISTENT,
    *,
    recorded_sex: str = "F",
    **changes: Any,
) -> HeaderCheck:
    return header_check(age, sex, recorded=("060Y", recorded_sex), **changes)


def age_status(result: StudyResult) -> AttributeStatus:
    return age_and_sex(result.check)[0]


def answer(
    header: HeaderCheck,
    *predictions: Prediction,
    policy: PolicySettings = POLICY,
    disabled: tuple[str, ...] = (),
) -> StudyResult:
    images = [judge(IMAGE, prediction, GATES) for prediction in predictions]
    said = decide(
        header,
        images,
        heads=HEADS,
        model=MODEL,
        ages=GATES.ages,
        policy=policy,
        disabled=disabled,
    )
    return combine("1.1", header, [said], policy=policy, disabled=disabled)


def stated(result: StudyResult) -> dict[str, Answer]:
    (part,) = result.parts
    return part.stated


def unanswered(result: StudyResult) -> dict[str, Reason]:
    (part,) = result.parts
    return part.unanswered


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"chest": 0.4}, "not_a_chest"),
        ({"frontal": 0.4}, "not_frontal"),
        ({"in_distribution": 0.001}, "out_of_distribution"),
        ({"chest": 0.4, "frontal": 0.1}, "not_a_chest"),
    ],
)
def test_each_gate_abstains_with_its_reason(change: dict[str, Any], code: str) -> None:
    judged = judge(IMAGE, gated(GOOD, **change), GATES)
    assert judged.outcome is Outcome.ABSTAINED
    assert judged.reason is not None
    assert judged.reason.code == code


def test_the_policy_overrides_the_bundles_gates() -> None:
    strict = GATES.overridden(PolicySettings(min_chest=0.999))
    assert judge(IMAGE, GOOD, strict).outcome is Outcome.ABSTAINED
    assert strict.thresholds == {"chest": 0.999, "frontal": 0.5}
    assert strict.ages == GATES.ages


def test_a_good_image_is_estimated_and_agrees() -> None:
    result = answer(check(), GOOD)
    assert result.outcome is Outcome.ESTIMATED
    assert result.reason is None
    assert (sex := result.held_against("PatientSex")) == stated(result)["sex"]
    assert isinstance(sex, Category)
    assert sex.value == "F"
    assert result.check.findings == ()


def test_one_usable_image_among_others_is_enough() -> None:
    result = answer(check(), gated(GOOD, frontal=0.0), GOOD)
    assert result.outcome is Outcome.ESTIMATED
    assert [one.outcome for one in result.images] == [Outcome.ABSTAINED, Outcome.ESTIMATED]


def test_a_lateral_alone_abstains_as_such_and_says_so_in_the_audit() -> None:
    result = answer(check(), gated(GOOD, frontal=0.0))
    assert result.outcome is Outcome.ABSTAINED
    assert result.reason is not None
    assert result.reason.code == "not_frontal"
    assert result.check.rules == ("H4",)


def test_refused_pixels_refuse_the_study() -> None:
    refused = ImageResult(IMAGE, Outcome.REFUSED, Reason("multi_frame", "several frames"))
    result = decide(check(), [refused], heads=HEADS, model=None, ages=GATES.ages, policy=POLICY)
    assert result.outcome is Outcome.REFUSED
    assert result.reason == Reason("multi_frame", "several frames")


def test_age_far_outside_is_a_conflict_and_sex_apart() -> None:
    result = answer(check(years=20.0), GOOD)
    assert age_and_sex(result.check) == (AttributeStatus.CONFLICT_IMAGE, AttributeStatus.CONSISTENT)
    assert result.check.rules == ("H1",)


def test_just_outside_the_interval_is_not_yet_an_alert() -> None:
    assert age_status(answer(check(years=73.0), GOOD)) is AttributeStatus.CONSISTENT
    assert age_status(answer(check(years=76.0), GOOD)) is AttributeStatus.CONFLICT_IMAGE


def test_age_and_sex_together_suggest_a_mix_up() -> None:
    result = answer(check(years=20.0, recorded_sex="M"), GOOD)
    assert result.check.rules == ("H1", "H2", "H3")
    assert all("wrong patient" not in one.reason for one in result.check.findings)


@pytest.mark.parametrize(
    ("disabled", "left", "age", "sex"),
    [
        (("H1",), ("H2",), "CONSISTENT", "CONFLICT_IMAGE"),
        (("H2",), ("H1",), "CONFLICT_IMAGE", "CONSISTENT"),
        (("H3",), ("H1", "H2"), "CONFLICT_IMAGE", "CONFLICT_IMAGE"),
        (("H1", "H2"), (), "CONSISTENT", "CONSISTENT"),
    ],
)
def test_a_disabled_rule_holds_nothing_against_the_header(
    disabled: tuple[str, ...], left: tuple[str, ...], age: str, sex: str
) -> None:
    result = answer(check(years=20.0, recorded_sex="M"), GOOD, disabled=disabled)
    assert result.check.rules == left
    assert age_and_sex(result.check) == (AttributeStatus[age], AttributeStatus[sex])
    assert set(stated(result)) == {"age", "sex"}, "it is estimated all the same"


def test_without_h4_the_reason_is_said_and_is_no_finding() -> None:
    result = answer(check(), gated(GOOD, frontal=0.0), disabled=("H4",))
    assert (result.outcome, result.check.findings) == (Outcome.ABSTAINED, ())
    assert result.reason is not None


@pytest.mark.parametrize(
    "header",
    [
        check(sex=AttributeStatus.NOT_ASSESSED, recorded_sex="O", years=40.0),
        check(years=20.0, recorded_sex="M", exempt="sex parameters for clinical use"),
        check(years=94.0, censored_age=True),
        check(AttributeStatus.MISSING, AttributeStatus.MISSING, years=None, recorded_sex=""),
    ],
)
def test_what_is_never_called_a_conflict(header: HeaderCheck) -> None:
    result = answer(header, prediction(40.0, interval90=(30.0, 50.0)))
    assert AttributeStatus.CONFLICT_IMAGE not in age_and_sex(result.check)


def test_a_sex_that_is_not_assessed_gets_no_estimate() -> None:
    result = answer(check(sex=AttributeStatus.NOT_ASSESSED, recorded_sex="O"), GOOD)
    assert result.outcome is Outcome.ESTIMATED
    assert result.held_against("PatientSex") is None
    assert result.held_against("PatientAge") is not None


def test_a_child_is_not_estimated_by_a_network_for_adults() -> None:
    result = answer(check(years=2.0), prediction(9.0, interval90=(4.0, 14.0)))
    assert result.outcome is Outcome.ABSTAINED
    assert result.reason is not None
    assert result.reason.code == "outside_training_ages"


YOUNG = prediction(40.0, interval90=(30.0, 50.0))


@pytest.mark.parametrize(
    ("years", "image", "found"),
    [
        (120.0, YOUNG, True),
        (96.0, YOUNG, True),  # trained from 5 to 95
        (96.0, prediction(85.0, interval90=(75.0, 95.0)), False),
        # 95 lies outside of 80 to 90, and within 1.5 times that.
        (96.0, prediction(88.0, interval90=(80.0, 93.0)), False),
        # Older than any that was learnt, as the record says: nothing contradicts.
        (96.0, prediction(109.0, interval90=(107.0, 110.0)), False),
        (2.0, YOUNG, True),
        (2.0, prediction(9.0, interval90=(4.0, 14.0)), False),
        (2.0, prediction(1.0, interval90=(0.0, 2.0)), False),
    ],
)
def test_an_age_that_was_never_learnt_is_compared_as_the_nearest_on_its_own_side(
    years: float, image: Prediction, found: bool
) -> None:
    result = answer(check(years=years), image)
    assert result.check.rules == (("H1",) if found else ("H4",))
    expected = AttributeStatus.CONFLICT_IMAGE if found else AttributeStatus.CONSISTENT
    assert age_status(result) is expected
    said = result.held_against("PatientAge")
    assert (said is not None) == found, "what contradicts the record is said"
    assert (result.outcome is Outcome.ESTIMATED) == found


@pytest.mark.parametrize(
    ("header", "disabled"),
    [
        (check(years=120.0, exempt="veterinary patient"), ()),
        (check(years=120.0, censored_age=True), ()),
        (check(years=120.0), ("H1",)),
        (check(AttributeStatus.CONFLICT_HEADER, years=120.0), ()),
        (check(AttributeStatus.MISSING, years=None, birth_date_age=120.0), ()),
    ],
)
def test_what_is_never_compared_is_not_beyond_the_trained_ages_either(
    header: HeaderCheck, disabled: tuple[str, ...]
) -> None:
    assert "H1" not in answer(header, YOUNG, disabled=disabled).check.rules


def test_too_wide_an_interval_contradicts_nobody() -> None:
    result = answer(check(years=120.0), prediction(40.0, interval90=(15.0, 65.0)))
    assert result.check.rules == ("H4",)


def test_an_age_without_its_unit_is_compared_and_stays_to_be_mended() -> None:
    malformed = partial(check, AttributeStatus.MALFORMED, years=None)
    meant = malformed(meant_age=20.0)
    result = answer(meant, GOOD)
    assert age_status(result) is AttributeStatus.CONFLICT_IMAGE
    assert result.check.rules == ("H1",)
    agrees = answer(malformed(meant_age=60.0), GOOD)
    assert (age_status(agrees), agrees.check.rules) == (AttributeStatus.MALFORMED, ())
    nobody_knows = answer(malformed(), GOOD)
    assert (age_status(nobody_knows), nobody_knows.check.rules) == (AttributeStatus.MALFORMED, ())


def test_a_sex_in_a_word_is_compared() -> None:
    meant = check(sex=AttributeStatus.MALFORMED, recorded_sex="Male", meant_sex="M")
    assert answer(meant, GOOD).check.rules == ("H2",)
    assert answer(meant, prediction(female=0.01)).check.rules == ()


def test_an_implausible_recorded_age_does_not_stop_the_estimate() -> None:
    header = check(AttributeStatus.IMPLAUSIBLE, years=None)
    assert answer(header, GOOD).outcome is Outcome.ESTIMATED


def certainties(result: StudyResult) -> dict[str, bool]:
    answers = stated(result).items()
    return {name: one.certain for name, one in answers if isinstance(one, Quantity | Category)}


def test_what_is_uncertain_is_given_and_marked() -> None:
    assert certainties(answer(check(), GOOD)) == {"age": True, "sex": True}
    assert certainties(answer(check(), VAGUE)) == {"age": False, "sex": True}
    assert certainties(answer(check(), UNDECIDED)) == {"age": True, "sex": False}
    result = answer(check(), prediction(interval90=(0.0, 110.0), female=0.5))
    assert certainties(result) == {"age": False, "sex": False}
    assert result.outcome is Outcome.ESTIMATED


def test_the_site_says_what_is_certain() -> None:
    policy = PolicySettings(certain_age_interval=70.0, certain_sex=0.6)
    vague = prediction(interval90=(20.0, 90.0), female=0.6)
    assert certainties(answer(check(), vague, policy=policy)) == {"age": True, "sex": True}
    policy = PolicySettings(certain_age_interval=69.9, certain_sex=0.61)
    assert certainties(answer(check(), vague, policy=policy)) == {"age": False, "sex": False}


def test_what_is_uncertain_contradicts_nobody() -> None:
    young = check(years=1.0, recorded_sex="M")
    certain = PolicySettings(certain_age_interval=90.0, certain_sex=0.5)
    vague = prediction(50.0, interval90=(35.0, 85.0), female=0.99)
    assert "H1" in answer(young, vague, policy=certain).check.rules
    assert "H1" not in answer(young, vague).check.rules
    rather = prediction(female=0.99)
    assert "H2" in answer(young, rather).check.rules
    assert "H2" not in answer(young, rather, policy=PolicySettings(certain_sex=1.0)).check.rules


def test_a_site_may_want_nothing_in_place_of_little() -> None:
    vague = prediction(interval90=(20.0, 90.0))
    result = answer(check(), vague, policy=STRICT)
    assert set(stated(result)) == {"sex"}
    undecided = prediction(interval90=(20.0, 90.0), female=0.6)
    result = answer(check(), undecided, policy=STRICT)
    assert result.outcome is Outcome.ABSTAINED
    assert result.reason is not None
    assert result.reason.code == "too_uncertain"


def reasons(result: StudyResult) -> dict[str, str]:
    return {name: why.code for name, why in unanswered(result).items()}


VAGUE = prediction(interval90=(20.0, 90.0))
UNDECIDED = prediction(female=0.6)
OTHER: dict[str, Any] = {"sex": AttributeStatus.NOT_ASSESSED, "recorded_sex": "O"}


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (answer(check(), GOOD), {}),
        (answer(check(), VAGUE), {}),
        (answer(check(), UNDECIDED), {}),
        (answer(check(), VAGUE, policy=STRICT), {"age": "age_interval_too_wide"}),
        (answer(check(), UNDECIDED, policy=STRICT), {"sex": "sex_uncertain"}),
        (answer(check(**OTHER), GOOD), {"sex": "sex_not_assessed"}),
        (
            answer(check(**OTHER), VAGUE, policy=STRICT),
            {"age": "age_interval_too_wide", "sex": "sex_not_assessed"},
        ),
        (
            answer(check(), prediction(interval90=(20.0, 90.0), female=0.6), policy=STRICT),
            {"age": "age_interval_too_wide", "sex": "sex_uncertain"},
        ),
        (
            answer(check(), gated(GOOD, frontal=0.0)),
            {"age": "not_frontal", "sex": "not_frontal"},
        ),
        (
            answer(check(years=2.0), prediction(9.0, interval90=(4.0, 14.0))),
            {"age": "outside_training_ages", "sex": "outside_training_ages"},
        ),
        (header_only("1.1", check(), HEADS), {"age": "not_flagged", "sex": "not_flagged"}),
    ],
)
def test_every_attribute_without_an_answer_has_its_reason(
    result: StudyResult, expected: dict[str, str]
) -> None:
    assert reasons(result) == expected
    assert set(HEADS) - set(stated(result)) == set(expected)


def test_the_reasons_say_by_how_much() -> None:
    vague = prediction(interval90=(20.0, 90.0), female=0.7999)
    texts = [why.text for why in unanswered(answer(check(), vague, policy=STRICT)).values()]
    assert "20 to 90 years, is wider than 45 years" in texts[0]
    assert "79.9 % certain, less than 80 %" in texts[1]


def test_policy_flagged_looks_at_flagged_studies_only() -> None:
    assert not wants_network(check(), POLICY)
    assert wants_network(check(AttributeStatus.MISSING), POLICY)
    assert wants_network(check(), PolicySettings(analyse="all"))
    assert header_only("1.1", check(), HEADS).outcome is Outcome.HEADER_ONLY


PREDICTIONS = st.lists(
    st.builds(
        lambda age, sd, p: prediction(age, sd, (age - 2 * sd, age + 2 * sd), p),
        st.floats(0, 100),
        st.floats(0.5, 20),
        st.floats(0, 1),
    ),
    min_size=1,
    max_size=5,
)


@given(PREDICTIONS)
def test_pooling_stays_within_its_images(predictions: list[Prediction]) -> None:
    pooled = pool(predictions)
    age, sex = pooled["age"], pooled["sex"]
    assert isinstance(age, Quantity)
    assert isinstance(sex, Category)
    ages = [one.quantity("age").mu for one in predictions]
    assert min(ages) - 1e-6 <= age.mu <= max(ages) + 1e-6
    assert age.interval90[0] <= age.mu <= age.interval90[1]
    assert age.sigma >= min(one.quantity("age").sigma for one in predictions) - 1e-9
    assert 0 <= sex.probabilities["F"] <= 1


def pooled_numbers(predictions: list[Prediction]) -> tuple[float, float]:
    """Age and probability of female."""
    age, sex = pool(predictions).values()
    assert isinstance(age, Quantity)
    assert isinstance(sex, Category)
    return age.mu, sex.probabilities["F"]


@given(PREDICTIONS)
def test_pooling_does_not_depend_on_order(predictions: list[Prediction]) -> None:
    one, other = pooled_numbers(predictions), pooled_numbers(predictions[::-1])
    assert one == pytest.approx(other)


def test_a_precise_image_counts_more() -> None:
    mu, _ = pooled_numbers([prediction(40.0, 2.0), prediction(60.0, 10.0)])
    assert mu == pytest.approx(40.77, 0.01)
