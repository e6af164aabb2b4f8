"""Control charts: exact limits, and the rate of false alarms that they state."""

import math

import numpy as np
import pytest

from dicom_ai_node.config.stages import MonitorSettings
from dicom_ai_node.monitor.charts import (
    Sums,
    Tally,
    chart,
    fewest,
    learn,
    weekly,
)
from dicom_ai_node.monitor.measures import measures
from dicom_ai_node.monitor.observation import week_begin
from tests.builders.observations import FIRST_WEEK, seen, site

A_WEEK = 60
MEASURED = measures(seen().heads)
OFTEN = MonitorSettings(false_alarm_weeks=20)
"""False alarms are frequent enough to be counted in a quick test."""


def tallied(
    aged: int = 0, absolute: float = 0, signed: float = 0, squared: float = 0, covered: int = 0,
    sexed: int = 0, right: int = 0, seen: int = 0, refused: int = 0,
) -> Tally:  # fmt: skip
    """Return the sums of a bundle that answers age and sex."""
    return {
        "mae": Sums(aged, absolute, squared),
        "bias": Sums(aged, signed, squared),
        "coverage": Sums(aged, covered, covered),
        "sex_accuracy": Sums(sexed, right, right),
        "refused": Sums(seen, refused, refused),
    }


def binomial_at_most(k: int, n: int, p: float) -> float:
    return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))


@pytest.mark.parametrize(("n", "p"), [(50, 0.9), (120, 0.96), (400, 0.9)])
def test_with_a_large_reference_the_limit_is_the_exact_binomial_one(n: int, p: float) -> None:
    k = fewest(n, round(p * 10**7), 10**7, 0.001)
    assert binomial_at_most(k - 1, n, p) <= 0.001 < binomial_at_most(k, n, p)


def test_a_small_reference_widens_the_limit() -> None:
    assert fewest(60, 45, 50, 0.001) < fewest(60, 450, 500, 0.001) < fewest(60, 54000, 60000, 0.001)


def simulated(
    generator: np.random.Generator, weeks: range, *, bias: float = 0.0, spread: float = 1.0,
    covered: float = 0.9, right: float = 0.95, refused: float = 0.02,
) -> list[tuple[int, Tally]]:  # fmt: skip
    """Return weeks of a site; errors have Student's tails."""
    found = []
    for week in weeks:
        errors = bias + spread * 5.2 * generator.standard_t(6, A_WEEK)
        found.append((week, tallied(
            aged=A_WEEK, absolute=float(np.abs(errors).sum()), signed=float(errors.sum()),
            squared=float(np.square(errors).sum()),
            covered=int(generator.binomial(A_WEEK, covered)),
            sexed=A_WEEK, right=int(generator.binomial(A_WEEK, right)),
            seen=A_WEEK, refused=int(generator.binomial(A_WEEK, refused)),
        )))  # fmt: skip
    return found


def test_a_stable_site_is_flagged_no_more_often_than_stated() -> None:
    generator = np.random.default_rng(1)
    sites, weeks, flagged = 200, 40, 0
    for _ in range(sites):
        first = simulated(generator, range(8))
        reference = learn(first, MEASURED, OFTEN)
        assert reference is not None
        points = chart(simulated(generator, range(8, 8 + weeks)), MEASURED, reference, OFTEN)
        assert len(points) == weeks * len(MEASURED)
        flagged += len({point.end for point in points if point.flagged})
    rate = flagged / (sites * weeks)
    stated = 1 / OFTEN.false_alarm_weeks
    # The margin is three standard errors, taking a site's weeks for one another's.
    assert rate <= stated + 3 * math.sqrt(stated / sites)
    assert rate >= stated / 5  # nor are the limits so wide that nothing is ever found


@pytest.mark.parametrize(
    ("change", "quantity"),
    [
        ({"covered": 0.7}, "coverage"),
        ({"right": 0.75}, "sex_accuracy"),
        ({"refused": 0.2}, "refused"),
        ({"bias": 4.0}, "bias"),
        ({"spread": 1.6}, "mae"),
    ],
)
def test_a_site_that_changes_is_flagged_within_a_month(
    change: dict[str, float], quantity: str
) -> None:
    generator = np.random.default_rng(2)
    settings = MonitorSettings()
    found = 0
    for _ in range(40):
        reference = learn(simulated(generator, range(8)), MEASURED, settings)
        assert reference is not None
        points = chart(simulated(generator, range(8, 12), **change), MEASURED, reference, settings)
        found += any(point.flagged and point.measure.name == quantity for point in points)
    assert found >= 36


def test_weeks_are_joined_until_a_point_holds_enough() -> None:
    settings = MonitorSettings(min_studies=50)
    reference = learn(simulated(np.random.default_rng(3), range(8)), MEASURED, settings)
    assert reference is not None
    small = [
        (week, tallied(aged=20, absolute=80.0, squared=600.0, covered=18)) for week in range(8, 15)
    ]
    points = [
        one for one in chart(small, MEASURED, reference, settings) if one.measure.name == "coverage"
    ]
    assert [(one.begin, one.end, one.n) for one in points] == [(8, 11, 60), (11, 14, 60)]
    # Nobody's sex was trusted: no point, and no division by nothing.
    assert {one.measure.name for one in chart(small, MEASURED, reference, settings)} == {
        "coverage", "mae", "bias",
    }  # fmt: skip


def test_the_reference_waits_for_weeks_and_for_studies() -> None:
    settings = MonitorSettings(reference_weeks=3, min_studies=50)
    weeks = [(week, tallied(aged=40)) for week in range(10)]
    reference = learn(weeks, MEASURED, settings)
    assert reference is not None
    assert (reference.begin, reference.end, reference.tally["mae"].n) == (0, 5, 200)
    assert learn(weeks[:4], MEASURED, settings) is None
    assert learn([(week, tallied(aged=400)) for week in range(2)], MEASURED, settings) is None


def test_a_week_that_is_not_over_is_not_judged() -> None:
    observations = site(range(FIRST_WEEK, FIRST_WEEK + 2), a_week=5)
    now = week_begin(FIRST_WEEK + 1) + 3 * 86400
    assert [week for week, _ in weekly(observations, MEASURED, since=0, now=now)] == [FIRST_WEEK]
    assert weekly(observations, MEASURED, since=week_begin(FIRST_WEEK) + 1, now=now) == []


def test_a_tally_is_the_sum_of_its_studies() -> None:
    ((_, tally),) = weekly(
        [seen("1.1", mu=57.0), seen("1.2", probability_female=0.1), seen("1.3", age=None)],
        MEASURED, since=0, now=week_begin(FIRST_WEEK + 1),
    )  # fmt: skip
    assert tally == tallied(
        aged=2, absolute=4.0, signed=-2.0, squared=10.0, covered=2, sexed=3, right=2, seen=3
    )


def test_a_site_without_any_error_can_be_charted() -> None:
    perfect = [
        (week, tallied(aged=60, covered=60, sexed=60, right=60, seen=60)) for week in range(10)
    ]
    reference = learn(perfect, MEASURED, MonitorSettings())
    assert reference is not None
    assert not any(
        point.flagged for point in chart(perfect, MEASURED, reference, MonitorSettings())
    )
