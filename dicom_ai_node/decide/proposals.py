"""At most one value for each of PatientAge and PatientSex, from the best source that has one.

The ladder: what the header says itself, birth date and study date, the worklist, the patient's
other studies, and last the network. Nothing is proposed for a study that is exempt, for a censored
age, for an attribute that is not assessed, or against a recorded sex: 'O', 'X' or 'D' is an answer.
"""

from collections.abc import Iterator, Mapping, Sequence

from dicom_ai_node.config.stages import FillSettings
from dicom_ai_node.rules.ages import encode_estimate
from dicom_ai_node.rules.proposals import NO_SEX
from dicom_ai_node.types import (
    AttributeStatus,
    FillProposal,
    HeaderCheck,
    Outcome,
    ProposalSource,
    StudyResult,
)

AGE, SEX = "PatientAge", "PatientSex"

_WITHOUT_VALUE = frozenset(
    {AttributeStatus.MISSING, AttributeStatus.MALFORMED, AttributeStatus.IMPLAUSIBLE}
)
_SOURCES: Mapping[str, ProposalSource] = {
    AGE: ProposalSource.HEADER,
    SEX: ProposalSource.HEADER,
    "PatientBirthDate and StudyDate": ProposalSource.DATES,
    "PatientBirthDate of the worklist and StudyDate": ProposalSource.WORKLIST,
    "PatientAge of the worklist": ProposalSource.WORKLIST,
    "PatientSex of the worklist": ProposalSource.WORKLIST,
    "PatientBirthDate of other studies and StudyDate": ProposalSource.PRIORS,
    "PatientSex of other studies": ProposalSource.PRIORS,
}
"""The rung of each source that ``rules/proposals.py`` names."""
_YOUNGEST_INFERRED = 2.0
"""Years. Below, AS is counted in months, weeks or days: an estimate that is years wide would claim
what nobody knows. So none is proposed."""


def propose(result: StudyResult, settings: FillSettings) -> tuple[FillProposal, ...]:
    """Return the proposals of a study: none, one or two, PatientAge first."""
    if result.check.exempt:
        return ()
    found = (_age(result, settings), _sex(result, settings))
    return tuple(one for one in found if one is not None)


def accepted_by_policy(
    result: StudyResult, proposals: Sequence[FillProposal], settings: FillSettings
) -> frozenset[FillProposal]:
    """Return those of ``proposals`` that ``[fill] auto_accept`` accepts.

    None where the header contradicts itself: which of its two answers is wrong is for a person.
    """
    status = {AGE: result.check.age, SEX: result.check.sex}
    return frozenset(
        one
        for one in proposals
        if one.source in settings.auto_accept and status[one.keyword] in _WITHOUT_VALUE
    )


def _age(result: StudyResult, settings: FillSettings) -> FillProposal | None:
    check = result.check
    if check.censored_age or check.age is AttributeStatus.NOT_ASSESSED:
        return None
    deterministic = list(_from_rules(check, AGE))
    if deterministic:
        return _best(deterministic)
    return _inferred_age(result, settings) if check.age in _WITHOUT_VALUE else None


def _sex(result: StudyResult, settings: FillSettings) -> FillProposal | None:
    check = result.check
    if check.sex is AttributeStatus.NOT_ASSESSED:
        return None
    deterministic = list(_from_rules(check, SEX))
    if deterministic:
        return _best(deterministic)
    missing = check.sex in _WITHOUT_VALUE and check.recorded.sex.strip().upper() in NO_SEX
    return _inferred_sex(result, settings) if missing else None


def _from_rules(check: HeaderCheck, keyword: str) -> Iterator[FillProposal]:
    """What the rules propose, on its rung of the ladder."""
    for one in check.proposals:
        if one.keyword == keyword:
            rules = tuple(dict.fromkeys((one.rule, *_rules(check, keyword))))
            yield FillProposal(
                keyword,
                one.value,
                _SOURCES[one.source],
                one.source,
                rules,
                recorded=_recorded(check, keyword),
            )


def _best(candidates: Sequence[FillProposal]) -> FillProposal | None:
    """Return the candidate of the best source that does not contradict itself.

    Where every source does, there is nothing to propose, and nothing to guess: the study needs a
    person.
    """
    for source in ProposalSource:
        here = {one.value: one for one in candidates if one.source is source}
        if len(here) == 1:
            return here.popitem()[1]
    return None


def _inferred_age(result: StudyResult, settings: FillSettings) -> FillProposal | None:
    age = result.age
    if result.outcome is not Outcome.ESTIMATED or age is None or age.mu < _YOUNGEST_INFERRED:
        return None
    low, high = age.interval90
    if high - low > settings.max_age_interval:
        return None
    return FillProposal(
        AGE,
        encode_estimate(age.mu),
        ProposalSource.INFERENCE,
        f"estimate {age.mu:.1f} years, 90 % interval {low:.1f} to {high:.1f}, {_model(result)}",
        _rules(result.check, AGE),
        interval90=(low, high),
        recorded=_recorded(result.check, AGE),
    )


def _inferred_sex(result: StudyResult, settings: FillSettings) -> FillProposal | None:
    sex = result.sex
    if result.outcome is not Outcome.ESTIMATED or sex is None:
        return None
    if sex.certainty < settings.min_sex_certainty:
        return None
    return FillProposal(
        SEX,
        sex.value,
        ProposalSource.INFERENCE,
        f"probability of {sex.value} {sex.certainty:.3f}, {_model(result)}",
        _rules(result.check, SEX),
        probability=sex.certainty,
        recorded=_recorded(result.check, SEX),
    )


def _rules(check: HeaderCheck, keyword: str) -> tuple[str, ...]:
    about = {"age", "dates"} if keyword == AGE else {"sex"}
    return tuple(dict.fromkeys(one.rule for one in check.findings if one.attribute in about))


def _recorded(check: HeaderCheck, keyword: str) -> str:
    return check.recorded.age if keyword == AGE else check.recorded.sex


def _model(result: StudyResult) -> str:
    return f"{result.model.name} {result.model.version}" if result.model else "unknown network"
