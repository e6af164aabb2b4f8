"""How probable an error of the age estimate is: the calibrated interval continued into its tails.

The interval of a study says where 90 % of recorded ages lie, above and below apart. Beyond its ends
nothing was fitted, and a p-value needs the tails. They are taken to be those of Student's t with 5
degrees of freedom: the shipped calibration's intervals of 80, 90 and 95 % stand to each other as
those of a t with 8 (95 % over 90 % is 1.24; a normal's 1.19, a t5's 1.28), and what a few hundred
images cannot show beyond 99 % is heavier rather than lighter. A normal tail would call an error of
three half-widths one in a million, and every sick patient a mix-up.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from dicom_ai_node.types import AgeEstimate

_T5_95 = 2.015048
"""95 % quantile of t5: the end of its central 90 %."""
_T5_90 = 1.475884
"""90 % quantile of t5: the end of its central 80 %."""
_NARROWEST = 1.0
"""Half-width in years that an interval has at least: recorded ages are whole years, and an end
that was cut at 0 years says nothing of the errors on that side."""
_ENOUGH = 200
"""Fewer studies do not tell a site's own error distribution."""
_SMALLEST_SCALE = 0.5


@dataclass(frozen=True, slots=True)
class Spread:
    """A batch's own errors in units of the calibrated ones; 0 and 1 is 'as calibrated'."""

    centre: float = 0.0
    scale: float = 1.0


def deviation(recorded: float, estimate: AgeEstimate) -> float:
    """How far a recorded age in years lies from the estimate: +-2.015 at the interval's ends."""
    low, high = estimate.interval90
    half = high - estimate.mu if recorded > estimate.mu else estimate.mu - low
    return _T5_95 * (recorded - estimate.mu) / max(half, _NARROWEST)


def own_spread(deviations: Sequence[float]) -> Spread:
    """The errors of this site: the median, and the range that holds 80 % of what is around it.

    Neither is moved by some wrong headers among them. As calibrated for fewer than 200.
    """
    if len(deviations) < _ENOUGH:
        return Spread()
    centre = median(deviations)
    around = sorted(abs(one - centre) for one in deviations)
    return Spread(centre, max(_SMALLEST_SCALE, around[math.ceil(0.8 * len(around)) - 1] / _T5_90))


def p_value(deviation: float, spread: Spread) -> float:
    """Two-sided p-value of a deviation: Student's t with 5 degrees of freedom, in closed form."""
    angle = math.atan(abs(deviation - spread.centre) / spread.scale / math.sqrt(5))
    cosine2 = math.cos(angle) ** 2
    within = angle + math.sin(angle) * math.cos(angle) * (1 + 2 / 3 * cosine2)
    return min(1.0, max(1 - 2 / math.pi * within, 1e-12))
