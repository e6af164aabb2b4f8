"""The statistics of an archive, without tables and without a further library.

P-values for H1 and H2: how probable a record is, given its image, when nothing is wrong with it.

Age. The interval of a study says where 90 % of recorded ages lie, above and below apart. Beyond its
ends nothing was fitted, and a p-value needs the tails. They are taken to be those of Student's t
with 7 degrees of freedom. The shipped calibration's intervals of 80, 90 and 95 % are as 0.755 : 1 :
1.238; a t7's are as 0.747 : 1 : 1.248, a normal's as 0.779 : 1 : 1.192. So a t7 is a little
heavier than what was measured, as it should be: a few hundred images show nothing beyond 99 %. A
normal tail would call an error of three half-widths one in a million, and many of the sick mix-ups.

Beyond the ages that the network was trained on nothing was calibrated. There the nearest trained
age is compared instead of the recorded one, on its own side: a right record of 92 looks at least as
old as 80, so that its p-value is no smaller than that of a right record of 80. The two-sided tail
is kept, which doubles it once more. How often that errs is in docs/decisions/0012.

Sex. The probability p of the recorded sex is a p-value as it is: of an image that shows the other
sex with probability m <= 1/2, the right record has p = m in m of all cases and else p = 1 - m, so
that P(p <= t) is at most t, whatever images were chosen by their certainty. It is far less for a
certain network: P(p <= t) is the mean over all images of m where m <= t, and that is what is held
against the false discovery rate. On average over the batch it is exact if p is calibrated.

Both are measured on the batch itself where it is large enough: a site's errors are its own.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median

from dicom_ai_node.answers import Quantity

_NORMAL_95 = 1.959964
"""97.5 % quantile of the normal distribution: the end of its central 95 %."""
_T7_95 = 1.894579
"""95 % quantile of t7: the end of its central 90 %."""
_T7_90 = 1.414924
"""90 % quantile of t7: the end of its central 80 %."""
_NARROWEST = 1.0
"""Half-width in years that an interval has at least: recorded ages are whole years, and an end
that was cut at 0 years says nothing of the errors on that side."""
_ENOUGH = 200
"""Fewer studies do not tell a site's own error distribution."""
_ENOUGH_ERRORS = 5.0
_SMALLEST_SCALE = 0.5
_HALF = 0.5
_DOUBTFUL = 0.05
SMALLEST_P = 1e-12


@dataclass(frozen=True, slots=True)
class Spread:
    """A batch's own errors in units of the calibrated ones; 0 and 1 is 'as calibrated'."""

    centre: float = 0.0
    scale: float = 1.0


def hypergeometric_tail(found: int, drawn: int, marked: int, total: int) -> float:
    """Probability of ``found`` or more marked ones among ``drawn`` of ``total``.

    ``marked`` of all are. Fisher's exact test, one-sided (the upper tail of the hypergeometric
    distribution): a group of studies against the rest of the archive, valid for any count.
    """
    most = min(drawn, marked)
    if found <= max(0, drawn + marked - total):
        return 1.0
    tail = 0.0
    for count in range(found, most + 1):
        term = math.exp(
            _log_choose(marked, count)
            + _log_choose(total - marked, drawn - count)
            - _log_choose(total, drawn)
        )
        tail += term
        # Beyond the mode terms fall faster than geometrically.
        if term < 1e-18 * tail:
            break
    return min(1.0, tail)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def benjamini_hochberg(p_values: Sequence[float], rate: float) -> list[bool]:
    """Which of ``p_values`` are rejected with the false discovery rate held at ``rate``.

    Benjamini and Hochberg (1995): the k smallest, k being the last with p(k) <= k / n * rate. Holds
    for independent p-values and for positively dependent ones (Benjamini and Yekutieli 2001).
    """
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    last = max(
        (k for k, at in enumerate(order, 1) if p_values[at] <= k / len(order) * rate), default=0
    )
    rejected = set(order[:last])
    return [at in rejected for at in range(len(p_values))]


def wilson_interval(found: int, total: int) -> tuple[float, float]:
    """95 % interval of found / total after Wilson (1927), (0, 1) of nothing."""
    if total == 0:
        return 0.0, 1.0
    share, z2 = found / total, _NORMAL_95**2
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    spread = math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    half = _NORMAL_95 * spread / (1 + z2 / total)
    # At 0 and 1 the ends are exact, and rounding must not step over them.
    return (
        0.0 if found == 0 else max(0.0, middle - half),
        1.0 if found == total else min(1.0, middle + half),
    )


def fisher_combined(p_values: Sequence[float]) -> float:
    """One p-value of all after Fisher: errors in age and in sex have little to do with another."""
    if len(p_values) < 2:
        return p_values[0] if p_values else 1.0
    evidence = -sum(map(math.log, p_values))
    series = sum(evidence**k / math.factorial(k) for k in range(len(p_values)))
    return min(1.0, math.exp(-evidence) * series)


def storey_null_share(p_values: Sequence[float]) -> float:
    """Storey's (2002) estimate of the share of right headers: p-values over 1/2 are theirs."""
    if not p_values:
        return 1.0
    above = sum(p > _HALF for p in p_values)
    return min(1.0, (1 + above) / (len(p_values) * (1 - _HALF)))


def deviation(recorded: float, estimate: Quantity) -> float:
    """How far a recorded age in years lies from the estimate: +-1.895 at the interval's ends."""
    low, high = estimate.interval90
    half = high - estimate.mu if recorded > estimate.mu else estimate.mu - low
    return _T7_95 * (recorded - estimate.mu) / max(half, _NARROWEST)


def observed_spread(deviations: Sequence[float]) -> Spread:
    """The errors of this site: the median, and the range that holds 80 % of what is around it.

    Neither is moved by some wrong headers among them. As calibrated for fewer than 200.
    """
    if len(deviations) < _ENOUGH:
        return Spread()
    centre = median(deviations)
    around = sorted(abs(deviation - centre) for deviation in deviations)
    return Spread(centre, max(_SMALLEST_SCALE, around[math.ceil(0.8 * len(around)) - 1] / _T7_90))


def age_p_value(deviation: float, spread: Spread, side: int = 0) -> float:
    """Two-sided p-value of a deviation: Student's t with 7 degrees of freedom, in closed form.

    ``side`` is that of :func:`beyond`. An age beyond the trained ones is compared as the nearest of
    them, and counts on its own side only: on the other the p-value is 1.
    """
    if side * (deviation - spread.centre) < 0:
        return 1.0
    angle = math.atan(abs(deviation - spread.centre) / spread.scale / math.sqrt(7))
    cosine2 = math.cos(angle) ** 2
    series = 1 + 2 / 3 * cosine2 * (1 + 4 / 5 * cosine2)
    within = angle + math.sin(angle) * math.cos(angle) * series
    return min(1.0, max(1 - 2 / math.pi * within, SMALLEST_P))


def sex_p_values(recorded: Sequence[float]) -> list[float]:
    """P-value of each record of a batch, given the calibrated probabilities of the recorded sexes.

    Where records are less often right than the network is sure in the doubtful range, in which
    mix-ups are lost among its errors, all p-values grow by as much: it is too sure of itself here.
    """
    # The certainty of an image is the same whether its record is right or wrong.
    doubts = sorted(min(p, 1 - p) for p in recorded)
    sums = [0.0, *accumulate(doubts)]
    total = len(doubts)
    factor = _overconfidence(recorded, doubts)

    def chance(p: float) -> float:
        below = sums[bisect_right(doubts, p)]
        if p >= _HALF:  # The more probable sex: all with m <= 1/2, and those as sure as 1 - m <= p.
            sure = bisect_left(doubts, 1 - p)
            below += (total - sure) - (sums[-1] - sums[sure])
        return min(1.0, max(factor * below / total, SMALLEST_P))

    return [chance(p) for p in recorded]


def _overconfidence(recorded: Sequence[float], doubts: Sequence[float]) -> float:
    """How many times more often than expected the doubtful records are wrong, at least 1."""
    expected = sum(m for m in doubts if m >= _DOUBTFUL)
    wrong = sum(_DOUBTFUL <= p < _HALF for p in recorded)
    if len(doubts) < _ENOUGH or expected < _ENOUGH_ERRORS:
        return 1.0
    return max(1.0, wrong / expected)
