"""At most one value for each attribute under check, from the best source that has one.

The ladder: what the header says itself, birth date and study date, the worklist, the patient's
other studies, and last the network. Nothing is proposed for a study that is exempt, for a censored
value, for an attribute that is not assessed, or against a recorded sex: 'O', 'X' or 'D' is an
answer.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dicom_ai_node.answers import Category, Quantity, StudyResult
from dicom_ai_node.config.stages import FillSettings
from dicom_ai_node.dicom.body_parts import BODY_PARTS, agree
from dicom_ai_node.rules.ages_and_dates import encode_estimate
from dicom_ai_node.rules.attributes import AGE, ATTRIBUTES, NO_SEX, SEX, Attribute
from dicom_ai_node.rules.body_part_meaning import BODY_PART
from dicom_ai_node.types import AttributeStatus, FillProposal, HeaderCheck, ProposalSource

_WITHOUT_VALUE = frozenset(
    {AttributeStatus.MISSING, AttributeStatus.MALFORMED, AttributeStatus.IMPLAUSIBLE}
)
_YOUNGEST_INFERRED = 2.0
"""Years. Below, AS is counted in months, weeks or days: an estimate that is years wide would claim
what nobody knows. So none is proposed."""


def propose(
    result: StudyResult,
    settings: FillSettings,
    attributes: Mapping[str, Attribute] = ATTRIBUTES,
) -> tuple[FillProposal, ...]:
    """Return the proposals of a study: at most one for each attribute, in their order."""
    check = result.check
    if check.exempt:
        return ()
    found: list[FillProposal | None] = []
    for keyword, row in check.attributes.items():
        if row.censored or row.status is AttributeStatus.NOT_ASSESSED:
            continue
        attribute = attributes[keyword]
        deterministic = list(_from_rules(check, attribute))
        if deterministic:
            found.append(_best(deterministic))
        elif row.status in _WITHOUT_VALUE and keyword in _INFERRED:
            found.append(_INFERRED[keyword](result, attribute, settings))
    return tuple(one for one in found if one is not None)


def accepted_by_policy(
    result: StudyResult, proposals: Sequence[FillProposal], settings: FillSettings
) -> frozenset[FillProposal]:
    """Return those of ``proposals`` that ``[fill] auto_accept`` accepts.

    None where the header contradicts itself: which of its two answers is wrong is for a person.
    """
    return frozenset(
        one
        for one in proposals
        if one.source in settings.auto_accept
        and result.check.attributes[one.keyword].status in _WITHOUT_VALUE
    )


def _from_rules(check: HeaderCheck, attribute: Attribute) -> Iterator[FillProposal]:
    """What the rules propose, on its rung of the ladder."""
    for one in check.proposals:
        if one.keyword == attribute.keyword:
            yield FillProposal(
                one.keyword,
                one.value,
                attribute.sources[one.source],
                one.source,
                tuple(dict.fromkeys((one.rule, *_rules(check, attribute)))),
                recorded=check.attributes[one.keyword].recorded,
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


def _inferred_age(
    result: StudyResult, attribute: Attribute, settings: FillSettings
) -> FillProposal | None:
    age = result.held_against(AGE)
    if not isinstance(age, Quantity) or not age.certain or age.mu < _YOUNGEST_INFERRED:
        return None
    low, high = age.interval90
    if age.width > settings.max_age_interval:
        return None
    return _inferred(
        result,
        attribute,
        encode_estimate(age.mu),
        f"estimate {age.mu:.1f} years, 90 % interval {low:.1f} to {high:.1f}",
        interval90=(low, high),
    )


def _inferred_sex(
    result: StudyResult, attribute: Attribute, settings: FillSettings
) -> FillProposal | None:
    sex, recorded = result.held_against(SEX), result.check.attributes[SEX].recorded
    if not isinstance(sex, Category) or recorded.strip().upper() not in NO_SEX:
        return None
    if not sex.certain or sex.certainty < settings.min_sex_certainty:
        return None
    words = f"probability of {sex.value} {sex.certainty:.3f}"
    return _inferred(result, attribute, sex.value, words, probability=sex.certainty)


def _inferred_body_part(
    result: StudyResult, attribute: Attribute, settings: FillSettings
) -> FillProposal | None:
    """What all images of the study show together; it is of each series, so none where they differ.

    Images along the body may show several parts: then it is one term for the span, if there is one.
    """
    part = result.held_against(BODY_PART)
    if not isinstance(part, Category) or part.value not in BODY_PARTS:
        return None
    if part.certainty < settings.min_body_part_certainty or not _one_series_or_span(result, part):
        return None
    words = f"probability of {part.value} {part.certainty:.3f}"
    return _inferred(result, attribute, part.value, words, probability=part.certainty)


def _one_series_or_span(result: StudyResult, answer: Category) -> bool:
    """Whether what the answer says of the study is true of each of its series.

    One of them shows all of it, and no other anything else: a chest beside an abdomen are two.
    """
    part = result.answering(BODY_PART)
    of_series = [one.stated.values() for one in part.series] if part else []
    if of_series and not any(
        isinstance(one, Category) and one.value == answer.value
        for answers in of_series
        for one in answers
    ):
        return False
    shown: dict[str, set[str]] = {}
    for image in part.images if part else ():
        for one in image.prediction.answers.values() if image.prediction else ():
            if isinstance(one, Category) and one.attribute == BODY_PART:
                shown.setdefault(image.image.series_instance_uid, set()).add(one.value)
    # Series of one span show the same of it; a head and a foot are two, whatever their mean says.
    return len(shown) == 1 or all(
        any(value in BODY_PARTS and agree(value, answer.value) for value in values)
        for values in shown.values()
    )


def _inferred(
    result: StudyResult, attribute: Attribute, value: str, words: str, **certainty: Any
) -> FillProposal:
    part, keyword = result.answering(attribute.keyword), attribute.keyword
    model = part.model if part else None
    network = f"{model.name} {model.version}" if model else "unknown network"
    return FillProposal(
        keyword,
        value,
        ProposalSource.INFERENCE,
        f"{words}, {network}",
        _rules(result.check, attribute),
        recorded=result.check.attributes[keyword].recorded,
        **certainty,
    )


_INFERRED: Mapping[str, Callable[[StudyResult, Attribute, FillSettings], FillProposal | None]] = {
    AGE: _inferred_age,
    SEX: _inferred_sex,
    BODY_PART: _inferred_body_part,
}
"""How the network's estimate becomes a value of an attribute."""


def _rules(check: HeaderCheck, attribute: Attribute) -> tuple[str, ...]:
    about = {attribute.name, *attribute.counts}
    return tuple(dict.fromkeys(one.rule for one in check.findings if one.attribute in about))
