"""Drift: control charts of a bundle's weeks against its own first weeks on this site.

A chart has one point for a week, or for as many weeks as it takes to reach ``min_studies``. Five
charts share the rate of false alarms evenly: each point is flagged with a chance of at most
``1 / (5 * false_alarm_weeks)`` while nothing changes, so that the average run between false alarms
of all charts together is no shorter than ``false_alarm_weeks`` points.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from dicom_ai_node.config.stages import MonitorSettings
from dicom_ai_node.monitor.limits import limits
from dicom_ai_node.monitor.observation import (
    Observation,
    once_a_week,
    week_begin,
    week_name,
    week_of,
)
from dicom_ai_node.monitor.tally import PLAIN, ChartedQuantity, Tally

_TIMES_REFERENCE = 4
"""The reference of a chart must hold so many times the studies of a point."""


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
