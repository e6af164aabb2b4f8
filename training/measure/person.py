"""How well embeddings tell people apart, and how well mix-ups are ranked with them. Pure.

Pairs of one patient are held against pairs of two. An impostor is an image of the same view and the
same kind of source as the one it stands for, so that neither gives it away; a *hard* one has the
patient's sex and age within five years, too. No patient counts for more than ten pairs. Intervals
are 95 %, from resampling patients.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from dicom_ai_node.answers import ImageRef, Prediction
from dicom_ai_node.archive.member import Collected, Member
from dicom_ai_node.archive.mix_ups import judge_batch
from dicom_ai_node.config.stages import PolicySettings
from dicom_ai_node.decide.images import Gates, judge
from dicom_ai_node.decide.study import combine, decide
from dicom_ai_node.likeness import Embedding
from dicom_ai_node.types import AttributeStatus, CheckedAttribute, HeaderCheck
from training.measure.metrics import Estimate, resamples

Floats = NDArray[np.float64]
Pairs = NDArray[np.int64]
PAIRS_A_PATIENT = 10
IMPOSTORS = 5
"""For each image of a pair."""
YEARS = 5.0
_RESAMPLES = 200


@dataclass(frozen=True, slots=True)
class Person:
    """One image of somebody who has several."""

    patient: str
    view: str
    sex: str
    age: float
    """Years, NaN where it is not known."""
    source: str
    """What impostors share: the kind of source, such as ``nih 128``."""


def paired(people: Sequence[Person], *, hard: bool, seed: int = 1) -> tuple[Pairs, Pairs]:
    """Return pairs of positions, shape (P, 2): of one patient each, and of two."""
    rng = np.random.default_rng(seed)
    same: list[tuple[int, int]] = []
    for own in _by_patient(people).values():
        pairs = [(a, b) for at, a in enumerate(own) for b in own[:at]]
        chosen = rng.permutation(len(pairs))[:PAIRS_A_PATIENT]
        same += [pairs[at] for at in chosen]
    other: list[tuple[int, int]] = []
    patients = np.array([one.patient for one in people])
    kinds = np.array([f"{one.source}/{one.view}" for one in people])
    sexes, ages = np.array([one.sex for one in people]), np.array([one.age for one in people])
    for pair in same:
        for anchor, stands_for in (pair, pair[::-1]):
            fits = (kinds == kinds[stands_for]) & (patients != patients[anchor])
            if hard:
                fits &= (sexes == sexes[anchor]) & (abs(ages - ages[anchor]) <= YEARS)
            found = np.flatnonzero(fits)
            other += [(anchor, int(at)) for at in rng.permutation(found)[:IMPOSTORS]]
    one, two = (np.array(pairs, np.int64).reshape(-1, 2) for pairs in (same, other))
    return one, two


def similarities(embeddings: NDArray[np.float32], pairs: Pairs) -> Floats:
    """Cosines of the pairs."""
    return np.asarray((embeddings[pairs[:, 0]] * embeddings[pairs[:, 1]]).sum(axis=1), np.float64)


def equal_error_rate(same: Floats, other: Floats, weights: tuple[Floats, Floats]) -> float:
    """Error rate at the threshold where as many of the same are missed as others are taken."""
    order = np.argsort(-np.concatenate([same, other]), kind="stable")
    is_same = (np.arange(len(order)) < len(same))[order]
    weight = np.concatenate(weights)[order]
    hit = np.cumsum(weight * is_same) / weights[0].sum()
    false = np.cumsum(weight * ~is_same) / weights[1].sum()
    at = int(np.argmin(abs(1 - hit - false)))
    return float((1 - hit[at] + false[at]) / 2)


def eer(
    people: Sequence[Person], embeddings: NDArray[np.float32], same: Pairs, other: Pairs
) -> Estimate:
    """Equal error rate of the pairs, with its interval."""
    values = similarities(embeddings, same), similarities(embeddings, other)
    times = resamples([one.patient for one in people], count=_RESAMPLES)
    found = []
    for drawn in times:
        weights = drawn[same[:, 0]], drawn[other[:, 0]] * drawn[other[:, 1]]
        if weights[0].sum() and weights[1].sum():
            found.append(equal_error_rate(*values, weights))
    whole = equal_error_rate(*values, (np.ones(len(same)), np.ones(len(other))))
    low, high = np.percentile(found, [2.5, 97.5])
    return Estimate(whole, float(low), float(high))


@dataclass(frozen=True, slots=True)
class Ranked:
    """How well planted mix-ups are ranked, and the middle 95 % over the plantings."""

    auc: Estimate
    precision: Estimate
    """Of as many of the first as were planted."""


def ranked(
    people: Sequence[Person],
    predictions: Sequence[Prediction],
    chests: Sequence[Embedding],
    gates: Gates,
    *,
    share: float,
    alike: bool,
    draws: int = 20,
) -> tuple[Ranked, Ranked]:
    """Swap headers of a ``share`` of the studies; rank by age and sex alone, and with the chest.

    Each image is a study. ``alike``: only between patients of one sex, with ages within five years.
    """
    found: list[list[tuple[float, float]]] = [[], []]
    for draw in range(draws):
        headers = list(_swapped(people, share, alike, np.random.default_rng(draw)))
        wrong = np.array([a != b for a, b in enumerate(headers)])
        members = [
            _member(at, people[header], predictions[at], chests[at], gates)
            for at, header in enumerate(headers)
        ]
        bare = [replace(one, study=replace(one.study, chest=None)) for one in members]
        for scores, batch in zip(found, (bare, members), strict=True):
            judged = judge_batch(
                batch, false_discovery_rate=0.1, budget=None, policy=PolicySettings()
            )
            score = np.array([judged.suspicions[one.key].score for one in batch])
            scores.append((_auc(score, wrong), _precision(score, wrong)))
    before, after = (np.array(scores) for scores in found)
    return _ranked(before), _ranked(after)


def _ranked(found: Floats) -> Ranked:
    low, high = np.percentile(found, [2.5, 97.5], axis=0)
    auc, precision = (
        Estimate(float(mean), float(least), float(most))
        for mean, least, most in zip(found.mean(axis=0), low, high, strict=True)
    )
    return Ranked(auc, precision)


def _auc(score: Floats, wrong: NDArray[np.bool_]) -> float:
    ranks, count = rankdata(score), int(wrong.sum())
    return float((ranks[wrong].sum() - count * (count + 1) / 2) / (count * (~wrong).sum()))


def _precision(score: Floats, wrong: NDArray[np.bool_]) -> float:
    first = np.lexsort((np.arange(len(score)), -score))[: int(wrong.sum())]
    return float(wrong[first].mean())


def _swapped(
    people: Sequence[Person], share: float, alike: bool, rng: np.random.Generator
) -> Iterator[int]:
    """Yield for each study whose header it has."""
    headers = list(range(len(people)))
    wanted, swapped = round(share * len(people)), set[int]()
    for a in rng.permutation(len(people)).tolist():
        if len(swapped) >= wanted:
            break
        b = int(rng.integers(len(people)))
        one, other = people[a], people[b]
        near = one.sex == other.sex and abs(one.age - other.age) <= YEARS
        if one.patient != other.patient and (near or not alike) and not {a, b} & swapped:
            headers[a], headers[b] = b, a
            swapped |= {a, b}
    yield from headers


def _member(
    at: int, header: Person, prediction: Prediction, chest: Embedding, gates: Gates
) -> Member:
    age = CheckedAttribute("age", "", AttributeStatus.CONSISTENT, header.age)
    sex = CheckedAttribute("sex", header.sex, AttributeStatus.CONSISTENT, header.sex)
    check = HeaderCheck({"PatientAge": age, "PatientSex": sex})
    policy = PolicySettings()
    said = decide(
        check,
        [judge(ImageRef("", str(at), ""), prediction, gates)],
        heads=tuple(prediction.answers),
        model=None,
        ages=gates.ages,
        policy=policy,
    )
    result = combine(str(at), check, [said], policy=policy)
    key = f"{at:06d}"
    return Member(Collected(key, None, result, chest=chest), check, patient=header.patient)


def _by_patient(people: Sequence[Person]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for at, one in enumerate(people):
        found.setdefault(one.patient, []).append(at)
    return found
