"""The one table of an evaluation: what was recorded and what was predicted, a row an image.

Figures, plots and report are computed from it and from nothing else, so whoever has the CSV can
compute them again, or others. Its groups are those that figures are given for. Ages are completed
years, so who is recorded as 70 is over 70: ``70 and over`` begins there.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_ai_node.inference.intervals import LEVELS
from training.measure.metrics import Bools, Floats

Strings = NDArray[np.str_]
GATES = ("chest", "frontal", "in_distribution")

FRONTAL, LATERAL, OTHER, SPOILT = "frontal chest", "lateral chest", "not a chest", "spoilt chest"
"""Kinds of image; a spoilt one is turned or inverted."""

TEXTS = ("dataset", "kind", "image", "patient", "source", "view")

SMALLEST = 8
"""A group with fewer images gets no figures but their number."""

DECADES = tuple(range(0, 110, 10))
CHILDREN, YOUNG, OLD, OLDEST = "under 18", "under 20", "70 and over", "85 and over"


@dataclass(frozen=True, slots=True)
class PredictionTable:
    """N images; every field has N rows."""

    dataset: Strings
    kind: Strings
    image: Strings
    """Path below the data's root."""
    patient: Strings
    source: Strings
    view: Strings
    """``PA``, ``AP`` or ''."""
    recorded: Floats
    """Age as the source recorded it, years; NaN when unknown or not to be used."""
    female: Floats
    """1 or 0, NaN when unknown or not to be used."""
    age: Floats
    """Estimate, years."""
    sd: Floats
    low: Floats
    """Lower ends of the intervals at each of ``LEVELS``, years, shape (N, 4)."""
    high: Floats
    p_female: Floats
    gates: Floats
    """Scores of the :data:`GATES`, shape (N, 3)."""
    passed: Bools
    """Whether each gate lets the image pass, shape (N, 3)."""

    def __len__(self) -> int:
        return len(self.age)

    @property
    def answered(self) -> Bools:
        """Whether every gate lets the image pass: only then would the node answer."""
        return np.asarray(self.passed.all(axis=1))

    def where(self, chosen: Bools) -> "PredictionTable":
        """Rows that are ``chosen``."""
        return PredictionTable(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def of(self, dataset: str) -> "PredictionTable":
        """Rows of one data set."""
        return self.where(self.dataset == dataset)

    def interval(self, level: str) -> tuple[Floats, Floats]:
        """Ends of the interval at ``level`` per cent, one of ``LEVELS``."""
        at = LEVELS.index(level)
        return self.low[:, at], self.high[:, at]


def joined(tables: Sequence[PredictionTable]) -> PredictionTable:
    """Rows of all ``tables``, in their order."""
    names = [field.name for field in fields(PredictionTable)]
    return PredictionTable(
        *(np.concatenate([getattr(table, name) for table in tables]) for name in names)
    )


def write_csv(file: Path, table: PredictionTable) -> None:
    """Write ``table``, numbers with four decimals."""
    bounds = [f"{end}{level}" for level in LEVELS for end in ("low", "high")]
    head = [*TEXTS, "recorded", "sex", "age", "sd", *bounds, "p_female"]
    head += [*GATES, *(f"pass_{gate}" for gate in GATES)]
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(head)
        for i in range(len(table)):
            ends = np.stack([table.low[i], table.high[i]], axis=1).ravel()
            sex = {1.0: "F", 0.0: "M"}.get(float(table.female[i]), "")
            recorded = "" if np.isnan(table.recorded[i]) else f"{table.recorded[i]:g}"
            row = [str(getattr(table, name)[i]) for name in TEXTS] + [recorded, sex]
            row += [f"{v:.4f}" for v in (table.age[i], table.sd[i], *ends, table.p_female[i])]
            row += [f"{v:.4f}" for v in table.gates[i]] + [str(int(v)) for v in table.passed[i]]
            writer.writerow(row)


def read_csv(file: Path) -> PredictionTable:
    """Read what :func:`write_csv` wrote.

    Raises ValueError: a column is missing, a number is none, or there is no row; names the file and
    the column.
    """
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    if not rows:
        raise ValueError(f"{file}: expected at least one row below the head")

    def texts(name: str) -> list[str]:
        if rows[0].get(name) is None:
            raise ValueError(f"{file}: expected a column {name!r}")
        return [row[name] for row in rows]

    def column(name: str) -> list[float]:
        found = texts(name)
        try:
            return [float(text or "nan") for text in found]
        except ValueError as error:
            raise ValueError(f"{file}: column {name!r}: {error}") from error

    def numbers(*names: str) -> Floats:
        return np.array([column(name) for name in names], dtype=np.float64).T

    sexes = {"F": 1.0, "M": 0.0}
    return PredictionTable(
        **{name: np.array(texts(name)) for name in TEXTS},
        recorded=np.array(column("recorded")),
        female=np.array([sexes.get(text, np.nan) for text in texts("sex")]),
        age=np.array(column("age")),
        sd=np.array(column("sd")),
        low=numbers(*(f"low{level}" for level in LEVELS)),
        high=numbers(*(f"high{level}" for level in LEVELS)),
        p_female=np.array(column("p_female")),
        gates=numbers(*GATES),
        passed=numbers(*(f"pass_{gate}" for gate in GATES)) == 1,
    )


@dataclass(frozen=True, slots=True)
class ImageGroup:
    """Some images of a data set."""

    axis: str
    """``sex``, ``view``, ``view and sex``, ``source``, ``decade`` or ``age``."""
    name: str
    chosen: Bools

    @property
    def label(self) -> str:
        """How figures name the group."""
        return label(self.axis, self.name)


def label(axis: str, name: str) -> str:
    """Name of a group in figures."""
    return f"{axis}: {name}"


def decade(start: int) -> str:
    """Name of the decade of age that begins at ``start``."""
    return f"{start} to {start + 9}"


def groups(table: PredictionTable) -> list[ImageGroup]:
    """Every group of ``table`` (one data set) that has an image."""
    return [group for group in _groups(table) if group.chosen.any()]


def _groups(table: PredictionTable) -> Iterator[ImageGroup]:
    years, sexes = table.recorded, {"female": table.female == 1, "male": table.female == 0}
    for sex, chosen in sexes.items():
        yield ImageGroup("sex", sex, chosen)
    views = [str(view) for view in np.unique(table.view) if view]
    for view in views:
        yield ImageGroup("view", view, table.view == view)
    for view in views:
        for sex, chosen in sexes.items():
            yield ImageGroup("view and sex", f"{view}, {sex}", (table.view == view) & chosen)
    for source in np.unique(table.source):
        yield ImageGroup("source", str(source), table.source == source)
    for start in DECADES:
        yield ImageGroup("decade", decade(start), (years >= start) & (years < start + 10))
    for name, chosen in {
        CHILDREN: years < 18,
        YOUNG: years < 20,
        OLD: years >= 70,
        OLDEST: years >= 85,
    }.items():
        yield ImageGroup("age", name, chosen)
