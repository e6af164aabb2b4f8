"""Image against header over a whole batch: H1 to H3, and the alerts that a site can afford.

One study at a time, a threshold that is right for 1 in 1000 mix-ups is not right for 1 in 100. Over
a batch the share of false ones among the conflicts can be held instead (Benjamini and Hochberg).

- H1: the recorded age is improbable, H2: the recorded sex is; what that means is in :mod:`.tails`.
- H3: age and sex together are improbable, and each speaks against the record; or one of them is
  found and the patient's other studies contradict the record too.

Tested are only attributes of whose value the header itself says nothing bad. Where H1 is disabled,
ages are not tested at all, and so make no H3 either; where H2 is, sexes.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from dicom_ai_node.decide.gates import OUTSIDE_TRAINING
from dicom_ai_node.decide.pool import pool_age
from dicom_ai_node.decide.settings import PolicySettings
from dicom_ai_node.decide.tails import (
    SMALLEST_P,
    age_chance,
    beyond,
    deviation,
    nearest_trained,
    own_spread,
    sex_chances,
)
from dicom_ai_node.rules.chance import discoveries
from dicom_ai_node.types import (
    AgeEstimate,
    HeaderAudit,
    Outcome,
    SexEstimate,
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
class Case:
    """One study of a batch: the audit of its header, and what the network said."""

    key: str
    audit: HeaderAudit
    result: StudyResult | None
    """None where the network was not asked."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the batch says of one study."""

    age_p: float | None = None
    """P-value of the recorded age."""
    sex_p: float | None = None
    """Calibrated probability of the recorded sex."""
    age_found: bool = False
    sex_found: bool = False
    mix_up: bool = False
    score: float = 0.0
    """-log10 of the p-value of both together, 100 more for a mix-up; 0 where nothing is wrong."""
    alert: bool = False
    age: AgeEstimate | None = None
    """The estimate that the recorded age was compared with, None where it was not."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a batch says of its studies, and of itself."""

    verdicts: Mapping[str, Verdict]
    threshold: float | None
    """Smallest score that alerts, None when nothing does."""
    expected_ppv: float | None
    prevalence: float | None
    """Share of tested studies that are expected to be found rightly: a lower bound of the share
    of wrong ones, since not every wrong one can be told. None when nothing was tested."""


def judge_batch(
    cases: Sequence[Case],
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
    cases = sorted(cases, key=lambda one: one.key)
    tested = _tested(cases, policy, disabled)
    pairs = tested.pairs if "H3" not in disabled else frozenset()
    families = (
        (tested.age, _found(tested.age, false_discovery_rate)),
        (tested.sex, _found(tested.sex, false_discovery_rate)),
        # All that were tested count, those too whose age or sex alone says that they are no pair.
        (tested.both, _found(tested.both, false_discovery_rate) & pairs),
    )
    verdicts = {
        one.key: _verdict(
            one,
            age=tested.estimates.get(one.key),
            age_p=tested.age.get(one.key),
            sex_p=tested.recorded_sex.get(one.key),
            found=[one.key in own for _, own in families],
            p=tested.both.get(one.key, 1.0),
            mix_ups="H3" not in disabled,
        )
        for one in cases
    }
    conflicts = sorted(frozenset().union(*(own for _, own in families)))
    candidates = conflicts if budget is None else tested.both
    ranked = sorted(candidates, key=lambda key: (-verdicts[key].score, key))
    alerts = [key for key in ranked if verdicts[key].score > 0][:budget]
    tested_right = _share_right(list(tested.both.values())) * len(tested.both)
    # A right header is found by its age, by its sex, or by both.
    by_chance = sum(max((p[key] for key in own), default=0.0) for p, own in families)
    right = len(frozenset(alerts).intersection(conflicts)) - tested_right * by_chance
    if budget is not None:
        last = max((tested.both[key] for key in alerts), default=0.0)
        right = max(right, len(alerts) - tested_right * last)
    return Batch(
        verdicts={**verdicts, **{key: replace(verdicts[key], alert=True) for key in alerts}},
        threshold=min((verdicts[key].score for key in alerts), default=None),
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
    estimates: dict[str, AgeEstimate]
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


def _tested(cases: Sequence[Case], policy: PolicySettings, disabled: Collection[str]) -> _Tested:
    ages = {
        one.key: (recorded, estimate, _trained(one.result))
        for one in cases
        if "H1" not in disabled
        and (estimate := _compared_age(one.result, policy)) is not None
        and (recorded := one.audit.trusted_age) is not None
    }
    sides = {key: beyond(recorded, trained) for key, (recorded, _, trained) in ages.items()}
    deviations = {
        key: deviation(nearest_trained(recorded, trained), estimate)
        for key, (recorded, estimate, trained) in ages.items()
    }
    recorded_sex = {
        one.key: _probability(sex, appearance)
        for one in cases
        if "H2" not in disabled
        and (appearance := stated_sex(one.result, policy)) is not None
        and (sex := one.audit.trusted_sex)
    }
    # What lies beyond the trained ages says nothing of how well the others are estimated.
    spread = own_spread([one for key, one in deviations.items() if not sides[key]])
    age = {key: age_chance(one, spread, sides[key]) for key, one in deviations.items()}
    sexes = dict(zip(recorded_sex, sex_chances(list(recorded_sex.values())), strict=True))
    both = {
        key: together(age.get(key), sexes.get(key)) for key in sorted(age.keys() | sexes.keys())
    }
    estimates = {key: estimate for key, (_, estimate, _) in ages.items()}
    return _Tested(age, sexes, both, estimates, recorded_sex)


def _verdict(
    case: Case,
    *,
    age: AgeEstimate | None,
    age_p: float | None,
    sex_p: float | None,
    found: Sequence[bool],
    p: float,
    mix_ups: bool,
) -> Verdict:
    age_found, sex_found, pair_found = found
    contradicted = not _OTHER_STUDIES.isdisjoint(case.audit.rules)
    mix_up = mix_ups and (pair_found or age_found + sex_found + contradicted >= 2)
    suspicious = any(found) or p < WORTH_A_LOOK
    return Verdict(
        age=age,
        age_p=age_p,
        sex_p=sex_p,
        age_found=age_found,
        sex_found=sex_found,
        mix_up=mix_up,
        score=_MIX_UPS_FIRST * mix_up - math.log10(p) if suspicious else 0.0,
    )


def _found(p_values: Mapping[str, float], rate: float) -> frozenset[str]:
    rejected = discoveries(list(p_values.values()), rate)
    return frozenset(key for key, found in zip(p_values, rejected, strict=True) if found)


def _trained(result: StudyResult | None) -> tuple[float, float]:
    """The ages that the network was trained on; all, where the result does not say."""
    return (result.trained_ages if result else None) or (0.0, math.inf)


def _compared_age(result: StudyResult | None, policy: PolicySettings) -> AgeEstimate | None:
    """The age that the recorded one is compared with.

    That of a study that abstained because of its recorded age is compared all the same: were only
    those compared that a study by itself found in conflict, their p-values would be a selection.
    """
    if result is None or result.reason is None or result.reason.code != OUTSIDE_TRAINING:
        return stated_age(result, policy)
    usable = [
        one.prediction
        for one in result.images
        if one.outcome is Outcome.ESTIMATED and one.prediction is not None
    ]
    if not usable:
        return None
    low, high = (age := pool_age(usable)).interval90
    return age if high - low <= policy.max_age_interval else None


def stated_age(result: StudyResult | None, policy: PolicySettings) -> AgeEstimate | None:
    """The age that the network states of a study, None where a gate or the policy forbids it."""
    if result is None or result.outcome is not Outcome.ESTIMATED or result.age is None:
        return None
    low, high = result.age.interval90
    return result.age if high - low <= policy.max_age_interval else None


def stated_sex(result: StudyResult | None, policy: PolicySettings) -> SexEstimate | None:
    """The same for sex."""
    if result is None or result.outcome is not Outcome.ESTIMATED or result.sex is None:
        return None
    return result.sex if result.sex.certainty >= policy.min_sex_certainty else None


def _probability(sex: str, estimate: SexEstimate) -> float:
    female = estimate.probability_female
    return min(1.0, max(female if sex == "F" else 1 - female, SMALLEST_P))


def together(age_p: float | None, sex_p: float | None) -> float:
    """One p-value of both after Fisher: errors in age and in sex have little to do with another."""
    if age_p is None or sex_p is None:
        return next((p for p in (age_p, sex_p) if p is not None), 1.0)
    evidence = -math.log(age_p) - math.log(sex_p)
    return min(1.0, math.exp(-evidence) * (1 + evidence))


def _share_right(p_values: Sequence[float]) -> float:
    """Storey's (2002) estimate of the share of right headers: p-values over 1/2 are theirs."""
    if not p_values:
        return 1.0
    above = sum(p > _HALF for p in p_values)
    return min(1.0, (1 + above) / (len(p_values) * (1 - _HALF)))
