"""Image against header over a whole batch: H1 to H3, and the alerts that a site can afford.

One study at a time, a threshold that is right for 1 in 1000 mix-ups is not right for 1 in 100. Over
a batch the share of false ones among the conflicts can be held instead (Benjamini and Hochberg).

- H1: the recorded age is improbable, H2: the recorded sex is; what that means is in
  :mod:`.statistics`.
- H3: age and sex together are improbable, and each speaks against the record; or one of them is
  found and the patient's other studies contradict the record too.

Tested are only attributes of whose value the header itself says nothing bad. Where H1 is disabled,
ages are not tested at all, and so make no H3 either; where H2 is, sexes.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from dicom_ai_node.archive.statistics import (
    SMALLEST_P,
    age_p_value,
    benjamini_hochberg,
    deviation,
    fisher_combined,
    observed_spread,
    sex_p_values,
    storey_null_share,
)
from dicom_ai_node.config.stages import PolicySettings
from dicom_ai_node.decide.conflicts import (
    Contradiction,
    beyond,
    contradicted,
    nearest_trained,
    not_assessable,
)
from dicom_ai_node.decide.images import OUTSIDE_TRAINING, pool
from dicom_ai_node.rules.attributes import AGE, SEX, trusted_age, trusted_sex
from dicom_ai_node.types import (
    Category,
    HeaderCheck,
    Outcome,
    Quantity,
    Reason,
    StudyResult,
)

WORTH_A_LOOK = 0.05
"""What is no less probable than this alerts nobody, however large the budget."""

_OTHER_STUDIES = frozenset({"G1", "G3", "G4", "G5"})
"""Rules that say that the patient's other studies contradict this one."""
_MIX_UPS_FIRST = 100.0
"""Larger than any score: likely mix-ups come before everything else."""
_HALF = 0.5


@dataclass(frozen=True, slots=True)
class BatchStudy:
    """One study of a batch: the check of its header, and what the network said."""

    key: str
    check: HeaderCheck
    result: StudyResult | None
    """None where the network was not asked."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Image against header (group H) for one study."""

    age_p: float | None = None
    """Two-sided p-value of the recorded age under the estimate; None when not comparable."""
    sex_p: float | None = None
    """Calibrated probability of the recorded sex; None when not comparable."""
    age_found: bool = False
    """H1: rejected with the false discovery rate held over the batch."""
    sex_found: bool = False
    """H2: the same for sex."""
    mix_up: bool = False
    """H3: both, or one with a contradiction to the patient's other studies."""
    score: float = 0.0
    """-log10 of the p-value of both together, 100 more for a mix-up; 0 where nothing is wrong."""
    alert: bool = False
    """Within the alert budget (or found, where there is no budget)."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a batch says of its studies, and of itself."""

    suspicions: Mapping[str, Suspicion]
    """Of every study, by key."""
    compared_ages: Mapping[str, Quantity]
    """The estimates that recorded ages were compared with, by key."""
    threshold: float | None
    """Smallest score that alerts, None when nothing does."""
    expected_ppv: float | None
    prevalence: float | None
    """Share of tested studies that are expected to be found rightly: a lower bound of the share
    of wrong ones, since not every wrong one can be told. None when nothing was tested."""


def judge_batch(
    cases: Sequence[BatchStudy],
    *,
    false_discovery_rate: float,
    budget: int | None,
    policy: PolicySettings,
    disabled: Collection[str] = (),
) -> Batch:
    """Hold each image against its header. ``budget`` alerts at most; None: what is found alerts.

    ``disabled`` holds the ids of rules that find nothing.

    Keys are unique. The answer does not depend on the order of ``cases``.
    """
    cases = sorted(cases, key=lambda case: case.key)
    tested = _tested(cases, policy, disabled)
    pairs = tested.pairs if "H3" not in disabled else frozenset()
    families = (
        (tested.age, _found(tested.age, false_discovery_rate)),
        (tested.sex, _found(tested.sex, false_discovery_rate)),
        # All that were tested count, those too whose age or sex alone says that they are no pair.
        (tested.both, _found(tested.both, false_discovery_rate) & pairs),
    )
    suspicions = {
        case.key: _suspicion(
            case,
            age_p=tested.age.get(case.key),
            sex_p=tested.recorded_sex.get(case.key),
            found=[case.key in rejected for _, rejected in families],
            p=tested.both.get(case.key, 1.0),
            mix_ups="H3" not in disabled,
        )
        for case in cases
    }
    conflicts = sorted(frozenset().union(*(rejected for _, rejected in families)))
    candidates = conflicts if budget is None else tested.both
    ranked = sorted(candidates, key=lambda key: (-suspicions[key].score, key))
    alerts = [key for key in ranked if suspicions[key].score > 0][:budget]
    tested_right = storey_null_share(list(tested.both.values())) * len(tested.both)
    # A right header is found by its age, by its sex, or by both.
    by_chance = sum(max((p[key] for key in rejected), default=0.0) for p, rejected in families)
    right = len(frozenset(alerts).intersection(conflicts)) - tested_right * by_chance
    if budget is not None:
        last = max((tested.both[key] for key in alerts), default=0.0)
        right = max(right, len(alerts) - tested_right * last)
    return Batch(
        suspicions={**suspicions, **{key: replace(suspicions[key], alert=True) for key in alerts}},
        compared_ages=tested.estimates,
        threshold=min((suspicions[key].score for key in alerts), default=None),
        expected_ppv=max(0.0, right) / len(alerts) if alerts else None,
        prevalence=(1 - false_discovery_rate) * len(conflicts) / len(tested.both)
        if tested.both
        else None,
    )


@dataclass(frozen=True, slots=True)
class _Tested:
    """How likely a right header deviates as far as each does, by key; without what has no test."""

    age: dict[str, float]
    sex: dict[str, float]
    both: dict[str, float]
    estimates: dict[str, Quantity]
    """What ``age`` was made of."""
    recorded_sex: dict[str, float]
    """The calibrated probability of the recorded sex, which ``sex`` was made of."""

    @property
    def pairs(self) -> frozenset[str]:
        """Those whose age and sex both are worth a look."""
        return frozenset(
            key
            for key in self.both
            if max(self.age.get(key, 1.0), self.sex.get(key, 1.0)) < WORTH_A_LOOK
        )


def _tested(
    cases: Sequence[BatchStudy], policy: PolicySettings, disabled: Collection[str]
) -> _Tested:
    ages = {
        case.key: (recorded, estimate, _trained(case.result))
        for case in cases
        if "H1" not in disabled
        and (estimate := _compared_age(case.result, policy)) is not None
        and (recorded := trusted_age(case.check)) is not None
    }
    sides = {key: beyond(recorded, trained) for key, (recorded, _, trained) in ages.items()}
    deviations = {
        key: deviation(nearest_trained(recorded, trained), estimate)
        for key, (recorded, estimate, trained) in ages.items()
    }
    recorded_sex = {
        case.key: _probability(sex, appearance)
        for case in cases
        if "H2" not in disabled
        and (appearance := stated_sex(case.result, policy)) is not None
        and (sex := trusted_sex(case.check))
    }
    # What lies beyond the trained ages says nothing of how well the others are estimated.
    spread = observed_spread([far for key, far in deviations.items() if not sides[key]])
    age = {key: age_p_value(far, spread, sides[key]) for key, far in deviations.items()}
    sexes = dict(zip(recorded_sex, sex_p_values(list(recorded_sex.values())), strict=True))
    both = {
        key: fisher_combined(age.get(key), sexes.get(key))
        for key in sorted(age.keys() | sexes.keys())
    }
    estimates = {key: estimate for key, (_, estimate, _) in ages.items()}
    return _Tested(age, sexes, both, estimates, recorded_sex)


def _suspicion(
    case: BatchStudy,
    *,
    age_p: float | None,
    sex_p: float | None,
    found: Sequence[bool],
    p: float,
    mix_ups: bool,
) -> Suspicion:
    age_found, sex_found, pair_found = found
    contradicted = not _OTHER_STUDIES.isdisjoint(case.check.rules)
    mix_up = mix_ups and (pair_found or age_found + sex_found + contradicted >= 2)
    suspicious = any(found) or p < WORTH_A_LOOK
    return Suspicion(
        age_p=age_p,
        sex_p=sex_p,
        age_found=age_found,
        sex_found=sex_found,
        mix_up=mix_up,
        score=_MIX_UPS_FIRST * mix_up - math.log10(p) if suspicious else 0.0,
    )


def _found(p_values: Mapping[str, float], rate: float) -> frozenset[str]:
    rejected = benjamini_hochberg(list(p_values.values()), rate)
    return frozenset(key for key, found in zip(p_values, rejected, strict=True) if found)


def _trained(result: StudyResult | None) -> tuple[float, float]:
    """The ages that the network was trained on; all, where the result does not say."""
    return (result.trained_ages if result else None) or (0.0, math.inf)


def _compared_age(result: StudyResult | None, policy: PolicySettings) -> Quantity | None:
    """The age that the recorded one is compared with.

    That of a study that abstained because of its recorded age is compared all the same: were only
    those compared that a study by itself found in conflict, their p-values would be a selection.
    """
    if result is None or result.reason is None or result.reason.code != OUTSIDE_TRAINING:
        return stated_age(result, policy)
    usable = [
        image.prediction
        for image in result.images
        if image.outcome is Outcome.ESTIMATED and image.prediction is not None
    ]
    age = pool(usable).get("age") if usable else None
    return age if isinstance(age, Quantity) and age.width <= policy.max_age_interval else None


def stated_age(result: StudyResult | None, policy: PolicySettings) -> Quantity | None:
    """The age that the network states of a study, None where a gate or the policy forbids it."""
    if result is None or result.outcome is not Outcome.ESTIMATED:
        return None
    age = result.quantity("age")
    return age if age is not None and age.width <= policy.max_age_interval else None


def stated_sex(result: StudyResult | None, policy: PolicySettings) -> Category | None:
    """The same for sex."""
    if result is None or result.outcome is not Outcome.ESTIMATED:
        return None
    sex = result.category("sex")
    return sex if sex is not None and sex.certainty >= policy.min_sex_certainty else None


def _probability(sex: str, estimate: Category) -> float:
    return min(1.0, max(estimate.probabilities[sex], SMALLEST_P))


def with_findings(case: BatchStudy, batch: Batch, disabled: Collection[str] = ()) -> HeaderCheck:
    """The check of a study with H1 to H4 as the batch found them, and CONFLICT_IMAGE.

    ``disabled`` are the rules that the batch was judged without.
    """
    suspicion, age = batch.suspicions[case.key], batch.compared_ages.get(case.key)
    check = contradicted(case.check, _contradictions(suspicion, age))
    reason = _not_assessed(case.result)
    if reason is None or (reason.code == OUTSIDE_TRAINING and suspicion.age_found):
        return check  # the recorded age that forbade an answer is the one that is contradicted
    return not_assessable(check, reason, disabled)


def _contradictions(suspicion: Suspicion, estimate: Quantity | None) -> Iterator[Contradiction]:
    age, sex = suspicion.age_p, suspicion.sex_p
    if estimate is not None and suspicion.age_found:
        low, high = estimate.interval90
        interval = f"90 % interval {low:.0f} to {high:.0f} years"
        words = f": recorded age is far from the estimate, {interval} (p = {age:.2g})"
        yield Contradiction("H1", words, (AGE,))
    if suspicion.sex_found:
        yield Contradiction("H2", f": recorded sex has probability {sex:.2g}", (SEX,))
    if suspicion.mix_up:
        odds = [
            *([f"recorded age p = {age:.2g}"] if age is not None else ()),
            *([f"recorded sex has probability {sex:.2g}"] if sex is not None else ()),
        ]
        against = [
            *([AGE] if age is not None and age < WORTH_A_LOOK else ()),
            *([SEX] if sex is not None and sex < _HALF else ()),
        ]
        said = f" ({', '.join(odds)})" if odds else ""
        yield Contradiction("H3", f": possible mix-up of studies{said}", tuple(against))


def _not_assessed(result: StudyResult | None) -> Reason | None:
    if result is None or result.outcome not in {Outcome.ABSTAINED, Outcome.REFUSED}:
        return None
    return result.reason or Reason("unknown", "no reason was given")
