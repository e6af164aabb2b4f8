"""How one recorded attribute is held against the images of a batch: what is special to each.

What its p-values mean is in :mod:`.statistics`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dicom_ai_node.answers import Answer, BundleResult, Category, Quantity, StudyResult
from dicom_ai_node.archive.member import Member
from dicom_ai_node.archive.statistics import (
    SMALLEST_P,
    age_p_value,
    deviation,
    observed_spread,
    sex_p_values,
)
from dicom_ai_node.config.stages import PolicySettings
from dicom_ai_node.decide.certainty import given, marked
from dicom_ai_node.decide.conflicts import beyond, nearest_trained
from dicom_ai_node.decide.images import OUTSIDE_TRAINING, pool_images
from dicom_ai_node.likeness import Embedding, Likeness, likeness, lower_tail
from dicom_ai_node.rules.attributes import AGE, SEX, trusted_age, trusted_sex

WORTH_A_LOOK = 0.05
"""What is no less probable than this alerts nobody, however large the budget."""
_HALF = 0.5


@dataclass(frozen=True, slots=True)
class Tested:
    """One attribute held against the image, each by the key of the study; without the untested."""

    p_values: Mapping[str, float]
    """How likely a right header deviates as far."""
    probable: Mapping[str, float]
    """How probable what is recorded is under the estimate: the two-sided p-value of an age, the
    calibrated probability of a sex."""
    estimates: Mapping[str, Answer]
    """What the records were compared with."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How one attribute is held against the images of a batch."""

    rule: str
    plural: str
    test: Callable[[Sequence[Member], PolicySettings], Tested]
    words: str
    """What follows upon them is how probable the record is."""
    found: Callable[[float, Answer], str]
    """Says how the image contradicts a record that is so probable."""
    doubtful: float
    """Less probable than this, a record is contradicted by a mix-up."""


def _test_ages(members: Sequence[Member], policy: PolicySettings) -> Tested:
    """Compare recorded ages, those beyond the trained ones as the nearest of them."""
    estimates: dict[str, Quantity] = {}
    sides: dict[str, int] = {}
    deviations: dict[str, float] = {}
    for member in members:
        recorded, compared = trusted_age(member.check), _compared_age(member.result, policy)
        if recorded is not None and compared is not None:
            estimate, trained = compared
            estimates[member.key] = estimate
            sides[member.key] = beyond(recorded, trained)
            deviations[member.key] = deviation(nearest_trained(recorded, trained), estimate)
    # What lies beyond the trained ages says nothing of how well the others are estimated.
    spread = observed_spread([far for key, far in deviations.items() if not sides[key]])
    p_values = {key: age_p_value(far, spread, sides[key]) for key, far in deviations.items()}
    return Tested(p_values, p_values, estimates)


def _test_sexes(members: Sequence[Member], policy: PolicySettings) -> Tested:
    """Compare recorded sexes."""
    estimates: dict[str, Category] = {}
    recorded: dict[str, float] = {}
    for member in members:
        sex, estimate = trusted_sex(member.check), _answer_to(stated(member.result, policy), SEX)
        if sex and isinstance(estimate, Category) and estimate.certain:
            estimates[member.key] = estimate
            recorded[member.key] = min(1.0, max(estimate.probabilities[sex], SMALLEST_P))
    p_values = dict(zip(recorded, sex_p_values(list(recorded.values())), strict=True))
    return Tested(p_values, recorded, estimates)


def _age_found(p_value: float, estimate: Answer) -> str:
    assert isinstance(estimate, Quantity)
    low, high = estimate.interval90
    interval = f"90 % interval {low:.0f} to {high:.0f} years"
    return f"recorded age is far from the estimate, {interval} (p = {p_value:.2g})"


def _sex_found(probability: float, _: Answer) -> str:
    return f"recorded sex has probability {probability:.2g}"


COMPARISONS: Mapping[str, Comparison] = {
    AGE: Comparison("H1", "ages", _test_ages, "recorded age p =", _age_found, WORTH_A_LOOK),
    SEX: Comparison("H2", "sexes", _test_sexes, "recorded sex has probability", _sex_found, _HALF),
}
"""What is compared with images, by DICOM keyword."""


def _compared_age(
    result: StudyResult | None, policy: PolicySettings
) -> tuple[Quantity, tuple[float, float]] | None:
    """The age that the recorded one is compared with, and the ages that its network learnt.

    That of a study that abstained because of its recorded age is compared all the same: were only
    those compared that a study by itself found in conflict, their p-values would be a selection.
    """
    for part in _trusted_parts(result):
        outside = part.reason is not None and part.reason.code == OUTSIDE_TRAINING
        answers = _permitted(_before_abstaining(part) if outside else part.given, policy)
        age = _answer_to(answers, AGE)
        if isinstance(age, Quantity) and age.certain:
            return age, part.trained_ages or (0.0, math.inf)
    return None


def _trusted_parts(result: StudyResult | None) -> list[BundleResult]:
    """What bundles for research say is held against nothing."""
    return [part for part in result.parts if not part.research] if result else []


def _before_abstaining(part: BundleResult) -> Mapping[str, Answer]:
    return pool_images(part.images)


def stated(result: StudyResult | None, policy: PolicySettings) -> dict[str, Answer]:
    """What the networks state of a study, by head; not what a gate or the policy forbids.

    Where two have a head of one name, that of the later one has the name of its network, too.
    """
    found: dict[str, Answer] = {}
    for part in result.parts if result else ():
        for name, answer in _permitted(part.given, policy).items():
            network = part.model.name if part.model else "unknown network"
            found[f"{name} ({network})" if name in found else name] = answer
    return found


def _permitted(answers: Mapping[str, Answer], policy: PolicySettings) -> dict[str, Answer]:
    return {
        name: marked(answer, policy) for name, answer in answers.items() if given(answer, policy)
    }


def _answer_to(answers: Mapping[str, Answer], keyword: str) -> Answer | None:
    """The answer that an attribute is held against."""
    compared = (answer for answer in answers.values() if isinstance(answer, Quantity | Category))
    return next((answer for answer in compared if answer.attribute == keyword), None)


def compared_chests(members: Sequence[Member]) -> tuple[dict[str, Likeness], dict[str, float]]:
    """Compare each chest with those of the patient's other studies: how it looks, and a p-value.

    Without studies of which that is not known. Where many are, the batch's own similarities say
    what is usual here.
    """
    chests: dict[str, dict[str, Embedding]] = {}
    for member in members:
        if member.patient and member.study.chest and not member.check.exempt:
            chests.setdefault(member.patient, {})[member.key] = member.study.chest
    found: dict[str, Likeness] = {}
    for of_patient in chests.values():
        for key, chest in of_patient.items():
            others = [other for other_key, other in of_patient.items() if other_key != key]
            like = likeness(chest, others)
            if like is not None:
                found[key] = like
    spread = observed_spread([like.deviation for like in found.values()])
    p_values = {
        key: max(SMALLEST_P, lower_tail((like.deviation - spread.centre) / spread.scale))
        for key, like in found.items()
    }
    return found, p_values
