"""The ladder: which value is proposed, from which source, and when none is."""

import inspect
import re
from dataclasses import replace
from functools import partial

import pytest

from dicom_ai_node.answers import Category, ModelIdentity, Outcome, Quantity, StudyResult
from dicom_ai_node.config.stages import FillSettings
from dicom_ai_node.decide.proposals import accepted_by_policy, propose
from dicom_ai_node.rules import attributes as rules
from dicom_ai_node.rules.attributes import ATTRIBUTES
from dicom_ai_node.study.proposals import (
    PROPOSAL_TRANSITIONS,
    STANDING,
    Decision,
    ProposalState,
    proposal_step,
)
from dicom_ai_node.types import (
    AttributeStatus,
    Finding,
    HeaderCheck,
    PriorStudy,
    Proposal,
    ProposalSource,
    Severity,
    WorklistAnswer,
)
from tests.builders.answers import age, sex, study_result, with_part
from tests.builders.checks import age_and_sex, header_check
from tests.builders.headers import Changes, Value, checked, listed, prior

S = ProposalSource
SETTINGS = FillSettings(max_age_interval=30, min_sex_certainty=0.95)
MODEL = ModelIdentity("chest", "1.1", "0" * 64)
missing = partial(
    header_check,
    AttributeStatus.MISSING,
    AttributeStatus.MISSING,
    recorded=("", ""),
    years=None,
    findings=(
        Finding("B3", Severity.INFORMATION, "age", "PatientAge is absent"),
        Finding("B5", Severity.WARNING, "dates", "age and birth date are missing"),
        Finding("B2", Severity.INFORMATION, "sex", "PatientSex is empty"),
    ),
)


def estimated(
    check: HeaderCheck | None = None,
    *,
    mu: float = 63.7,
    width: float = 20.0,
    female: float = 0.99,
) -> StudyResult:
    return study_result(
        "1.1",
        Outcome.ESTIMATED,
        check or missing(),
        answers={"age": age(mu, 6.0, (mu - width / 2, mu + width / 2)), "sex": sex(female)},
        model=MODEL,
    )


def proposed(
    result: StudyResult, settings: FillSettings = SETTINGS
) -> dict[str, tuple[str, ProposalSource]]:
    found = propose(result, settings)
    assert len({one.keyword for one in found}) == len(found)
    return {one.keyword: (one.value, one.source) for one in found}


def from_header(
    priors: tuple[PriorStudy, ...] = (), worklist: WorklistAnswer | None = None, **changes: Value
) -> StudyResult:
    """An estimated study with the audit that the rules really make of this header."""
    return estimated(checked(changes, priors=priors, worklist=worklist))


def test_an_estimate_is_proposed_with_its_interval_its_certainty_and_its_rules() -> None:
    age, sex = propose(estimated(), SETTINGS)
    assert (age.keyword, age.value, age.source) == ("PatientAge", "064Y", S.INFERENCE)
    assert age.interval90 == (53.7, 73.7)
    assert age.rules == ("B3", "B5")
    assert "chest 1.1" in age.detail
    assert (sex.keyword, sex.value, sex.source) == ("PatientSex", "F", S.INFERENCE)
    assert sex.probability == 0.99
    assert sex.rules == ("B2",)


def test_what_is_too_uncertain_is_not_proposed() -> None:
    assert "PatientAge" in proposed(estimated(width=30.0))
    assert "PatientAge" not in proposed(estimated(width=30.1))
    assert "PatientSex" in proposed(estimated(female=0.05))
    assert "PatientSex" not in proposed(estimated(female=0.06))


def test_what_the_policy_finds_uncertain_is_not_proposed_however_little_is_asked_for() -> None:
    anything = FillSettings(max_age_interval=200, min_sex_certainty=0.5)
    sure = estimated(width=30.0, female=0.05)
    assert proposed(sure, anything).keys() == {"PatientAge", "PatientSex"}
    (part,) = sure.parts
    doubtful = {
        name: replace(answer, certain=False)
        for name, answer in part.stated.items()
        if isinstance(answer, Quantity | Category)
    }
    assert proposed(with_part(sure, answers=doubtful), anything) == {}


@pytest.mark.parametrize(("mu", "value"), [(1.99, None), (2.0, "002Y"), (2.9, "003Y")])
def test_the_nearest_year_and_nothing_below_two(mu: float, value: str | None) -> None:
    assert proposed(estimated(mu=mu)).get("PatientAge", (None,))[0] == value


@pytest.mark.parametrize("outcome", [one for one in Outcome if one is not Outcome.ESTIMATED])
def test_only_an_answered_study_has_inferred_values(outcome: Outcome) -> None:
    assert proposed(with_part(estimated(), outcome=outcome)) == {}


def test_exempt_studies_and_censored_ages_get_nothing() -> None:
    assert proposed(estimated(missing(exempt="veterinary patient"))) == {}
    assert proposed(estimated(missing(censored_age=True))).keys() == {"PatientSex"}


@pytest.mark.parametrize(
    "status",
    [
        AttributeStatus.CONSISTENT,
        AttributeStatus.CONFLICT_IMAGE,
        AttributeStatus.CONFLICT_HEADER,
        AttributeStatus.NOT_ASSESSED,
    ],
)
def test_nothing_is_inferred_against_a_value(status: AttributeStatus) -> None:
    recorded = header_check(status, status, recorded=("040Y", "M"), years=40.0)
    assert proposed(estimated(recorded)) == {}


@pytest.mark.parametrize("sex", ["O", "X", "D", "I", "1", "o"])
def test_a_recorded_sex_is_an_answer(sex: str) -> None:
    assert "PatientSex" not in proposed(from_header(PatientSex=sex))
    assert "PatientSex" not in proposed(from_header(worklist=listed(sex="F"), PatientSex=sex))


@pytest.mark.parametrize("sex", ["", "U", "UNK", "unknown"])
def test_unknown_is_no_answer(sex: str) -> None:
    result = from_header(PatientSex=sex)
    assert proposed(result)["PatientSex"] == ("F", S.INFERENCE)


def test_the_ladder_from_top_to_bottom() -> None:
    empty: Changes = {"PatientAge": "", "PatientBirthDate": "", "PatientSex": ""}
    dated: Changes = {**empty, "PatientBirthDate": "19590415"}
    theirs = prior(sex="M", birth_date="19590415", age=None)
    answer = listed(birth_date="19580415", sex="M")
    rungs = [
        from_header(worklist=answer, **{**dated, "PatientAge": "64Y", "PatientSex": "male"}),
        from_header(worklist=answer, **dated),
        from_header((theirs,), answer, **empty),
        from_header((theirs,), **empty),
        from_header(**empty),
    ]
    assert [proposed(one) for one in rungs] == [
        {"PatientAge": ("064Y", S.HEADER), "PatientSex": ("M", S.HEADER)},
        {"PatientAge": ("064Y", S.DATES), "PatientSex": ("M", S.WORKLIST)},
        {"PatientAge": ("065Y", S.WORKLIST), "PatientSex": ("M", S.WORKLIST)},
        {"PatientAge": ("064Y", S.PRIORS), "PatientSex": ("M", S.PRIORS)},
        {"PatientAge": ("064Y", S.INFERENCE), "PatientSex": ("F", S.INFERENCE)},
    ]


def test_what_the_worklist_and_other_studies_agree_on_is_the_worklists() -> None:
    empty: Changes = {"PatientAge": "", "PatientBirthDate": "", "PatientSex": ""}
    answer = listed(birth_date="19590415", sex="M")
    result = from_header((prior(sex="M", birth_date="19590415", age=None),), answer, **empty)
    assert {source for _, source in proposed(result).values()} == {S.WORKLIST}


def test_the_better_source_wins_whatever_the_order() -> None:
    candidates = (
        Proposal("PatientAge", "050Y", "PatientBirthDate of other studies and StudyDate", "B3"),
        Proposal("PatientAge", "066Y", "PatientAge of the worklist", "B3"),
        Proposal("PatientAge", "064Y", "PatientBirthDate and StudyDate", "B3"),
    )
    result = estimated(missing(proposals=candidates))
    assert proposed(result)["PatientAge"] == ("064Y", S.DATES)


def test_a_source_that_contradicts_itself_is_passed_over_and_nothing_is_guessed() -> None:
    twice = tuple(Proposal("PatientAge", one, "PatientAge", "A1") for one in ("064Y", "046Y"))
    check = missing(proposals=twice).with_status("PatientAge", AttributeStatus.MALFORMED)
    result = estimated(check)
    assert "PatientAge" not in proposed(result)
    answer = Proposal("PatientAge", "064Y", "PatientAge of the worklist", "A1")
    third = replace(result.check, proposals=(*twice, answer))
    assert proposed(estimated(third))["PatientAge"] == ("064Y", S.WORKLIST)


def test_who_is_other_in_the_worklist_is_given_no_sex() -> None:
    assert "PatientSex" in proposed(from_header(PatientSex=""))
    assert "PatientSex" not in proposed(from_header(worklist=listed(sex="O"), PatientSex=""))


def test_against_a_header_the_worklist_is_a_finding_and_no_proposal() -> None:
    result = from_header(worklist=listed(birth_date="19500415", sex="M"))
    assert age_and_sex(result.check) == (AttributeStatus.CONFLICT_HEADER,) * 2
    assert result.check.rules == ("G6",)
    assert S.WORKLIST not in {source for _, source in proposed(result).values()}


def test_every_source_that_the_rules_name_has_a_rung() -> None:
    named = set(re.findall(r'"(Patient[A-Za-z ]+)"', inspect.getsource(rules)))
    assert "PatientSex of other studies" in named
    rungs = {source for attribute in ATTRIBUTES.values() for source in attribute.sources}
    assert named <= rungs | {"PatientBirthDate", "PatientID"}


def test_the_table_of_decisions() -> None:
    p, d = ProposalState, Decision
    assert proposal_step(p.OPEN, d.ACCEPT) is p.ACCEPTED
    assert proposal_step(p.OPEN, d.APPLY) is None
    assert proposal_step(p.APPLIED, d.REJECT) is None
    assert proposal_step(p.APPLIED, d.ACCEPT) is None
    assert proposal_step(p.REJECTED, d.APPLY) is None
    assert not any(state is p.SUPERSEDED for state, _ in PROPOSAL_TRANSITIONS)  # nothing comes back
    for (state, decision), after in PROPOSAL_TRANSITIONS.items():
        assert (after is p.SUPERSEDED) == (decision is d.SUPERSEDE)
        assert state in STANDING or decision is d.ACCEPT


@pytest.mark.parametrize(
    ("recorded", "accepted"),
    [("", True), ("000Y", True), ("64", True), ("040Y", False)],
)
def test_policy_leaves_a_header_that_contradicts_itself_to_a_person(
    recorded: str, accepted: bool
) -> None:
    result = from_header(PatientAge=recorded, PatientBirthDate="19590415")
    found = propose(result, SETTINGS)
    (age,) = found
    assert age.value == "064Y"
    settings = FillSettings(auto_accept=(S.HEADER, S.DATES))
    assert accepted_by_policy(result, found, settings) == ({age} if accepted else set())
    assert accepted_by_policy(result, found, FillSettings()) == set()


def test_a_guess_is_never_accepted_by_policy() -> None:
    with pytest.raises(ValueError, match="'inference' needs a person's decision"):
        FillSettings(auto_accept=(S.DATES, S.INFERENCE))
