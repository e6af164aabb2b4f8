"""Figures of an age from CT out of folds, beside the median; and what a bundle needs to be used.

An interval is cross-fitted: each patient's by a calibration on the others. Pure.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dicom_ai_node.inference import fitting
from dicom_ai_node.inference.bundle import Figure
from dicom_ai_node.inference.calibration import Calibration
from dicom_ai_node.inference.coverage import cross_fitted
from dicom_ai_node.inference.fitting import Cases
from dicom_ai_node.inference.intervals import LEVELS, Widening
from training.fit.ages import AGE
from training.measure import metrics
from training.measure.figures import BIAS, MAE, coverage, width
from training.measure.metrics import Floats, Statistic, estimate, resamples, value

GAIN = "gain over the median, years"
FOLDS = "folds"
WORTH = 2.0
"""Years that the lower end of the gain's interval must exceed for a bundle to be used."""
COVERED = (0.86, 0.94)
"""Coverage of intervals of 90 % that such a bundle must have."""
SMALLEST = 20
"""Patients of a group that is told apart."""
SPLIT = (0, 40, 60, 70, 120)
"""Ages that part the groups, years."""

PUBLISHED = (
    ("Kerber et al. 2023, own hospital (1,653 series)", 5.76),
    ("Kerber et al. 2023, another (421 series)", 6.50),
)
"""MAE in years of the method's paper."""


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """What networks say of images of patients that they were not trained with."""

    cases: Cases
    medians: Floats
    """Of each image, the median age of the images that its network was trained with."""
    kinds: Mapping[str, NDArray[np.str_]]
    """What groups the images, such as source and sex: of each image its value, '' unknown."""

    @property
    def years(self) -> Floats:
        """Recorded."""
        return self.cases.truth[AGE.name]

    def at(self, chosen: NDArray[np.bool_]) -> "OutOfFold":
        """Some of the images."""
        kinds = {name: values[chosen] for name, values in self.kinds.items()}
        return OutOfFold(self.cases.at(chosen), self.medians[chosen], kinds)


def calibration(cases: Cases) -> Calibration:
    """Split conformal, on sigma."""
    return fitting.fit(cases, {AGE.name: Widening()})


def gain(weights: Floats, mu: Floats, years: Floats, medians: Floats) -> Floats:
    """How much smaller the mean absolute error is than that of the median."""
    return metrics.mean(weights, np.abs(medians - years) - np.abs(mu - years))


def figures(said: OutOfFold) -> list[Figure]:
    """Of all, and of each kind and age that has :data:`SMALLEST` patients or more."""
    low, high = cross_fitted(said.cases, lambda some: calibration(said.cases.at(some)), AGE)
    found = list(_of(said, low, high, ""))
    for name, chosen in _groups(said):
        if 0 < chosen.sum() < len(chosen) and len(set(said.cases.patients[chosen])) >= SMALLEST:
            found += _of(said.at(chosen), low[chosen], high[chosen], name)
    return found


def _groups(said: OutOfFold) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    for name, values in said.kinds.items():
        for one in np.unique(values[values != ""]):
            yield f"{name}: {one}", values == one
    for first, last in pairwise(SPLIT):
        yield f"age: {first} to {last - 1}", (said.years >= first) & (said.years < last)


def _of(said: OutOfFold, low: Floats, high: Floats, group: str) -> Iterator[Figure]:
    weights, years = resamples(said.cases.patients.tolist()), said.years
    mu = said.cases.raw[AGE.name][:, 0]

    def figure(
        quantity: str, statistic: Statistic, *columns: Floats, baseline: float | None = None
    ) -> Figure:
        found = estimate(statistic, weights, *columns)
        return Figure(
            dataset=FOLDS, group=group, quantity=quantity, value=round(found.value, 4),
            low=round(found.low, 4), high=round(found.high, 4), n=len(years),
            baseline=None if baseline is None else round(baseline, 4),
        )  # fmt: skip

    usual = value(metrics.mae, said.medians, years)
    yield figure(MAE, metrics.mae, mu, years, baseline=usual)
    yield figure(GAIN, gain, mu, years, said.medians)
    yield figure(BIAS, metrics.bias, mu, years)
    for at, level in enumerate(LEVELS):
        inside = (low[:, at] <= years) & (years <= high[:, at])
        yield figure(coverage(level), metrics.mean, inside.astype(np.float64))
        yield figure(width(level), metrics.mean, (high - low)[:, at])


def unworthy(found: Sequence[Figure]) -> str:
    """Why a bundle with these figures is for research alone; '' where it may be used."""
    of_all = {figure.quantity: figure for figure in found if not figure.group}
    better, covered = of_all[GAIN], of_all[coverage("90")]
    reasons = []
    if better.low is None or not better.low > WORTH:
        low = "unknown" if better.low is None else f"{better.low:.2f}"
        reasons.append(
            f"its gain over the median is {better.value:.2f} years, the lower end of the interval"
            f" {low}, and more than {WORTH:g} is needed"
        )
    least, most = COVERED
    if not least <= covered.value <= most:
        reasons.append(
            f"its intervals of 90 % cover {covered.value:.1%}, and {least:.0%} to {most:.0%} is"
            " needed"
        )
    return "; ".join(reasons)
