"""Two bundles on the same studies: which did better, and whether that can be told.

Differences are paired: a hard study is hard for both, and only what differs between them counts.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import variance

from dicom_ai_node.monitor.figures import Z95, mean
from dicom_ai_node.monitor.observation import Observation, once_a_week

NOMINAL = 0.9
Pair = tuple[Observation, Observation]
"""The live bundle's and the shadow bundle's observation of one study."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One quantity of both bundles on the same studies."""

    quantity: str
    n: int
    live: float
    shadow: float
    difference: float
    """Shadow minus live."""
    low: float | None
    """95 % interval of the difference; None where too few persons are left to say."""
    high: float | None
    better: str = ""
    """``live`` or ``shadow`` when the interval leaves out 0, else ''."""


def compare(live: Iterable[Observation], shadow: Iterable[Observation]) -> list[Difference]:
    """Return the paired differences between two bundles' observations, less what has no study.

    Age and sex are compared on studies that both answered and whose recorded value is trusted, the
    gates on all that both saw. A person counts once a week.
    """
    others = {one.study_instance_uid: one for one in shadow}
    pairs = [
        (one, others[one.study_instance_uid])
        for one in once_a_week(live)
        if one.study_instance_uid in others
    ]
    aged = [pair for pair in pairs if all(one.error is not None for one in pair)]
    sexed = [pair for pair in pairs if all(one.right is not None for one in pair)]
    seen = [pair for pair in pairs if all(one.seen for one in pair)]
    found = (
        _mean_difference("age MAE, years", aged, lambda one: abs(one.error or 0.0), _smaller),
        _mean_difference("coverage of 90 % intervals", aged, lambda one: float(bool(one.covered)),
                         _nearer_to_nominal),
        _mean_difference("width of 90 % intervals, years", aged, _width, _smaller),
        _mean_difference("sex accuracy", sexed, lambda one: float(bool(one.right)), _larger),
        _area_difference(sexed),
        _mean_difference("refused by a gate", seen, lambda one: float(one.gated), None),
    )  # fmt: skip
    return [one for one in found if one is not None]


def verdict(found: Sequence[Difference]) -> str:
    """Say in plain words what the differences show."""
    if not found:
        return "no study that both bundles saw and whose header can be trusted"
    n = max(one.n for one in found)
    sentences = []
    for bundle in ("shadow", "live"):
        ahead = [f"{one.quantity} ({_interval(one)})" for one in found if one.better == bundle]
        if ahead:
            sentences.append(f"the {bundle} bundle did better in {'; '.join(ahead)}")
    even = [one.quantity for one in found if not one.better and _tells_nothing(one)]
    if even:
        sentences.append(f"no difference that these {n} studies can show in {'; '.join(even)}")
    refusals = next((one for one in found if one.quantity == "refused by a gate"), None)
    if refusals is not None and not _tells_nothing(refusals):
        more = "shadow" if refusals.difference > 0 else "live"
        sentences.append(f"the gates of the {more} bundle refuse more ({_interval(refusals)})")
    return ". ".join(one[0].upper() + one[1:] for one in sentences) + "."


def _interval(one: Difference) -> str:
    if one.low is None or one.high is None:
        return f"by {one.difference:+.3g}"
    return f"by {one.difference:+.3g}, 95 % interval {one.low:+.3g} to {one.high:+.3g}"


def _tells_nothing(one: Difference) -> bool:
    return one.low is None or one.high is None or one.low <= 0 <= one.high


Judge = Callable[[float, float], bool]
"""Whether the second of two figures is better than the first."""


def _smaller(live: float, shadow: float) -> bool:
    return shadow < live


def _larger(live: float, shadow: float) -> bool:
    return shadow > live


def _nearer_to_nominal(live: float, shadow: float) -> bool:
    return abs(shadow - NOMINAL) < abs(live - NOMINAL)


def _width(one: Observation) -> float:
    return (one.high90 or 0.0) - (one.low90 or 0.0)


def _mean_difference(
    quantity: str, pairs: Sequence[Pair], of: Callable[[Observation], float], judge: Judge | None
) -> Difference | None:
    if not pairs:
        return None
    live, shadow = ([of(one) for one in side] for side in zip(*pairs, strict=True))
    persons = [one.person for one, _ in pairs]
    figure = mean([b - a for a, b in zip(live, shadow, strict=True)], persons)
    means = (math.fsum(live) / len(live), math.fsum(shadow) / len(shadow))
    return _judged(quantity, len(pairs), *means, figure.low, figure.high, judge)


def _judged(
    quantity: str,
    n: int,
    live: float,
    shadow: float,
    low: float | None,
    high: float | None,
    judge: Judge | None,
) -> Difference:
    found = Difference(quantity, n, live, shadow, shadow - live, low, high)
    if judge is None or _tells_nothing(found):
        return found
    better = "shadow" if judge(live, shadow) else "live"
    return Difference(quantity, n, live, shadow, shadow - live, low, high, better)


def _area_difference(pairs: Sequence[Pair]) -> Difference | None:
    """Areas under the ROC curves of the sex (DeLong 1988, Biometrics 44:837)."""
    female = [pair for pair in pairs if pair[0].sex == "F"]
    male = [pair for pair in pairs if pair[0].sex == "M"]
    if len(female) < 3 or len(male) < 3:
        return None
    sides = []
    for side in (0, 1):
        ups = [pair[side].probability_female or 0.0 for pair in female]
        downs = [pair[side].probability_female or 0.0 for pair in male]
        sides.append((_won(ups, downs), [1 - one for one in _won(downs, ups)]))
    live, shadow = (math.fsum(ups) / len(ups) for ups, _ in sides)
    spread = math.fsum(
        variance([b - a for a, b in zip(sides[0][part], sides[1][part], strict=True)])
        / len(sides[0][part])
        for part in (0, 1)
    )
    half = Z95 * math.sqrt(spread)
    low, high = shadow - live - half, shadow - live + half
    return _judged("sex AUC", len(pairs), live, shadow, low, high, _larger)


def _won(scores: Sequence[float], others: Sequence[float]) -> list[float]:
    """Share of ``others`` that each of ``scores`` is above, ties counted half."""
    ranked = sorted(others)
    return [
        (bisect_left(ranked, score) + bisect_right(ranked, score)) / (2 * len(ranked))
        for score in scores
    ]
