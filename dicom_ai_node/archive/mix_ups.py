"""Image against header over a whole batch: H1 to H3, and the alerts that a site can afford.

One study at a time, a threshold that is right for 1 in 1000 mix-ups is not right for 1 in 100. Over
a batch the share of false ones among the conflicts can be held instead (Benjamini and Hochberg).

- H1: the recorded age is improbable, H2: the recorded sex is (:mod:`.comparisons`).
- H3: two of age, sex and chest speak against the record, and are improbable together; or age or
  sex is found and the patient's other studies contradict the record too; or the chest is unlike
  those of the patient's other studies, where chests are compared (``model.compare_chests``).

Tested are only attributes of whose value the header itself says nothing bad. Where H1 is disabled,
ages are not tested at all, and so make no H3 either; where H2 is, sexes. A further attribute is
tested where it gets an entry in :data:`COMPARISONS`.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dicom_ai_node.answers import Outcome, Reason
from dicom_ai_node.archive.comparisons import (
    COMPARISONS,
    WORTH_A_LOOK,
    Tested,
    compared_chests,
)
from dicom_ai_node.archive.member import Member
from dicom_ai_node.archive.statistics import (
    benjamini_hochberg,
    fisher_combined,
    storey_null_share,
)
from dicom_ai_node.config.stages import PolicySettings
from dicom_ai_node.decide.body_part import held_against_body_part
from dicom_ai_node.decide.conflicts import (
    Contradiction,
    contradicted,
    not_assessable,
    said_of_chest,
)
from dicom_ai_node.decide.images import OUTSIDE_TRAINING
from dicom_ai_node.likeness import Likeness
from dicom_ai_node.rules.attributes import AGE
from dicom_ai_node.types import HeaderCheck

_OTHER_STUDIES = frozenset({"G1", "G3", "G4", "G5"})
"""Rules that say that the patient's other studies contradict this one."""
_MIX_UPS_FIRST = 100.0
"""Larger than any score: likely mix-ups come before everything else."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Image against header (group H) for one study; attributes by DICOM keyword."""

    probable: Mapping[str, float] = field(default_factory=dict, hash=False)
    """How probable what is recorded is, as :class:`Tested` has it; only of what is compared."""
    found: tuple[str, ...] = ()
    """H1, H2: what was rejected with the false discovery rate held over the batch."""
    mix_up: bool = False
    """H3: two of them, or one with a contradiction to the patient's other studies, or the chest."""
    score: float = 0.0
    """-log10 of the p-value of all together, 100 more for a mix-up; 0 where nothing is wrong."""
    likeness: Likeness | None = None
    """How the chest looks beside those of the patient's other studies, where that is known."""
    alert: bool = False
    """Within the alert budget (or found, where there is no budget)."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a batch says of its studies, and of itself."""

    suspicions: Mapping[str, Suspicion]
    """Of every study, by key."""
    tested: Mapping[str, Tested]
    """By the DICOM keyword of the attribute."""
    threshold: float | None
    """Smallest score that alerts, None when nothing does."""
    expected_ppv: float | None
    prevalence: float | None
    """Share of tested studies that are expected to be found rightly: a lower bound of the share
    of wrong ones, since not every wrong one can be told. None when nothing was tested."""


def judge_batch(
    members: Sequence[Member],
    *,
    false_discovery_rate: float,
    budget: int | None,
    policy: PolicySettings,
    disabled: Collection[str] = (),
) -> Batch:
    """Hold each image against its header. ``budget`` alerts at most; None: what is found alerts.

    ``disabled`` holds the ids of rules that find nothing.

    Keys are unique. The answer does not depend on the order of ``members``.
    """
    members = sorted(members, key=lambda member: member.key)
    tested = {
        keyword: comparison.test(members, policy)
        for keyword, comparison in COMPARISONS.items()
        if comparison.rule not in disabled
    }
    likenesses, unlike = compared_chests(members) if "H3" not in disabled else ({}, {})
    p_values = [*(test.p_values for test in tested.values()), unlike]
    together = {
        key: fisher_combined([p[key] for p in p_values if key in p])
        for key in sorted(frozenset().union(*p_values))
    }
    pairs = {
        key
        for key in together
        if "H3" not in disabled and sum(p.get(key, 1.0) < WORTH_A_LOOK for p in p_values) >= 2
    }
    found = {
        keyword: _found(test.p_values, false_discovery_rate) for keyword, test in tested.items()
    }
    # All that were tested count, those too whose age or sex alone says that they are no pair.
    found_pairs = _found(together, false_discovery_rate) & pairs
    found_unlike = _found(unlike, false_discovery_rate)
    suspicions = {
        member.key: _suspicion(
            member,
            {
                name: test.probable[member.key]
                for name, test in tested.items()
                if member.key in test.probable
            },
            tuple(keyword for keyword, rejected in found.items() if member.key in rejected),
            mix_up=member.key in found_pairs | found_unlike,
            likeness=likenesses.get(member.key),
            p=together.get(member.key, 1.0),
            mix_ups="H3" not in disabled,
        )
        for member in members
    }
    families = [
        *zip(p_values, [*found.values(), found_unlike], strict=True),
        (together, found_pairs),
    ]
    conflicts = sorted(frozenset().union(*(rejected for _, rejected in families)))
    candidates = conflicts if budget is None else together
    ranked = sorted(candidates, key=lambda key: (-suspicions[key].score, key))
    alerts = [key for key in ranked if suspicions[key].score > 0][:budget]
    tested_right = storey_null_share(list(together.values())) * len(together)
    # A right header is found by its age, by its sex, or by both.
    by_chance = sum(max((p[key] for key in rejected), default=0.0) for p, rejected in families)
    right = len(frozenset(alerts).intersection(conflicts)) - tested_right * by_chance
    if budget is not None:
        last = max((together[key] for key in alerts), default=0.0)
        right = max(right, len(alerts) - tested_right * last)
    return Batch(
        suspicions={**suspicions, **{key: replace(suspicions[key], alert=True) for key in alerts}},
        tested=tested,
        threshold=min((suspicions[key].score for key in alerts), default=None),
        expected_ppv=max(0.0, right) / len(alerts) if alerts else None,
        prevalence=(1 - false_discovery_rate) * len(conflicts) / len(together)
        if together
        else None,
    )


def _found(p_values: Mapping[str, float], rate: float) -> frozenset[str]:
    rejected = benjamini_hochberg(list(p_values.values()), rate)
    return frozenset(key for key, found in zip(p_values, rejected, strict=True) if found)


def _suspicion(
    member: Member,
    probable: Mapping[str, float],
    found: tuple[str, ...],
    *,
    mix_up: bool,
    likeness: Likeness | None,
    p: float,
    mix_ups: bool,
) -> Suspicion:
    contradicted = not _OTHER_STUDIES.isdisjoint(member.check.rules)
    mix_up = mix_ups and (mix_up or len(found) + contradicted >= 2)
    suspicious = found or mix_up or p < WORTH_A_LOOK
    score = _MIX_UPS_FIRST * mix_up - math.log10(p) if suspicious else 0.0
    return Suspicion(probable, found, mix_up, score, likeness)


def with_findings(
    member: Member, batch: Batch, policy: PolicySettings, disabled: Collection[str] = ()
) -> HeaderCheck:
    """The check of a study with H1 to H4 as the batch found them, J6, and CONFLICT_IMAGE.

    J6 is found in each study by itself, by the probability that ``policy`` sets: images show a
    part of the body or they do not, whatever those of other studies show, and no mix-up follows.
    ``disabled`` are the rules that the batch was judged without.
    """
    suspicion = batch.suspicions[member.key]
    check = contradicted(member.check, _contradictions(member.key, suspicion, batch.tested))
    result = member.result
    if result is not None:
        check = held_against_body_part(check, result.parts, policy, disabled)
    if result is None or result.outcome not in {Outcome.ABSTAINED, Outcome.REFUSED}:
        return check
    reason = result.reason or Reason("unknown", "no reason was given")
    if reason.code == OUTSIDE_TRAINING and AGE in suspicion.found:
        return check  # the recorded age that forbade an answer is the one that is contradicted
    return not_assessable(check, reason, disabled)


def _contradictions(
    key: str, suspicion: Suspicion, tested: Mapping[str, Tested]
) -> Iterator[Contradiction]:
    probable = suspicion.probable
    for keyword in suspicion.found:
        comparison, estimate = COMPARISONS[keyword], tested[keyword].estimates[key]
        words = comparison.found(probable[keyword], estimate)
        yield Contradiction(comparison.rule, f": {words}", (keyword,))
    if suspicion.mix_up:
        odds = [f"{COMPARISONS[keyword].words} {p:.2g}" for keyword, p in probable.items()]
        against = (name for name, p in probable.items() if p < COMPARISONS[name].doubtful)
        odds += [said_of_chest(suspicion.likeness)] if suspicion.likeness else []
        said = f" ({', '.join(odds)})" if odds else ""
        yield Contradiction("H3", f": possible mix-up of studies{said}", tuple(against))
