"""Measure a bundle on images that did not train it; write the figures and the card.

    python -m training.evaluate --bundle models/chest-age-sex [--write]

``val`` calibrates and gives the figures, so coverage is cross-fitted; ``val_128`` (low resolution),
``external_dev`` and ``hannover`` are looks from outside to which nothing was tuned.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_ai_node.inference import bundle
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.types import Prediction
from training import card, data, metrics
from training.build_bundle import calibration_cases, floats

Figures = list[dict[str, object]]


class Table:
    """Figures of one data set in the making."""

    def __init__(self, dataset: str, patients: list[str]) -> None:
        self.dataset, self.patients = dataset, patients
        self.figures: Figures = []

    def add(self, quantity: str, value: float, n: int) -> None:
        """Add a value without an interval."""
        self._append(quantity, value, None, None, n)

    def measure(self, quantity: str, statistic: Callable[..., float], *columns: object) -> None:
        """Add a statistic with its patient-bootstrap interval."""
        arrays = [np.asarray(column, dtype=np.float64) for column in columns]
        known = ~np.isnan(np.stack(arrays)).any(axis=0)
        patients = [self.patients[i] for i in np.flatnonzero(known)]
        found = metrics.bootstrap(statistic, patients, *(array[known] for array in arrays))
        self._append(quantity, found.value, found.low, found.high, int(known.sum()))

    def _append(
        self, quantity: str, value: float, low: float | None, high: float | None, n: int
    ) -> None:
        numbers = {"value": value, "low": low, "high": high}
        rounded = {k: None if v is None else round(v, 4) for k, v in numbers.items()}
        self.figures.append({"dataset": self.dataset, "quantity": quantity, **rounded, "n": n})
        interval = "" if low is None else f"  ({low:.4f} to {high:.4f})"
        print(f"{self.dataset:14} {quantity:44} {value:9.4f}{interval}  n={n}", flush=True)


def column(predictions: list[Prediction], name: str) -> NDArray[np.float64]:
    """One field of every prediction."""
    return np.array([getattr(p, name) for p in predictions], dtype=np.float64)


def passes(predictions: list[Prediction], estimator: Estimator) -> dict[str, NDArray[np.float64]]:
    """Whether each gate lets each image pass, and whether all do."""
    thresholds = estimator.manifest.thresholds
    gates = {
        name: (column(predictions, name) >= getattr(thresholds, name)).astype(np.float64)
        for name in ("chest", "frontal", "in_distribution")
    }
    return gates | {"every gate": np.prod(list(gates.values()), axis=0)}


def age_and_sex(
    table: Table, images: data.Images, predictions: list[Prediction], median: float
) -> None:
    """Add everything about the two estimates."""
    years, female = images.column("age"), images.column("female")
    mu, p = column(predictions, "age"), column(predictions, "probability_female")
    if not np.isnan(years).all():
        table.measure("age MAE, years", metrics.mae, mu, years)
        table.measure("age MAE of the training median", metrics.mae, mu * 0 + median, years)
        table.measure("age RMSE, years", metrics.rmse, mu, years)
        table.measure("age bias, years", metrics.bias, mu, years)
        table.measure("age R2", metrics.r2, mu, years)
    table.measure("sex AUC", metrics.auc, p, female)
    table.measure("sex accuracy", metrics.accuracy, p, female)
    table.measure("sex Brier score", metrics.brier, p, female)
    table.measure("sex calibration error", metrics.calibration_error, p, female)
    for share in (0.01, 0.05):
        known = ~np.isnan(female)
        value = metrics.accuracy_of_surest(p[known], female[known].astype(np.float64), share)
        table.add(f"sex accuracy without the least sure {share:.0%}", value, int(known.sum()))


def fixed_coverage(table: Table, images: data.Images, predictions: list[Prediction]) -> None:
    """Add the coverage of the shipped 90 % interval; only for sets that calibrated nothing."""
    years = images.column("age")
    low, high = np.array([p.age_interval90 for p in predictions]).T
    inside = np.where(np.isnan(years), np.nan, (years >= low) & (years <= high))
    table.measure("age coverage at 90 %", lambda c: float(np.mean(c)), inside)
    table.measure("age width at 90 %, years", lambda w: float(np.mean(w)), high - low)


def passing(
    table: Table,
    images: data.Images,
    predictions: list[Prediction],
    passed: NDArray[np.float64],
) -> None:
    """Add the main figures of those images that every gate lets pass: what would be reported."""
    years, female = (
        np.where(passed == 1, images.column(name), np.nan) for name in ("age", "female")
    )
    p = column(predictions, "probability_female")
    if not np.isnan(years).all():
        table.measure(
            "age MAE of what passes, years", metrics.mae, column(predictions, "age"), years
        )
    table.measure("sex AUC of what passes", metrics.auc, p, female)
    table.measure("sex accuracy of what passes", metrics.accuracy, p, female)
    certain = np.where(np.maximum(p, 1 - p) >= 0.95, p, np.nan)
    table.measure("sex accuracy of what passes, 95 % certain", metrics.accuracy, certain, female)


def gates(table: Table, passed: dict[str, NDArray[np.float64]]) -> None:
    """Add the share of images that pass each gate."""
    for name, values in passed.items():
        table.measure(f"passes {name}", lambda c: float(np.mean(c)), values)


def by_group(table: Table, images: data.Images, predictions: list[Prediction]) -> None:
    """Add MAE and bias by decade, and MAE by sex and view."""
    years, mu = images.column("age"), column(predictions, "age")
    sexes, views = images.column("female"), np.array([i.view for i in images.items])
    groups = {f"{d} to {d + 9}": (years >= d) & (years < d + 10) for d in range(10, 90, 10)}
    groups |= {"female": sexes == 1, "male": sexes == 0, "PA": views == "PA", "AP": views == "AP"}
    for name, chosen in groups.items():
        if chosen.sum() >= 8:
            error = mu[chosen] - years[chosen]
            table.add(f"age MAE, {name}", float(np.mean(np.abs(error))), int(chosen.sum()))
            table.add(f"age bias, {name}", float(np.mean(error)), int(chosen.sum()))


def evaluate(estimator: Estimator, path: Path, root: Path, cache: Path) -> Figures:
    """Every figure of the card."""
    ages = [i.age for i in data.items(root) if i.role in ("train", "train_128")]
    median = float(np.nanmedian(ages))
    figures: Figures = []
    for role in ("val", "val_128", "external_dev", "hannover"):
        images = data.load(root, cache, estimator.size, role)
        predictions = estimator.predict(floats(images))
        table = Table(role, [item.patient for item in images.items])
        age_and_sex(table, images, predictions, median)
        if role == "val":
            by_group(table, images, predictions)
            plain = calibration_cases(estimator.measure, images)
            shifted = calibration_cases(estimator.measure, images, changed=True)
            caution = estimator.manifest.training.caution
            for c in metrics.cross_fitted(plain, shifted, caution=caution):
                n = len(images.items)
                table.add(f"age coverage at {c.level} %, cross-fitted", c.coverage, n)
                table.add(f"age width at {c.level} %, years, cross-fitted", c.width, n)
            corrupted(figures, estimator, floats(images), table.patients)
        elif role != "hannover":
            fixed_coverage(table, images, predictions)
        passed = passes(predictions, estimator)
        gates(table, passed)
        if role != "val":
            passing(table, images, predictions, passed["every gate"])
        figures += table.figures
    return figures + gate_test(estimator, root, cache)


def corrupted(
    figures: Figures, estimator: Estimator, pixels: NDArray[np.float32], patients: list[str]
) -> None:
    """Add what passes of val when it is turned or inverted."""
    for name, images in {
        "turned by 90": np.rot90(pixels, 1, (1, 2)),
        "turned by 180": np.rot90(pixels, 2, (1, 2)),
        "turned by 270": np.rot90(pixels, 3, (1, 2)),
        "upside down": pixels[:, ::-1],
        "inverted": 1 - pixels,
    }.items():
        table = Table(f"val, {name}", patients)
        predictions = estimator.predict(np.ascontiguousarray(images, dtype=np.float32))
        passed = passes(predictions, estimator)
        gates(table, {name: passed[name] for name in ("chest", "every gate")})
        figures += table.figures


def gate_test(estimator: Estimator, root: Path, cache: Path) -> Figures:
    """Share of the held-out gate material that passes, by source."""
    images = data.load(root, cache, estimator.size, "gate_test")
    predictions = estimator.predict(floats(images))
    passed = passes(predictions, estimator)
    names = [
        "lateral" if i.frontal == 0 else ("frontal " if i.chest else "") + i.source
        for i in images.items
    ]
    figures: Figures = []
    for name in sorted(set(names)):
        at = np.array([n == name for n in names])
        table = Table(
            f"gates, {name}", [i.patient for i, use in zip(images.items, at, strict=True) if use]
        )
        gates(table, {gate: values[at] for gate, values in passed.items()})
        figures += table.figures
    return figures


def main() -> None:
    """Read the command line, measure, print, and with --write store."""
    parser = argparse.ArgumentParser(description="measure a bundle")
    parser.add_argument("--bundle", type=Path, default=Path("models/chest-age-sex"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    path: Path = given.bundle
    estimator = Estimator(path, device="cpu", batch=32)
    figures = evaluate(estimator, path, given.data, given.cache)
    if given.write:
        manifest = estimator.manifest.model_dump(mode="json") | {"figures": figures}
        checked = bundle.Manifest.model_validate(manifest)
        (path / bundle.MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
        (path / bundle.CARD).write_text(card.text(checked))


if __name__ == "__main__":
    main()
