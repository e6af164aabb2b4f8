"""The answer of a study: accept, abstain or disagree."""

import hashlib
import math
from collections.abc import Collection, Sequence
from dataclasses import replace

from dicom_ai_node.config.stages import PolicySettings
from dicom_ai_node.decide.conflicts import beyond, nearest_trained
from dicom_ai_node.decide.gates import OUTSIDE_TRAINING
from dicom_ai_node.decide.pool import pool_age, pool_sex
from dicom_ai_node.rules.attributes import AGE, SEX, trusted_age, trusted_sex
from dicom_ai_node.types import (
    AgeEstimate,
    AttributeStatus,
    Finding,
    HeaderCheck,
    ImageResult,
    ModelIdentity,
    Outcome,
    Reason,
    Severity,
    SexEstimate,
    StudyResult,
    Unanswered,
)

MOST_PER_RULE = 4
_WORDING = "inferred characteristics differ from the record"
_NOT_ASSESSED = (
    "PatientSex is not assessed in this study ('O', sex parameters for clinical use, a gender"
    " identity, or a rule that is disabled)"
)


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


def header_only(study_instance_uid: str, check: HeaderCheck) -> StudyResult:
    """Return the answer of a study whose images the network is not to see."""
    reason = Reason("not_flagged", "header is consistent; policy analyses flagged studies only")
    return StudyResult(
        study_instance_uid,
        Outcome.HEADER_ONLY,
        check,
        reason=reason,
        unanswered=_unanswered(reason, reason),
    )


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
    study_instance_uid: str,
    check: HeaderCheck,
    images: Sequence[ImageResult],
    *,
    model: ModelIdentity | None,
    ages: tuple[float, float],
    policy: PolicySettings,
    disabled: Collection[str] = (),
) -> StudyResult:
    """Combine the images' results with the header's.

    ``ages`` is the range of the training data: a patient recorded outside it gets no estimate,
    unless the image clearly contradicts that age.
    ``disabled`` holds the ids of rules that find nothing.
    A study is ``estimated`` when at least one image passed all gates and age or sex is certain
    enough, ``abstained`` when the network saw one but must not answer, else ``refused``.
    """
    result = StudyResult(
        study_instance_uid,
        Outcome.REFUSED,
        check,
        images=tuple(images),
        model=model,
        trained_ages=ages,
    )
    predictions = [one.prediction for one in images if one.prediction is not None]
    usable = [
        one.prediction
        for one in images
        if one.outcome is Outcome.ESTIMATED and one.prediction is not None
    ]
    if not usable:
        outcome = Outcome.ABSTAINED if predictions else Outcome.REFUSED
        return _without_estimate(result, outcome, _common_reason(images), disabled)
    pooled_age, pooled_sex = pool_age(usable), pool_sex(usable)
    no_age, no_sex = _no_age(pooled_age, policy), _no_sex(pooled_sex, check, policy)
    conflict = no_age is None and _age_conflicts(check, pooled_age, ages, policy, disabled)
    # A recorded age that the image belies is no reason to take the image for a child's.
    if (reason := _outside(check, ages)) is not None and not conflict:
        return _without_estimate(result, Outcome.ABSTAINED, reason, disabled)
    result = replace(result, unanswered=_unanswered(no_age, no_sex))
    if no_age and no_sex:
        reason = Reason("too_uncertain", "neither age nor sex is certain enough to be stated")
        return _without_estimate(result, Outcome.ABSTAINED, reason, disabled)
    age, sex = None if no_age else pooled_age, None if no_sex else pooled_sex
    check = _held_against_image(check, age, sex, ages, policy, disabled)
    return replace(result, outcome=Outcome.ESTIMATED, check=check, age=age, sex=sex)


def _unanswered(age: Reason | None, sex: Reason | None) -> tuple[Unanswered, ...]:
    reasons = {"age": age, "sex": sex}
    return tuple(Unanswered(name, reason) for name, reason in reasons.items() if reason)


def _no_age(age: AgeEstimate, policy: PolicySettings) -> Reason | None:
    """Return why the age is not stated, None when it is."""
    low, high = age.interval90
    if high - low <= policy.max_age_interval:
        return None
    return Reason(
        "age_interval_too_wide",
        f"the 90 % interval of the age, {low:.0f} to {high:.0f} years, is wider than"
        f" {policy.max_age_interval:g} years",
    )


def _no_sex(sex: SexEstimate, check: HeaderCheck, policy: PolicySettings) -> Reason | None:
    """Return why the sex is not stated, None when it is.

    What is recorded comes before what the image says: 'O' and the like are never held against it.
    """
    if check.attributes[SEX].status is AttributeStatus.NOT_ASSESSED:
        return Reason("sex_not_assessed", check.exempt or _NOT_ASSESSED)
    if sex.certainty >= policy.min_sex_certainty:
        return None
    certainty = math.floor(1000 * sex.certainty) / 10  # 0.7999 is less than 80 %
    return Reason(
        "sex_uncertain",
        f"the more probable sex is {certainty:g} % certain, less than"
        f" {100 * policy.min_sex_certainty:g} %",
    )


def _without_estimate(
    result: StudyResult, outcome: Outcome, reason: Reason, disabled: Collection[str]
) -> StudyResult:
    unanswered = result.unanswered or _unanswered(reason, reason)
    result = replace(result, outcome=outcome, reason=reason, unanswered=unanswered)
    if "H4" in disabled:
        return result
    finding = Finding("H4", Severity.INFORMATION, "image", f"not assessable: {reason.text}")
    check = replace(result.check, findings=(*result.check.findings, finding))
    return replace(result, check=check)


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


def _held_against_image(
    check: HeaderCheck,
    age: AgeEstimate | None,
    sex: SexEstimate | None,
    ages: tuple[float, float],
    policy: PolicySettings,
    disabled: Collection[str],
) -> HeaderCheck:
    """Add CONFLICT_IMAGE and the findings H1 to H3 where image and header disagree."""
    if check.exempt:
        return check
    findings: list[Finding] = []
    if age is not None and _age_conflicts(check, age, ages, policy, disabled):
        low, high = age.interval90
        text = f"recorded age is far outside the 90 % interval {low:.0f} to {high:.0f} years"
        findings.append(Finding("H1", Severity.WARNING, "age", f"{_WORDING}: {text}"))
        check = check.with_status(AGE, AttributeStatus.CONFLICT_IMAGE)
    if "H2" not in disabled and sex is not None and _sex_conflicts(check, sex, policy):
        text = f"recorded sex has probability {1 - sex.certainty:.3f}"
        findings.append(Finding("H2", Severity.WARNING, "sex", f"{_WORDING}: {text}"))
        check = check.with_status(SEX, AttributeStatus.CONFLICT_IMAGE)
    if "H3" not in disabled and len(findings) == 2:
        text = f"{_WORDING} in age and sex: possible mix-up of studies, please review"
        findings.append(Finding("H3", Severity.INFORMATION, "identity", text))
    return replace(check, findings=(*check.findings, *findings))


def _age_conflicts(
    check: HeaderCheck,
    age: AgeEstimate,
    ages: tuple[float, float],
    policy: PolicySettings,
    disabled: Collection[str],
) -> bool:
    """Whether H1 finds the recorded age: it lies outside the widened interval.

    An age that the network never learnt counts as the nearest that it did, and only on its own
    side: a chest that looks younger than the oldest trained does not look 90 either.
    """
    recorded = trusted_age(check)
    if "H1" in disabled or recorded is None:
        return False
    low, high = (age.mu + policy.age_alert_widening * (bound - age.mu) for bound in age.interval90)
    nearest, side = nearest_trained(recorded, ages), beyond(recorded, ages)
    return (side >= 0 and nearest > high) or (side <= 0 and nearest < low)


def _sex_conflicts(check: HeaderCheck, sex: SexEstimate, policy: PolicySettings) -> bool:
    recorded = trusted_sex(check)
    if not recorded:
        return False
    female = sex.probability_female
    return (female if recorded == "F" else 1 - female) < policy.sex_alert_probability
