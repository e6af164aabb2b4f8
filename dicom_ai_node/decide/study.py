"""The answer of a study: accept, abstain or disagree."""

import hashlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from dicom_ai_node.answers import (
    Answer,
    BundleResult,
    Category,
    ImageResult,
    ModelIdentity,
    Outcome,
    Quantity,
    Reason,
    SeriesResult,
    StudyResult,
)
from dicom_ai_node.config.stages import PolicySettings
from dicom_ai_node.decide.body_part import held_against_body_part
from dicom_ai_node.decide.certainty import given, least_certain, marked, widest
from dicom_ai_node.decide.conflicts import age_conflicts, beyond, held_against_image, not_assessable
from dicom_ai_node.decide.images import OUTSIDE_TRAINING, pool_images, pool_series
from dicom_ai_node.dicom.body_parts import BODY_PARTS, along_the_body, combined
from dicom_ai_node.likeness import Likeness
from dicom_ai_node.rules.attributes import AGE, trusted_age
from dicom_ai_node.types import AttributeStatus, Finding, HeaderCheck, Severity

MOST_PER_RULE = 4
Answers = Mapping[str, Answer | Reason]
_WHY_NOT_ASSESSED = {
    "PatientSex": " ('O', sex parameters for clinical use, a gender identity, or a rule that is"
    " disabled)",
    "BodyPartExamined": " (a series records parts that no one term names, or a rule is disabled)",
}


def wants_network(check: HeaderCheck, policy: PolicySettings) -> bool:
    """Whether the policy asks for this study's images to be analysed."""
    return policy.analyse == "all" or check.flagged


def noteworthy(check: HeaderCheck) -> bool:
    """Whether a report would say more than that the header is in order.

    It does where an attribute is missing, wrong or in conflict, and where any rule warns.
    """
    return check.flagged or any(
        found.severity is not Severity.INFORMATION for found in check.findings
    )


def sampled(study_instance_uid: str, share: float) -> bool:
    """Whether a study that the policy passes over is in the ``share`` that the network sees anyway.

    Follows from the UID alone: the same study is in the sample however often it is analysed, and a
    larger share holds every smaller one.
    """
    digest = hashlib.sha256(f"sample\0{study_instance_uid}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def not_asked(heads: Sequence[str] = ()) -> BundleResult:
    """Return the part of a bundle that is not to see the images of a study."""
    reason = Reason("not_flagged", "header is consistent; policy analyses flagged studies only")
    return BundleResult(Outcome.HEADER_ONLY, reason, answers=dict.fromkeys(heads, reason))


def header_only(study_uid: str, check: HeaderCheck, heads: Sequence[str] = ()) -> StudyResult:
    """Return the answer of a study of which the header alone is known."""
    return StudyResult(study_uid, check, (not_asked(heads),))


def with_pixels(
    check: HeaderCheck, found: Sequence[Finding], *, disabled: Collection[str]
) -> HeaderCheck:
    """Return ``check`` with what was found in the pixels (I5, I6): each reason once, a few a rule.

    A study of a thousand images that all differ must not make a thousand lines.
    """
    wanted = [one for one in dict.fromkeys(found) if one.rule not in disabled]
    few = [
        one
        for rule in dict.fromkeys(one.rule for one in wanted)
        for one in [each for each in wanted if each.rule == rule][:MOST_PER_RULE]
    ]
    return replace(check, findings=(*check.findings, *few))


def decide(
    check: HeaderCheck,
    images: Sequence[ImageResult],
    *,
    heads: Sequence[str],
    model: ModelIdentity | None,
    ages: tuple[float, float],
    policy: PolicySettings,
    disabled: Collection[str] = (),
) -> BundleResult:
    """Return what a bundle says of a study whose images became ``images``.

    ``heads`` are the names of all that is asked.
    ``ages`` is the range of the training data: a patient recorded outside it gets no estimate,
    unless the image clearly contradicts that age.
    ``disabled`` holds the ids of rules that find nothing.
    The outcome is ``estimated`` when at least one image passed all gates and the policy lets one
    answer be given, of the study or of a series, ``abstained`` when the network saw one but must
    not answer, else ``refused``.
    """

    def silent(outcome: Outcome, reason: Reason, answers: Answers | None = None) -> BundleResult:
        answers = answers or dict.fromkeys(heads, reason)
        return BundleResult(outcome, reason, tuple(images), answers, model, ages)

    pooled = pool_images(images)
    if not pooled:
        seen = any(one.prediction is not None for one in images)
        return silent(Outcome.ABSTAINED if seen else Outcome.REFUSED, _common_reason(images))

    def permitted(name: str, answer: Answer) -> Answer | Reason:
        return _withheld(name, answer, check, policy) or marked(answer, policy)

    series = _of_series(images, permitted)
    answers: Answers = {
        name: _parts_differ(name, series) or permitted(name, answer)
        for name, answer in pooled.items()
    }
    # A recorded age that the image belies is no reason to take the image for a child's.
    if (reason := _outside(check, ages)) is not None and not any(
        isinstance(answer, Quantity)
        and answer.attribute == AGE
        and "H1" not in disabled
        and age_conflicts(check, answer, ages, policy)
        for answer in answers.values()
    ):
        return silent(Outcome.ABSTAINED, reason)
    if not any(one.stated for one in series) and all(
        isinstance(answer, Reason) for answer in answers.values()
    ):
        reason = Reason("too_uncertain", _none_is_certain(list(answers)))
        return silent(Outcome.ABSTAINED, reason, answers)
    return BundleResult(Outcome.ESTIMATED, None, tuple(images), answers, model, ages, series=series)


def _of_series(
    images: Sequence[ImageResult], permitted: Callable[[str, Answer], Answer | Reason]
) -> tuple[SeriesResult, ...]:
    """Return what is said of each series, nothing of a single one."""
    found = [(uid, said) for uid, said in pool_series(images).items() if said]
    return tuple(
        SeriesResult(uid, {name: permitted(name, answer) for name, answer in said.items()})
        for uid, said in found
        if len(found) > 1
    )


def _parts_differ(name: str, series: Sequence[SeriesResult]) -> Reason | None:
    """Return why series that show several parts have no answer in common; None where they have.

    They have one where one term has all parts, or where one series alone is sure of what it shows.
    """
    said = [one.stated[name] for one in series if name in one.stated]
    shown = [one for one in said if isinstance(one, Category)]
    parts = {part for one in shown for part in one.covered or (one.value,)} & BODY_PARTS.keys()
    if combined(parts) or not parts:
        return None
    values = along_the_body({one.value for one in shown} & BODY_PARTS.keys())
    return Reason(
        f"{name}_differs",
        f"its series show parts of the body that no one term has: {', '.join(values)}",
    )


def combine(
    study_uid: str,
    check: HeaderCheck,
    parts: Sequence[BundleResult],
    *,
    policy: PolicySettings,
    disabled: Collection[str] = (),
    likeness: Likeness | None = None,
) -> StudyResult:
    """Put together what each bundle says of a study, and hold it against the header.

    ``likeness`` is how the chest looks beside those of the patient's other studies.
    """
    result = StudyResult(study_uid, check, tuple(parts))
    if result.outcome is Outcome.ESTIMATED:
        check = held_against_image(check, result.parts, policy, disabled, likeness)
    elif result.outcome is not Outcome.HEADER_ONLY and result.reason is not None:
        check = not_assessable(check, result.reason, disabled)
    check = held_against_body_part(check, result.parts, policy, disabled)
    return replace(result, check=check)


def _none_is_certain(names: Sequence[str]) -> str:
    said = (
        f"neither {names[0]} nor {names[1]}" if len(names) == 2 else f"none of {', '.join(names)}"
    )
    return f"{said} is certain enough to be stated"


def _withheld(
    name: str, answer: Answer, check: HeaderCheck, policy: PolicySettings
) -> Reason | None:
    """Return why an answer is not stated, None when it is.

    What is recorded comes before what the image says: 'O' and the like are never held against it.
    """
    if isinstance(answer, Quantity):
        return None if given(answer, policy) else _too_wide(name, answer, widest(answer, policy))
    if not isinstance(answer, Category):
        return None
    row = check.attributes.get(answer.attribute)
    if row is not None and row.status is AttributeStatus.NOT_ASSESSED:
        why = _WHY_NOT_ASSESSED.get(answer.attribute, "")
        text = f"{answer.attribute} is not assessed in this study{why}"
        return Reason(f"{name}_not_assessed", check.exempt or text)
    if given(answer, policy):
        return None
    least = least_certain(answer, policy)
    certainty = math.floor(1000 * answer.certainty) / 10  # 0.7999 is less than 80 %
    most = "more" if len(answer.probabilities) == 2 else "most"
    return Reason(
        f"{name}_uncertain",
        f"the {most} probable {name} is {certainty:g} % certain, less than {100 * least:g} %",
    )


def _too_wide(name: str, answer: Quantity, most: float) -> Reason:
    low, high = answer.interval90
    unit = {"a": "years"}.get(answer.unit, answer.unit)
    return Reason(
        f"{name}_interval_too_wide",
        f"the 90 % interval of the {name}, {low:.0f} to {high:.0f} {unit}, is wider than"
        f" {most:g} {unit}",
    )


def _common_reason(images: Sequence[ImageResult]) -> Reason:
    """Return the reason of the image that came furthest, the first among equals."""
    reasons = [one for one in images if one.reason is not None]
    if not reasons:
        return Reason("no_image", "the study holds no image of a class that is analysed")
    furthest = max(reasons, key=lambda one: one.prediction is not None)
    assert furthest.reason is not None
    return furthest.reason


def outside_training_ages(check: HeaderCheck, ages: tuple[float, float]) -> bool:
    """Whether the header says that the patient is younger or older than the training data."""
    years, row = trusted_age(check), check.attributes[AGE]
    if years is None and row.status in (AttributeStatus.MISSING, AttributeStatus.MALFORMED):
        years = None if row.censored else check.birth_date_age
    return years is not None and beyond(years, ages) != 0


def _outside(check: HeaderCheck, ages: tuple[float, float]) -> Reason | None:
    if not outside_training_ages(check, ages):
        return None
    low, high = ages
    return Reason(
        OUTSIDE_TRAINING,
        f"recorded age is outside the {low:g} to {high:g} years that the network was trained on",
    )
