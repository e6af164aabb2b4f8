"""Two bundles on the same studies: which did better, and whether that can be told.

Differences are paired: a hard study is hard for both, and only what differs between them counts.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import variance

from dicom_ai_node.monitor.figures import Z95, mean
from dicom_ai_node.monitor.measures import (
    REFUSED,
    Judge,
    answer_of,
    labelled,
    larger,
    measures_of,
    recorded_of,
    right,
    smaller,
    spoken,
    unit_of,
    unless_age,
)
from dicom_ai_node.monitor.observation import Observation, ObservedHead, once_a_week

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

    A head is compared on studies that both bundles answered and whose recorded value is trusted,
    findings on all that both answered, the gates on all that both saw. A person counts once a week.
    """
    others = {one.study_uid: one for one in shadow}
    pairs = [(one, others[one.study_uid]) for one in once_a_week(live) if one.study_uid in others]
    heads = pairs[-1][0].heads if pairs else {}
    found = [each for name, head in heads.items() for each in _of_head(name, head, pairs)]
    found.append(_mean_difference(REFUSED.compared, pairs, REFUSED.value, REFUSED.judge))
    return [one for one in found if one is not None]


def _of_head(name: str, head: ObservedHead, pairs: Sequence[Pair]) -> Iterator[Difference | None]:
    for measure in measures_of(name, head):
        if measure.compared:
            yield _mean_difference(measure.compared, pairs, measure.value, measure.judge)
    if head.kind == "quantity":
        front = unless_age(name, f"{spoken(name)} ")
        width = f"{front}width of 90 % intervals, {unit_of(head)}"
        yield _mean_difference(width, pairs, partial(_width, head=name), smaller)
    elif len(head.values) == 2 and head.kind == "category":
        yield _area_difference(name, head.values[0], pairs)


def _width(one: Observation, head: str) -> float | None:
    known = labelled(one, head)
    return None if known is None else known[0]["high90"] - known[0]["low90"]


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
    for one in found:
        if not one.better and not _tells_nothing(one):  # neither figure is the better one
            more, by = "shadow" if one.difference > 0 else "live", _interval(one)
            sentences.append(
                f"the gates of the {more} bundle refuse more ({by})"
                if one.quantity == REFUSED.compared
                else f"the {more} bundle has more studies with {one.quantity} ({by})"
            )
    return ". ".join(one[0].upper() + one[1:] for one in sentences) + "."


def _interval(one: Difference) -> str:
    if one.low is None or one.high is None:
        return f"by {one.difference:+.3g}"
    return f"by {one.difference:+.3g}, 95 % interval {one.low:+.3g} to {one.high:+.3g}"


def _tells_nothing(one: Difference) -> bool:
    return one.low is None or one.high is None or one.low <= 0 <= one.high


def _mean_difference(
    quantity: str,
    pairs: Sequence[Pair],
    value: Callable[[Observation], float | None],
    judge: Judge | None,
) -> Difference | None:
    known = [
        (a, b, one.person)
        for one, other in pairs
        if (a := value(one)) is not None and (b := value(other)) is not None
    ]
    if not known:
        return None
    live, shadow, persons = zip(*known, strict=True)
    figure = mean([b - a for a, b in zip(live, shadow, strict=True)], persons)
    means = (math.fsum(live) / len(live), math.fsum(shadow) / len(shadow))
    return _judged(quantity, len(known), means, (figure.low, figure.high), judge)


def _judged(
    quantity: str,
    n: int,
    means: tuple[float, float],
    ends: tuple[float | None, float | None],
    judge: Judge | None,
) -> Difference:
    live, shadow = means
    found = Difference(quantity, n, live, shadow, shadow - live, *ends)
    if judge is None or _tells_nothing(found):
        return found
    return replace(found, better="shadow" if judge(live, shadow) else "live")


def _area_difference(head: str, first: str, pairs: Sequence[Pair]) -> Difference | None:
    """Areas under the ROC curves of a category of two values (DeLong 1988, Biometrics 44:837)."""
    known = [pair for pair in pairs if all(right(one, head) is not None for one in pair)]
    ups = [pair for pair in known if recorded_of(pair[0], head) == first]
    downs = [pair for pair in known if recorded_of(pair[0], head) != first]
    if len(ups) < 3 or len(downs) < 3:
        return None
    sides = []
    for side in (0, 1):
        above, below = (
            [answer_of(pair[side], head, "category")[first] for pair in part]
            for part in (ups, downs)
        )
        sides.append((_won(above, below), [1 - one for one in _won(below, above)]))
    live, shadow = (math.fsum(above) / len(above) for above, _ in sides)
    spread = math.fsum(
        variance([b - a for a, b in zip(sides[0][part], sides[1][part], strict=True)])
        / len(sides[0][part])
        for part in (0, 1)
    )
    half = Z95 * math.sqrt(spread)
    ends = (shadow - live - half, shadow - live + half)
    return _judged(f"{spoken(head)} AUC", len(known), (live, shadow), ends, larger)


def _won(scores: Sequence[float], others: Sequence[float]) -> list[float]:
    """Share of ``others`` that each of ``scores`` is above, ties counted half."""
    ranked = sorted(others)
    return [
        (bisect_left(ranked, score) + bisect_right(ranked, score)) / (2 * len(ranked))
        for score in scores
    ]
