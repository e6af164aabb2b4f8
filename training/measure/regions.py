"""What regions of slices are measured by: figures with patient-bootstrap intervals. Pure.

Several regions may be right for an image (:mod:`training.data.regions`): an answer is right if it
is one of them, its area if the areas of answer and label meet. Recall and the confusion matrix are
of those images that have a single right answer, precision is of everything that was answered so.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_ai_node.config.stages import PolicySettings
from dicom_ai_node.dicom.body_parts import agree
from dicom_ai_node.inference.bundle import Figure
from training.data.regions import Slice
from training.measure import metrics
from training.measure.metrics import Bools, Floats, estimate, resamples

ACCURACY, AREA = "region accuracy", "area accuracy"
RECALL, PRECISION = "recall", "precision"
BY_PIXELS = f"{ACCURACY} of the nearest centroid of pixels"
BY_FEATURES = f"{ACCURACY} of the nearest centroid of the features it started from"
UNMARKED = f"{ACCURACY} with margins black"
ECE, PASSES = "region ECE", "passes the gates"
ALERTS = (PolicySettings().body_part_alert_probability, 0.005)
"""Of J6, ``policy.body_part_alert_probability``: as shipped, and stricter."""
CERTAIN = (0.5, 0.7, 0.9)
SMALLEST = 10
"""Patients that a group needs to be measured."""
AGES = ((0, 18), (18, 40), (40, 60), (60, 75), (75, 120))

Matrix = NDArray[np.float64]


def answered(level: float) -> str:
    """Name of the share of images whose certainty is ``level`` or more."""
    return f"share at least {level:g} certain"


def accuracy_at(level: float) -> str:
    """Name of the accuracy among those."""
    return f"{ACCURACY} where at least {level:g} certain"


def doubted_at(level: float) -> str:
    """Name of the share of right headers that J6 doubts when it alerts below ``level``."""
    return f"right headers that J6 doubts below {level:g}"


def found_at(level: float) -> str:
    """Name of the share of wrong headers, of a part elsewhere on the body, that J6 finds."""
    return f"wrong headers that J6 finds below {level:g}"


@dataclass(frozen=True, slots=True)
class RegionTable:
    """What is said of N slices that each have a region."""

    slices: list[Slice]
    values: tuple[str, ...]
    probabilities: Matrix
    """(N, K), calibrated."""
    targets: NDArray[np.float32]
    """(N, K): 1 for each right value."""
    passed: Bools
    """(N,): every gate."""

    def __len__(self) -> int:
        """How many images."""
        return len(self.slices)

    def doubted(self, recorded: str, level: float) -> Bools:
        """Of which images J6 would say that they show nothing of a recorded term, each alone."""
        apart = np.array([not agree(recorded, value) for value in self.values], np.float64)
        return np.asarray((1 - self.probabilities @ apart < level) & (apart[self.answer] == 1))

    def where(self, chosen: Bools) -> "RegionTable":
        """Some of the images."""
        at = np.flatnonzero(chosen)
        return RegionTable(
            [self.slices[i] for i in at],
            self.values,
            self.probabilities[at],
            self.targets[at],
            self.passed[at],
        )

    @property
    def answer(self) -> NDArray[np.int64]:
        """Position of the likeliest value."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @property
    def certainty(self) -> Floats:
        """Probability of the likeliest value."""
        return np.asarray(self.probabilities.max(axis=1))

    @property
    def right(self) -> Bools:
        """Whether the likeliest value is right."""
        return np.asarray(self.targets[np.arange(len(self)), self.answer] == 1)

    @property
    def area(self) -> Bools:
        """Whether the area of the likeliest value is that of a label."""
        pairs = zip(self.answer, self.slices, strict=True)
        return np.array([any(agree(self.values[a], t) for t in s.terms) for a, s in pairs])

    def alerts(self, level: float) -> tuple[Floats, Floats]:
        """Share of the right and of the wrong headers of each image that J6 would doubt.

        Of the wrong ones each value that lies elsewhere on the body counts as much; NaN where none
        does, as of a whole body.
        """
        known = {*self.values, *(term for one in self.slices for term in one.terms)}
        doubts = {term: self.doubted(term, level) for term in known}
        right, wrong = np.full(len(self), np.nan), np.full(len(self), np.nan)
        for at, one in enumerate(self.slices):
            right[at] = np.mean([doubts[term][at] for term in one.terms])
            far = [v for v in self.values if not any(agree(v, term) for term in one.terms)]
            if far:
                wrong[at] = np.mean([doubts[value][at] for value in far])
        return right, wrong

    @property
    def only(self) -> NDArray[np.int64]:
        """Position of the only right value, -1 where there are several."""
        single = self.targets.sum(axis=1) == 1
        return np.where(single, self.targets.argmax(axis=1), -1)

    @property
    def people(self) -> list[str]:
        """Who is shown."""
        return [one.person for one in self.slices]


def joined(tables: Sequence[RegionTable]) -> RegionTable:
    """All images of all tables, at least one."""
    return RegionTable(
        [one for table in tables for one in table.slices],
        tables[0].values,
        np.concatenate([table.probabilities for table in tables]),
        np.concatenate([table.targets for table in tables]),
        np.concatenate([table.passed for table in tables]),
    )


def ratio(weights: Floats, above: Floats, below: Floats) -> Floats:
    """Weighted share of ``below`` that is ``above`` too; NaN where there is nothing below."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((weights @ above) / (weights @ below))


def calibration_error(weights: Floats, certainty: Floats, right: Floats) -> Floats:
    """Expected calibration error over ten equal bins of the certainty."""
    return metrics.calibration_error(weights, certainty, right)


def figures(table: RegionTable, dataset: str, *, grouped: bool = True) -> list[Figure]:
    """Everything of one data set."""
    found = list(_overall(table, dataset, ""))
    found += _by_region(table, dataset)
    if grouped:
        for name, chosen in groups(table.slices):
            part = table.where(chosen)
            if len(set(part.people)) >= SMALLEST:
                found += _few(part, dataset, name)
    return found


def _figure(
    dataset: str, group: str, quantity: str, statistic: Callable[..., Floats], *columns: Floats,
    weights: Floats, n: int, baseline: float | None = None,
) -> Figure:  # fmt: skip
    found = estimate(statistic, weights, *columns)
    ends = {"low": found.low, "high": found.high}
    known = {name: round(end, 4) for name, end in ends.items() if not np.isnan(end)}
    value = round(found.value, 4)
    figure = Figure(dataset=dataset, group=group, quantity=quantity, value=value, n=n)
    if baseline is not None:
        known["baseline"] = round(baseline, 4)
    return figure.model_copy(update=known)


def _few(table: RegionTable, dataset: str, group: str) -> Iterator[Figure]:
    weights, n = resamples(table.people), len(table)
    right, area = table.right.astype(np.float64), table.area.astype(np.float64)
    likeliest = float(table.targets.mean(axis=0).max())
    yield _figure(
        dataset, group, ACCURACY, metrics.mean, right, weights=weights, n=n, baseline=likeliest
    )
    yield _figure(dataset, group, AREA, metrics.mean, area, weights=weights, n=n)


def _overall(table: RegionTable, dataset: str, group: str) -> Iterator[Figure]:
    yield from _few(table, dataset, group)
    weights, n = resamples(table.people), len(table)
    right, passed = table.right.astype(np.float64), table.passed.astype(np.float64)
    yield _figure(
        dataset, group, ECE, calibration_error, table.certainty, right, weights=weights, n=n
    )
    yield _figure(dataset, group, PASSES, metrics.mean, passed, weights=weights, n=n)
    for level in ALERTS:
        names = doubted_at(level), found_at(level)
        for quantity, share in zip(names, table.alerts(level), strict=True):
            known = ~np.isnan(share)
            if known.any():
                yield _figure(
                    dataset, group, quantity, ratio, np.nan_to_num(share), known.astype(np.float64),
                    weights=weights, n=int(known.sum()),
                )  # fmt: skip
    for level in CERTAIN:
        sure = (table.certainty >= level).astype(np.float64)
        yield _figure(dataset, group, answered(level), metrics.mean, sure, weights=weights, n=n)
        if sure.any():
            yield _figure(
                dataset, group, accuracy_at(level), ratio, sure * right, sure,
                weights=weights, n=int(sure.sum()),
            )  # fmt: skip


def _by_region(table: RegionTable, dataset: str) -> Iterator[Figure]:
    weights = resamples(table.people)
    for at, term in enumerate(table.values):
        group = f"region: {term}"
        truly, said = (table.only == at).astype(np.float64), (table.answer == at).astype(np.float64)
        right = table.right.astype(np.float64)
        if truly.any():
            yield _figure(
                dataset, group, RECALL, ratio, truly * right, truly,
                weights=weights, n=int(truly.sum()),
            )  # fmt: skip
        if said.any():
            yield _figure(
                dataset, group, PRECISION, ratio, said * right, said,
                weights=weights, n=int(said.sum()),
            )  # fmt: skip


def groups(slices: Sequence[Slice]) -> Iterator[tuple[str, Bools]]:
    """Names of groups, and which images are in each."""
    years = np.array([float(one.age) if one.age else np.nan for one in slices])
    for low, high in AGES:
        yield f"age: {low} to {high - 1}", (years >= low) & (years < high)
    for name in ("sex", "source", "plane", "manufacturer", "contrast", "protocol", "kernel"):
        found = np.array([getattr(one, name) for one in slices])
        for value in np.unique(found):
            if value:
                yield f"{name}: {value}", found == value


def passing(passed: Bools, dataset: str) -> Figure:
    """The share of independent images that pass the gates."""
    people = [str(at) for at in range(len(passed))]
    share = passed.astype(np.float64)
    return _figure(
        dataset, "", PASSES, metrics.mean, share, weights=resamples(people), n=len(passed)
    )


def of_baseline(
    table: RegionTable, answer: NDArray[np.int64], dataset: str, quantity: str
) -> Figure:
    """Accuracy of other answers (N,) to the images of ``table``."""
    right = table.targets[np.arange(len(table)), answer].astype(np.float64)
    weights = resamples(table.people)
    return _figure(dataset, "", quantity, metrics.mean, right, weights=weights, n=len(table))


def confusion(table: RegionTable) -> NDArray[np.int64]:
    """Images by their only right value (rows) and the answer (columns)."""
    size = len(table.values)
    known = table.only >= 0
    found = np.zeros((size, size), np.int64)
    np.add.at(found, (table.only[known], table.answer[known]), 1)
    return found


def nearest_centroid(
    features: Floats, targets: NDArray[np.float32], folds: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The baseline: of each image the value whose mean over the other folds is nearest.

    ``features`` (N, F) are scaled to unit variance; an image with several right values is in the
    mean of each.
    """
    scaled = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-6)
    found = np.zeros(len(features), np.int64)
    for fold in np.unique(folds):
        others, here = folds != fold, folds == fold
        counts = targets[others].sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            centres = (targets[others].T @ scaled[others]) / counts[:, None]
        distance = np.square(scaled[here][:, None] - np.nan_to_num(centres)[None]).sum(axis=2)
        distance[:, counts == 0] = np.inf
        found[here] = distance.argmin(axis=1)
    return found
