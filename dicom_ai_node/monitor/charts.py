"""Drift: control charts of a bundle's weeks against its own first weeks on this site.

A chart has one point for a week, or for as many weeks as it takes to reach ``min_studies``. All
charts of a bundle share the rate of false alarms evenly: each point is flagged with a chance of at
most ``1 / (charts * false_alarm_weeks)`` while nothing changes, so that the average run between
false alarms of all charts together is no shorter than ``false_alarm_weeks`` points.

Limits say how far a figure of ``n`` studies strays while nothing changes. The reference is an
estimate itself, and they allow for that. Shares have the exact limits of the beta-binomial
distribution: binomial for a probability of which the reference, with Jeffreys' prior, is all that
is known. The mean absolute error has the limit of a gamma distribution, since absolute errors lean
to the right; the bias has symmetric ones. Both are as wide as Student's t with few degrees of
freedom asks for: errors have heavier tails than the normal distribution, and the reference then
understates their spread. Only what harms raises a flag: fewer recorded values covered, fewer right,
more refusals, a larger error, a bias to either side; and what nothing is held against, findings
that become more or fewer.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from dicom_ai_node.config.stages import MonitorSettings
from dicom_ai_node.monitor.figures import student
from dicom_ai_node.monitor.measures import REFUSED, Harm, Measure
from dicom_ai_node.monitor.observation import (
    Observation,
    once_a_week,
    week_begin,
    week_name,
    week_of,
)

_FREEDOM = 40
"""Keeps the stated rate where errors follow Student's t of 6 degrees of freedom, whose tails are
heavier than the shipped bundle's, and eight weeks of 60 studies are the reference."""
_NOWHERE = 1e-9  # in the unit of the measure: limits of errors that do not vary at all
_TIMES_REFERENCE = 4
"""The reference of a chart must hold so many times the studies of a point."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums of a measure over studies: all that a chart needs of them, and nothing of any one."""

    n: int = 0
    total: float = 0
    squares: float = 0

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(self.n + other.n, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> float:
        """There must be a study."""
        return self.total / self.n


Tally = Mapping[str, Sums]
"""By the name of the measure."""
_NONE = Sums()


def limits(
    measure: Measure, n: int, reference: Sums, chance: float
) -> tuple[float | None, float | None]:
    """Return the ends between which the figure of ``n`` studies lies but for ``chance``.

    None where no value is too low or too high.
    """
    if measure.harm is Harm.EITHER:
        chance /= 2
    if measure.share:
        hits, of = int(reference.total), reference.n
        low, high = fewest(n, hits, of, chance) / n, (n - fewest(n, of - hits, of, chance)) / n
        return (
            None if measure.harm is Harm.HIGH else low,
            None if measure.harm is Harm.LOW else high,
        )
    if measure.harm is Harm.HIGH:
        return None, _largest_mean(reference, n, chance)
    half = _deviate(chance) * _standard_error(reference, n)
    return reference.mean - half, reference.mean + half


def _largest_mean(reference: Sums, n: int, chance: float) -> float:
    """Upper limit of a mean of sizes (gamma, by Wilson and Hilferty 1931, PNAS 17:684)."""
    ninth = (_standard_error(reference, n) / max(reference.mean, _NOWHERE)) ** 2 / 9
    return float(reference.mean * (1 - ninth + _deviate(chance) * math.sqrt(ninth)) ** 3)


def _deviate(chance: float) -> float:
    """Standard errors beyond which a mean lies with probability ``chance``."""
    return student(_FREEDOM, 1 - chance)


def _standard_error(reference: Sums, n: int) -> float:
    variance = reference.squares / reference.n - reference.mean**2
    return math.sqrt(max(variance, _NOWHERE**2) * (1 / n + 1 / reference.n))


@lru_cache(maxsize=1024)
def fewest(n: int, hits: int, of: int, chance: float) -> int:
    """Smallest count in ``n`` that a reference of ``hits`` in ``of`` leaves unsuspicious.

    Fewer are met with a probability of at most ``chance`` (beta-binomial, Jeffreys' prior).
    """
    a, b = hits + 0.5, of - hits + 0.5
    constant = math.lgamma(n + 1) - _log_beta(a, b)
    below = 0.0
    for k in range(n + 1):
        ways = constant - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        below += math.exp(ways + _log_beta(k + a, n - k + b))
        if below > chance:
            return k
    return n


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


@dataclass(frozen=True, slots=True)
class Reference:
    """What a bundle did in its first weeks on this site."""

    begin: int
    """First week."""
    end: int
    """Week after the last."""
    tally: Tally


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a chart."""

    measure: Measure
    begin: int
    """First week."""
    end: int
    """Week after the last."""
    n: int
    value: float
    reference: float
    low: float | None
    """Below this is drift; None where no value is too low."""
    high: float | None
    """Above this is drift; None where no value is too high."""

    @property
    def flagged(self) -> bool:
        """Whether the value lies beyond a limit."""
        below = self.low is not None and self.value < self.low
        return below or (self.high is not None and self.value > self.high)

    @property
    def sentence(self) -> str:
        """What the point says, in plain words."""
        last = week_name(self.end - 1)
        weeks = f"week of {last}" if self.end - self.begin == 1 else (
            f"weeks of {week_name(self.begin)} to {last}"
        )  # fmt: skip
        expected = [
            f"{word} {limit:.3g}"
            for word, limit in (("not below", self.low), ("not above", self.high))
            if limit is not None
        ]
        return (
            f"{self.measure.words}: {self.value:.3g} in {self.n} studies of the {weeks};"
            f" {self.reference:.3g} in the reference weeks, expected {' and '.join(expected)}"
        )


def weekly(
    observations: Iterable[Observation],
    measured: Sequence[Measure],
    *,
    since: float,
    now: float,
) -> list[tuple[int, Tally]]:
    """Return the sums of each week that began at ``since`` or later and is over at ``now``."""
    weeks: dict[int, list[Observation]] = {}
    for one in once_a_week(observations):
        weeks.setdefault(one.week, []).append(one)
    return [
        (week, {measure.name: _sums(measure, weeks[week]) for measure in measured})
        for week in sorted(weeks)
        if week_begin(week) >= since and week < week_of(now)
    ]


def _sums(measure: Measure, observations: Iterable[Observation]) -> Sums:
    n = 0
    total = squares = 0 if measure.share else 0.0
    for one in observations:
        value = measure.value(one)
        if value is not None:
            n, total, squares = n + 1, total + value, squares + value**2
    return Sums(n, total, squares)


def learn(
    weeks: Iterable[tuple[int, Tally]], measured: Sequence[Measure], settings: MonitorSettings
) -> Reference | None:
    """Return the reference that the first of ``weeks`` make, None while they are too few.

    ``reference_weeks`` weeks that hold a study, and more until what one of the heads is held
    against is known of four times ``min_studies`` studies.
    """
    total: dict[str, Sums] = {}
    first = None
    telling = [measure.name for measure in measured if measure.labelled] or [REFUSED.name]
    for count, (week, tally) in enumerate(weeks, 1):
        first = week if first is None else first
        total |= {name: total.get(name, _NONE) + sums for name, sums in tally.items()}
        most = max(total.get(name, _NONE).n for name in telling)
        if most >= _TIMES_REFERENCE * settings.min_studies and count >= settings.reference_weeks:
            return Reference(first, week + 1, total)
    return None


def chart(
    weeks: Iterable[tuple[int, Tally]],
    measured: Sequence[Measure],
    reference: Reference,
    settings: MonitorSettings,
) -> list[Point]:
    """Return the points of all charts, by the week in which they end.

    A chart whose reference holds too few studies has none.
    """
    after = [(week, tally) for week, tally in weeks if week >= reference.end]
    chance = 1 / (len(measured) * settings.false_alarm_weeks)
    points = []
    for measure in measured:
        expected = reference.tally.get(measure.name, _NONE)
        if expected.n < _TIMES_REFERENCE * settings.min_studies:
            continue
        total, begin = _NONE, None
        for week, tally in after:
            begin = week if begin is None else begin
            total += tally.get(measure.name, _NONE)
            if total.n >= settings.min_studies:
                low, high = limits(measure, total.n, expected, chance)
                points.append(
                    Point(measure, begin, week + 1, total.n, total.mean, expected.mean, low, high)
                )
                total, begin = _NONE, None
    return sorted(points, key=lambda point: (point.end, point.measure.name))
