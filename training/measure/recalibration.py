"""What recalibrating on so many trusted headers gains, on patients that it was not fitted to.

python -m training recalibration

Of each set patients are drawn until there are so many images, the bundle is calibrated on them as
``model recalibrate`` does, and the others are measured; so :data:`DRAWS` times. Error is the mean
absolute error of the age, years. Before: as the bundle states it. Line: a straight line by least
squares, which nothing shrinks. By the rule: where the gain of a draw, cross-fitted, was no sure one
nothing was moved. Intervals draw patients again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from dicom_ai_node.inference import coverage
from dicom_ai_node.inference.calibration import Calibration
from dicom_ai_node.inference.distances import Distances, Far
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.inference.fitting import Cases
from dicom_ai_node.inference.heads import AGE, SEX
from dicom_ai_node.inference.intervals import LEVELS, Predicted
from dicom_ai_node.recalibrate.moves import Decided, decide, fit_of
from training.data.options import BUNDLE, CACHE, ROOT, BundleFolder, CacheFolder, Root
from training.data.project import ProjectData, items
from training.fit.calibrate import calibration_cases
from training.measure import metrics
from training.measure.markdown import table
from training.measure.metrics import Floats, estimate, resamples

SETS = "external_dev,external_dev2,val,val_128"
HEADERS = (50, 200, 1000)
DRAWS = 20
LEAST = 30
"""Images that must be left to be measured."""
OLD = 70.0
BOTH = frozenset({AGE.name, SEX.name})


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a calibration on some images makes of the others; each of shape (N,), NaN of those."""

    age: Floats
    """Estimate with the age moved, whatever it gains."""
    ruled: Floats
    """The same where the rule moves it."""
    line: Floats
    """By a straight line that nothing shrinks."""
    covered: Floats
    """1 where the interval of 90 % covers, of the moved age."""
    sex: Floats
    """Log loss with temperature alone."""
    biased: Floats
    """The same with a bias, whatever it gains."""
    moved: frozenset[str]
    """The heads that the rule moves."""


def draws(cases: Cases, old: Calibration, headers: int) -> Iterator[Drawn]:
    """Yield what :data:`DRAWS` calibrations on ``headers`` images make of the others.

    ``cases`` are labelled. Patients are drawn whole, so that there are a few images more.
    """
    people, person, images = np.unique(cases.patients, return_inverse=True, return_counts=True)
    for seed in range(DRAWS):
        order = np.random.default_rng(seed).permutation(len(people))
        enough = int(np.searchsorted(np.cumsum(images[order]), headers)) + 1
        yield _drawn(cases, old, np.isin(person, order[:enough]))


def _drawn(cases: Cases, old: Calibration, chosen: NDArray[np.bool_]) -> Drawn:
    some, others = cases.at(chosen), cases.at(~chosen)
    fit, years = fit_of(old), others.truth[AGE.name]
    decided: Decided = decide(some, fit)
    moved, plain = fit(some, BOTH), fit(some, frozenset())
    said, unmoved = (_said(one, some, others) for one in (moved, plain))
    low, high = coverage.intervals(moved, some.reference, others, AGE)
    at = LEVELS.index("90")
    mu, recorded = some.raw[AGE.name][:, 0], some.truth[AGE.name]
    line = np.polynomial.Polynomial.fit(mu, recorded, 1)

    def whole(values: Floats) -> Floats:
        found = np.full(len(cases), np.nan)
        found[~chosen] = values
        return found

    return Drawn(
        age=whole(said[AGE.name]),
        ruled=whole((said if AGE.name in decided.heads else unmoved)[AGE.name]),
        line=whole(line(others.raw[AGE.name][:, 0])),
        covered=whole(((low[:, at] <= years) & (years <= high[:, at])).astype(np.float64)),
        sex=whole(_loss(unmoved, others)),
        biased=whole(_loss(said, others)),
        moved=decided.heads,
    )


def _said(fitted: Calibration, some: Cases, others: Cases) -> Predicted:
    return fitted.predicted(others.heads, others.raw, Far.of(others.distances, some.reference))


def _loss(said: Predicted, others: Cases) -> Floats:
    first = said[f"{SEX.name}.{SEX.values[0]}"]
    recorded = np.where(others.truth[SEX.name] == 0, first, 1 - first)
    return -np.log(np.maximum(recorded, 1e-12))


@dataclass(frozen=True, slots=True)
class Measured:
    """One set with the calibration that a bundle comes with, and its reference."""

    name: str
    cases: Cases
    """Labelled."""
    old: Calibration
    known: Distances

    def rows(self, headers: int) -> tuple[list[str], list[str]]:
        """Of the age and of the sex what so many headers gain; with too few only the reason."""
        first = [self.name, f"{headers:,}"]
        if len(self.cases) - headers < LEAST:
            return [*first, f"has {len(self.cases):,}", *[""] * 8], [*first, "", "", "", ""]
        found = list(draws(self.cases, self.old, headers))
        weights = resamples(self.cases.patients.tolist())
        return [*first, *self._age(found, weights)], [*first, *_sex(found, weights)]

    def _age(self, found: Sequence[Drawn], weights: Floats) -> Iterator[str]:
        far = Far.of(self.cases.distances, self.known)
        before = self.old.predicted(self.cases.heads, self.cases.raw, far)[AGE.name]
        years = self.cases.truth[AGE.name]
        tested = ~np.isnan([one.age for one in found]).all(axis=0)

        def gain(said: Sequence[Floats]) -> str:
            after = np.nanmean(np.abs(np.stack(said)[:, tested] - years[tested]), axis=0)
            gained = np.abs(before - years)[tested] - after
            figure = estimate(metrics.mean, weights[:, tested], gained)
            return f"{figure.value:+.2f} ({figure.low:+.2f} to {figure.high:+.2f})"

        yield f"{np.abs(before - years)[tested].mean():.2f}"
        yield gain([one.age for one in found])
        yield gain([one.line for one in found])
        yield gain([one.ruled for one in found])
        yield f"{np.mean([AGE.name in one.moved for one in found]):.0%}"
        aged = tested & (years >= OLD)
        after = np.nanmean(np.stack([one.age for one in found])[:, aged], axis=0)
        yield str(int(aged.sum()))
        yield from (f"{np.mean(said - years[aged]):+.1f}" for said in (before[aged], after))
        yield f"{np.nanmean(np.stack([one.covered for one in found])):.1%}"


def _sex(found: Sequence[Drawn], weights: Floats) -> Iterator[str]:
    both = np.stack([[one.sex for one in found], [one.biased for one in found]])
    tested = ~np.isnan(both[0]).all(axis=0)
    plain, biased = np.nanmean(both[:, :, tested], axis=1)
    figure = estimate(metrics.mean, weights[:, tested], plain - biased)
    yield f"{plain.mean():.4f}"
    yield f"{figure.value:+.4f} ({figure.low:+.4f} to {figure.high:+.4f})"
    yield f"{np.mean([SEX.name in one.moved for one in found]):.0%}"


AGES = (
    *("set", "headers", "error before", "gain", "gain of the line", "gain by the rule"),
    *("moved", "over 70", "bias before", "after", "covered"),
)
SEXES = ("set", "headers", "log loss", "gain of a bias", "moved")


def tables(measured: Sequence[Measured]) -> str:
    """What moving gains, as two tables."""
    rows = [one.rows(headers) for one in measured for headers in HEADERS]
    return "\n\n".join(
        table(head, [row[at] for row in rows if row[at][2]])
        for at, head in enumerate((AGES, SEXES))
    )


def main(
    bundle: BundleFolder = BUNDLE,
    root: Root = ROOT,
    cache: CacheFolder = CACHE,
    sets: Annotated[str, typer.Option(help="Roles of images with ages and sexes.")] = SETS,
) -> None:
    """Measure and print."""
    estimator = Estimator(bundle, device="cpu")
    images, there = ProjectData(root, cache), {item.role for item in items(root)}

    def measured(role: str) -> Measured:
        cases = calibration_cases(estimator.measure, images.load(estimator.size, role)).labelled
        return Measured(role, cases, estimator.manifest.calibration, estimator.reference)

    print(tables([measured(role) for role in sets.split(",") if role in there]))
