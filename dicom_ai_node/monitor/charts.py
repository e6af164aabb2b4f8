"""Drift: control charts of a bundle's weeks against its own first weeks on this site.

A chart has one point for a week, or for as many weeks as it takes to reach ``min_studies``. Five
charts share the rate of false alarms evenly: each point is flagged with a chance of at most
``1 / (5 * false_alarm_weeks)`` while nothing changes, so that the average run between false alarms
of all charts together is no shorter than ``false_alarm_weeks`` points.

Limits say how far a figure of ``n`` studies strays while nothing changes. The reference is an
estimate itself, and they allow for that. Shares have the exact limits of the beta-binomial
distribution: binomial for a probability of which the reference, with Jeffreys' prior, is all that
is known. The mean absolute error has the limit of a gamma distribution, since absolute errors lean
to the right; the bias has symmetric ones. Both are as wide as Student's t with few degrees of
freedom asks for: errors have heavier tails than the normal distribution, and the reference then
understates their spread. Only what harms raises a flag: fewer ages covered, fewer sexes right, more
refusals, a larger error, a bias to either side.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from functools import lru_cache
from typing import Any

from dicom_ai_node.config.stages import MonitorSettings
from dicom_ai_node.monitor.figures import student
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
_NOWHERE = 1e-9  # of a year: limits of errors that do not vary at all
_TIMES_REFERENCE = 4
"""The reference of a chart must hold so many times the studies of a point."""


class ChartedQuantity(StrEnum):
    """What a chart watches."""

    MAE = "mae"
    BIAS = "bias"
    COVERAGE = "coverage"
    SEX_ACCURACY = "sex_accuracy"
    REFUSED = "refused"


PLAIN: Mapping[ChartedQuantity, str] = {
    ChartedQuantity.MAE: "mean absolute error of the age, years",
    ChartedQuantity.BIAS: "bias of the age, years",
    ChartedQuantity.COVERAGE: "share of recorded ages within the 90 % interval",
    ChartedQuantity.SEX_ACCURACY: "share of recorded sexes that are the more probable one",
    ChartedQuantity.REFUSED: "share of studies that a gate refused",
}


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums over studies: all that a chart needs of them, and nothing of any one of them."""

    aged: int = 0
    absolute: float = 0.0
    signed: float = 0.0
    squared: float = 0.0
    covered: int = 0
    sexed: int = 0
    right: int = 0
    seen: int = 0
    refused: int = 0

    @classmethod
    def of(cls, one: Observation) -> "Tally":
        """Return the sums of one study."""
        error = one.error
        return cls(
            aged=int(error is not None),
            absolute=abs(error or 0.0),
            signed=error or 0.0,
            squared=(error or 0.0) ** 2,
            covered=int(bool(one.covered)),
            sexed=int(one.right is not None),
            right=int(bool(one.right)),
            seen=int(one.seen),
            refused=int(one.gated),
        )

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def to_json(self) -> dict[str, Any]:
        """Return the sums for the database."""
        return asdict(self)

    def n(self, quantity: ChartedQuantity) -> int:
        """How many studies say something of ``quantity``."""
        match quantity:
            case ChartedQuantity.SEX_ACCURACY:
                return self.sexed
            case ChartedQuantity.REFUSED:
                return self.seen
            case _:
                return self.aged

    def hits(self, quantity: ChartedQuantity) -> int:
        """The count behind a share."""
        match quantity:
            case ChartedQuantity.COVERAGE:
                return self.covered
            case ChartedQuantity.SEX_ACCURACY:
                return self.right
            case ChartedQuantity.REFUSED:
                return self.refused
            case _:
                raise ValueError(f"{quantity} is no share")

    def value(self, quantity: ChartedQuantity) -> float:
        """The figure itself; there must be a study."""
        match quantity:
            case ChartedQuantity.MAE:
                return self.absolute / self.aged
            case ChartedQuantity.BIAS:
                return self.signed / self.aged
            case _:
                return self.hits(quantity) / self.n(quantity)


def limits(
    quantity: ChartedQuantity, n: int, reference: Tally, chance: float
) -> tuple[float | None, float | None]:
    """Return the ends between which the figure of ``n`` studies lies but for ``chance``.

    None where no value is too low or too high.
    """
    match quantity:
        case ChartedQuantity.MAE:
            return None, _largest_mean(reference, n, chance)
        case ChartedQuantity.BIAS:
            centre = reference.signed / reference.aged
            spread = reference.squared / reference.aged - centre**2
            half = _deviate(chance / 2) * _standard_error(spread, reference.aged, n)
            return centre - half, centre + half
        case ChartedQuantity.REFUSED:
            passed = fewest(n, reference.seen - reference.refused, reference.seen, chance)
            return None, (n - passed) / n
        case _:
            hits, of = reference.hits(quantity), reference.n(quantity)
            return fewest(n, hits, of, chance) / n, None


def _largest_mean(reference: Tally, n: int, chance: float) -> float:
    """Upper limit of a mean absolute error (gamma, by Wilson and Hilferty 1931, PNAS 17:684)."""
    centre = reference.absolute / reference.aged
    error = _standard_error(reference.squared / reference.aged - centre**2, reference.aged, n)
    ninth = (error / max(centre, _NOWHERE)) ** 2 / 9
    return float(centre * (1 - ninth + _deviate(chance) * math.sqrt(ninth)) ** 3)


def _deviate(chance: float) -> float:
    """Standard errors beyond which a mean lies with probability ``chance``."""
    return student(_FREEDOM, 1 - chance)


def _standard_error(variance: float, reference_n: int, n: int) -> float:
    return math.sqrt(max(variance, _NOWHERE**2) * (1 / n + 1 / reference_n))


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

    quantity: ChartedQuantity
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
            f"{PLAIN[self.quantity]}: {self.value:.3g} in {self.n} studies of the {weeks};"
            f" {self.reference:.3g} in the reference weeks, expected {' and '.join(expected)}"
        )


def weekly(
    observations: Iterable[Observation], *, since: float, now: float
) -> list[tuple[int, Tally]]:
    """Return the sums of each week that began at ``since`` or later and is over at ``now``."""
    sums: dict[int, Tally] = {}
    for one in once_a_week(observations):
        if week_begin(one.week) >= since and one.week < week_of(now):
            sums[one.week] = sums.get(one.week, Tally()) + Tally.of(one)
    return sorted(sums.items())


def learn(weeks: Iterable[tuple[int, Tally]], settings: MonitorSettings) -> Reference | None:
    """Return the reference that the first of ``weeks`` make, None while they are too few.

    ``reference_weeks`` weeks that hold a study, and more until age or sex of four times
    ``min_studies`` studies are known.
    """
    total, begin, count = Tally(), None, 0
    for week, tally in weeks:
        begin = week if begin is None else begin
        total, count = total + tally, count + 1
        enough = max(total.aged, total.sexed) >= _TIMES_REFERENCE * settings.min_studies
        if enough and count >= settings.reference_weeks:
            return Reference(begin, week + 1, total)
    return None


def chart(
    weeks: Iterable[tuple[int, Tally]], reference: Reference, settings: MonitorSettings
) -> list[Point]:
    """Return the points of all charts, by the week in which they end.

    A chart whose reference holds too few studies has none.
    """
    after = [(week, tally) for week, tally in weeks if week >= reference.end]
    points = []
    for quantity in ChartedQuantity:
        if reference.tally.n(quantity) < _TIMES_REFERENCE * settings.min_studies:
            continue
        total, begin = Tally(), None
        for week, tally in after:
            begin = week if begin is None else begin
            total += tally
            if total.n(quantity) >= settings.min_studies:
                points.append(_point(quantity, begin, week + 1, total, reference.tally, settings))
                total, begin = Tally(), None
    return sorted(points, key=lambda point: (point.end, point.quantity))


def _point(
    quantity: ChartedQuantity,
    begin: int,
    end: int,
    tally: Tally,
    reference: Tally,
    settings: MonitorSettings,
) -> Point:
    chance = 1 / (len(ChartedQuantity) * settings.false_alarm_weeks)
    low, high = limits(quantity, tally.n(quantity), reference, chance)
    return Point(
        quantity=quantity,
        begin=begin,
        end=end,
        n=tally.n(quantity),
        value=tally.value(quantity),
        reference=reference.value(quantity),
        low=low,
        high=high,
    )
