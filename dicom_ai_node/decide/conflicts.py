"""Where the image contradicts the header: what H1 to H3 make of it, in a study and in a batch.

Age and sex are compared here, the body part in :mod:`dicom_ai_node.decide.body_part`.

:func:`contradicted` is the one writer of CONFLICT_IMAGE. What of a single study is in conflict
follows from the policy's thresholds, and is said here; over a batch the false discovery rate is
held instead (:mod:`dicom_ai_node.archive.mix_ups`). What an answer is held against is the attribute
that its head names. A further attribute is compared where it gets an entry in :data:`CONFLICTS`.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from dicom_ai_node.answers import Answer, BundleResult, Category, Quantity, Reason
from dicom_ai_node.config.stages import PolicySettings
from dicom_ai_node.likeness import Likeness
from dicom_ai_node.rules.attributes import AGE, SEX, trusted_age, trusted_sex
from dicom_ai_node.rules.image_rules import IMAGE_RULES
from dicom_ai_node.types import AttributeStatus, Finding, HeaderCheck, Severity

_WORDING = "inferred characteristics differ from the record"
UNLIKE = 0.05
"""Chests of one patient that are as unlike are no rarity; with H1 or H2 they make an H3."""

Ages = tuple[float, float]
"""Youngest and oldest age that the network was trained on, years."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """That an image speaks against the header."""

    rule: str
    """``H1``, ``H2``, ``H3`` or ``J6``."""
    words: str
    """For a person; they follow upon the wording that all of them share."""
    keywords: tuple[str, ...] = ()
    """The attributes that it puts in conflict."""
    severity: Severity | None = None
    """None: that of the rule."""


def contradicted(check: HeaderCheck, found: Iterable[Contradiction]) -> HeaderCheck:
    """Add the findings of contradictions, and CONFLICT_IMAGE to the attributes that they name."""
    for contradiction in found:
        words = f"{_WORDING}{contradiction.words}"
        check = _with_finding(check, contradiction.rule, words, contradiction.severity)
        for keyword in contradiction.keywords:
            check = check.with_status(keyword, AttributeStatus.CONFLICT_IMAGE)
    return check


def not_assessable(check: HeaderCheck, reason: Reason, disabled: Collection[str]) -> HeaderCheck:
    """Add the finding H4: why nothing is said of the image."""
    if "H4" in disabled:
        return check
    return _with_finding(check, "H4", f"not assessable: {reason.text}")


def _with_finding(
    check: HeaderCheck, rule: str, reason: str, severity: Severity | None = None
) -> HeaderCheck:
    entry = IMAGE_RULES[rule]
    finding = Finding(rule, severity or entry.severity, entry.attribute, reason)
    return replace(check, findings=(*check.findings, finding))


def held_against_image(
    check: HeaderCheck,
    parts: Iterable[BundleResult],
    policy: PolicySettings,
    disabled: Collection[str],
    likeness: Likeness | None = None,
) -> HeaderCheck:
    """Add CONFLICT_IMAGE and the findings H1 to H3 where image and header disagree.

    Each of ``parts`` speaks for itself, in order; H3 asks whether both attributes are contradicted,
    be it by two bundles, and how the chest looks beside those of the patient's other studies
    (``likeness``, where that is known). A bundle for research contradicts nothing, nor does what is
    uncertain.
    """
    if check.exempt:
        return check
    found: list[Contradiction] = []
    for part in (one for one in parts if not one.research):
        ages = part.trained_ages or (0.0, math.inf)
        for answer in part.stated.values():
            if isinstance(answer, Quantity | Category) and answer.attribute in CONFLICTS:
                rule, contradicts = CONFLICTS[answer.attribute]
                said = "" if rule in disabled else contradicts(check, answer, ages, policy)
                if said:
                    found.append(Contradiction(rule, f": {said}", (answer.attribute,)))
    if "H3" not in disabled and (mix_up := _mix_up(found, likeness, policy)):
        found.append(mix_up)
    return contradicted(check, dict.fromkeys(found))


def _mix_up(
    found: Collection[Contradiction], likeness: Likeness | None, policy: PolicySettings
) -> Contradiction | None:
    """Return H3: age and sex contradict the record, or the chest the patient's other studies.

    The chest does so by itself where it is unlike beyond ``policy.chest_alert_probability``, and
    beside H1 or H2 where it is unlike at all.
    """
    both = len({one.keywords for one in found}) == len(CONFLICTS)
    p_value = likeness.p_value if likeness else 1.0
    unlike = p_value < policy.chest_alert_probability or (bool(found) and p_value < UNLIKE)
    if not (both or unlike):
        return None
    reasons = ["in age and sex"] if both else []
    reasons += [said_of_chest(likeness)] if likeness else []
    words = (
        f"{' ' if both else ': '}{'; '.join(reasons)}: possible mix-up of studies, please review"
    )
    return Contradiction("H3", words, severity=Severity.WARNING if unlike else None)


def said_of_chest(likeness: Likeness) -> str:
    """Say how a chest looks beside those of the patient's other studies, and how sure that is."""
    others = "another study" if likeness.studies == 1 else f"{likeness.studies} other studies"
    verb = "looks like" if likeness.ratio > 0 else "does not look like"
    return (
        f"the chest {verb} that of {others} of the patient"
        f" (likelihood ratio {10**likeness.ratio:.2g}, p = {likeness.p_value:.2g})"
    )


def age_conflicts(check: HeaderCheck, answer: Answer, ages: Ages, policy: PolicySettings) -> str:
    """Say what H1 finds: the recorded age lies outside the widened interval; '' where it does not.

    An age that the network never learnt counts as the nearest that it did, and only on its own
    side: a chest that looks younger than the oldest trained does not look 90 either.
    """
    recorded = trusted_age(check)
    if recorded is None or not isinstance(answer, Quantity) or not answer.certain:
        return ""
    mu, widening = answer.mu, policy.age_alert_widening
    low, high = (mu + widening * (bound - mu) for bound in answer.interval90)
    nearest, side = nearest_trained(recorded, ages), beyond(recorded, ages)
    if not ((side >= 0 and nearest > high) or (side <= 0 and nearest < low)):
        return ""
    low, high = answer.interval90
    return f"recorded age is far outside the 90 % interval {low:.0f} to {high:.0f} years"


def _sex_conflicts(check: HeaderCheck, answer: Answer, ages: Ages, policy: PolicySettings) -> str:
    """Say what H2 finds: the recorded sex is improbable; '' where it is not."""
    recorded = trusted_sex(check)
    if not recorded or not isinstance(answer, Category) or not answer.certain:
        return ""
    if answer.probabilities.get(recorded, 1.0) >= policy.sex_alert_probability:
        return ""
    return f"recorded sex has probability {1 - answer.certainty:.3f}"


CONFLICTS: Mapping[str, tuple[str, Callable[[HeaderCheck, Answer, Ages, PolicySettings], str]]] = {
    AGE: ("H1", age_conflicts),
    SEX: ("H2", _sex_conflicts),
}
"""By DICOM keyword: the rule, and what says how the image contradicts the attribute."""


def beyond(recorded: float, ages: Ages) -> int:
    """1 for an age above those that the network was trained on, -1 for one below, else 0."""
    youngest, oldest = ages
    return 1 if recorded >= oldest + 1 else -1 if recorded < youngest else 0


def nearest_trained(recorded: float, ages: Ages) -> float:
    """The recorded age, or the end of the trained ages that it lies beyond."""
    return {-1: ages[0], 0: recorded, 1: ages[1]}[beyond(recorded, ages)]
