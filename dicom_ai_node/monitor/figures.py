"""What the network's estimates are worth in groups of observations, with 95 % intervals.

Shares have Wilson's interval. Means have Student's over persons: the errors of one person are added
up before they are squared, so that many studies of few persons do not look like many.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist

from dicom_ai_node.monitor.measures import Harm, Measure
from dicom_ai_node.monitor.observation import Observation, once_a_week, week_name
from dicom_ai_node.rules.attributes import AGE, ATTRIBUTES
from dicom_ai_node.types import AttributeValue

Z95 = NormalDist().inv_cdf(0.975)
AGE_BANDS = ((0, 18), (18, 40), (40, 60), (60, 80))
NOT_STATED = "(not stated)"


@dataclass(frozen=True, slots=True)
class MonitorFigure:
    """One number with its 95 % interval."""

    n: int
    """Studies that it rests on."""
    value: float | None
    """None without a study."""
    low: float | None = None
    """None where too few persons are left to say."""
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """One group of observations."""

    group: str
    n: int
    """Studies, labelled or not."""
    figures: Mapping[str, MonitorFigure]
    """By the name of the measure."""


def share(hits: int, n: int) -> MonitorFigure:
    """Return ``hits`` of ``n`` with the interval of Wilson (1927, JASA 22:209)."""
    if not n:
        return MonitorFigure(0, None)
    p, z2 = hits / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return MonitorFigure(n, p, max(0.0, centre - half), min(1.0, centre + half))


def mean(
    values: Sequence[float], persons: Sequence[str], *, least: float = -math.inf
) -> MonitorFigure:
    """Return the mean of ``values`` with Student's interval over ``persons``.

    The variance is that of a ratio of sums over clusters: ``G / (G - 1) * sum(r_g ** 2) / n ** 2``
    with ``r_g`` the residuals of person ``g`` added up, and ``G - 1`` degrees of freedom.
    Its lower end is no less than ``least``, below which no value can lie.
    """
    n = len(values)
    if not n:
        return MonitorFigure(0, None)
    centre = math.fsum(values) / n
    residuals: dict[str, float] = {}
    for value, person in zip(values, persons, strict=True):
        residuals[person] = residuals.get(person, 0.0) + value - centre
    count = len(residuals)
    if count < 3:
        return MonitorFigure(n, centre)
    variance = count / (count - 1) * math.fsum(r * r for r in residuals.values()) / n**2
    half = student(count - 1, 0.975) * math.sqrt(variance)
    return MonitorFigure(n, centre, max(least, centre - half), centre + half)


def student(freedom: int, p: float) -> float:
    """Quantile ``p`` of Student's t, by its expansion in 1 / ``freedom``.

    That of 0.975 is within 1 % from 4 degrees of freedom on (Abramowitz and Stegun 26.7.5).
    """
    z = NormalDist().inv_cdf(p)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return math.fsum(term / freedom**power for power, term in enumerate(terms))


def summarise(
    group: str, observations: Sequence[Observation], measured: Iterable[Measure]
) -> Summary:
    """Return the figures of one group; the caller has taken each person once a week."""
    return Summary(group, len(observations), {m.name: _figure(m, observations) for m in measured})


def _figure(measure: Measure, observations: Iterable[Observation]) -> MonitorFigure:
    known = [(v, one.person) for one in observations if (v := measure.value(one)) is not None]
    values = [value for value, _ in known]
    if measure.share:
        return share(int(sum(values)), len(values))
    least = 0.0 if measure.harm is Harm.HIGH else -math.inf  # a size
    return mean(values, [person for _, person in known], least=least)


def age_band(years: AttributeValue) -> str:
    """Band of a recorded age, years."""
    for low, high in AGE_BANDS:
        if float(years) < high:
            return f"{low}-{high - 1}"
    return "80+"


def _recorded(one: Observation, keyword: str) -> str:
    value = one.recorded.get(keyword)
    if value is None:
        return NOT_STATED
    if keyword == AGE:
        return age_band(value)
    return value if isinstance(value, str) else f"{value:g}"


GROUPS: Mapping[str, Callable[[Observation], str]] = {
    "all": lambda one: "all",
    "station": lambda one: one.station,
    "manufacturer": lambda one: one.manufacturer,
    "model": lambda one: one.model_name,
    "software": lambda one: one.software,
    "view": lambda one: one.view,
    **{
        row.name: partial(_recorded, keyword=keyword)
        for keyword, row in ATTRIBUTES.items()
        if row.a_label
    },
    "week": lambda one: week_name(one.week),
}
"""What ``monitor --by`` can group by: the equipment, attributes under check, the week."""


def tabulate(
    observations: Iterable[Observation], measured: Iterable[Measure], *, by: str
) -> list[Summary]:
    """Return the figures of each group, in the order of their names; a person counts once a week.

    ``by`` is a key of :data:`GROUPS`.
    """
    groups: dict[str, list[Observation]] = {}
    for one in once_a_week(observations):
        groups.setdefault(GROUPS[by](one) or NOT_STATED, []).append(one)
    return [summarise(group, groups[group], measured) for group in sorted(groups)]
