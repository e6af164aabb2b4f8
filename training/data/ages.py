"""Ages of series and of single sections of CT, their patients, and folds of these.

Series stand in a CSV file in UTF-8 with the columns ``series``, ``patient``, ``age`` and ``sex``,
and ``source`` and ``licence`` where they are known. Paths are relative to the folder of the table;
a series is a folder of DICOM files or a NIfTI file. Sections are the axial CT of the trunk in an
index of body regions (:mod:`training.data.regions`). Ages pass the header rules, as every label
does (:mod:`training.data.labels`).
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.folds import FOLDS, assign
from training.data.index import IndexRow
from training.data.labels import labels_of_columns
from training.data.regions import TEST, Slice
from training.data.tables import DataError, read_table

TRUNK = frozenset({"CHEST", "HEART", "ABDOMEN", "PELVIS", "TSPINE", "LSPINE", "HIP"})
"""Regions of sections that are asked for an age."""


@dataclass(frozen=True, slots=True)
class Aged:
    """One series or section, and the age of its patient."""

    name: str
    """As the table has it."""
    file: Path
    patient: str
    age: float
    sex: str = ""
    source: str = ""
    licence: str = "not stated"
    region: str = ""
    """Of a section: what it shows, in the terms of its index."""


def read(table: Path, tally: Counter[str]) -> list[Aged]:
    """The series of ``table`` that have an age; ``tally`` counts why others are left out.

    Raises DataError: the table is not as it should be, or names one series twice.
    """
    found: dict[str, Aged] = {}
    for line in read_table(table, ("series", "patient", "age", "sex")):
        for needed in ("series", "patient"):
            if not line[needed]:
                raise line.wrong(needed, "a value")
        if line["series"] in found:
            raise line.wrong("series", "each series once")
        row = Aged(
            line["series"],
            table.parent / line["series"],
            line["patient"],
            float("nan"),
            source=line["source"] or table.parent.resolve().name,
            licence=line["licence"] or "not stated",
        )
        found[row.name] = _labelled(row, line["age"], line["sex"], tally)
    return _aged(list(found.values()), tally)


def sections(slices: Sequence[Slice], tally: Counter[str]) -> list[tuple[Aged, Slice]]:
    """Those of an index of body regions that are axial CT of the trunk and have an age."""
    found = []
    for one in slices:
        if one.use == TEST or one.modality != "CT" or one.plane != "axial":
            tally["section: no axial CT that may train"] += 1
        elif not one.terms or one.terms - TRUNK:
            tally["section: not of the trunk"] += 1
        else:
            row = Aged(
                one.name, one.file, one.patient or one.name, float("nan"),
                source=one.source, licence=one.licence, region=" ".join(sorted(one.terms)),
            )  # fmt: skip
            found.append((_labelled(row, one.age, one.sex, tally), one))
    kept = {row.name for row in _aged([row for row, _ in found], tally)}
    return [(row, one) for row, one in found if row.name in kept]


def _labelled(row: Aged, age: str, sex: str, tally: Counter[str]) -> Aged:
    labels = labels_of_columns(age=age, sex=sex)
    tally.update(doubt for doubt in labels.doubts if doubt.startswith("age"))
    return replace(row, age=float("nan") if labels.age is None else labels.age, sex=labels.sex)


def _aged(rows: Collection[Aged], tally: Counter[str]) -> list[Aged]:
    known = [row for row in rows if not math.isnan(row.age)]
    if len(known) < len(rows):
        tally["age: unknown"] += len(rows) - len(known)
    return known


def years(rows: Sequence[Aged]) -> NDArray[np.float64]:
    """The age of each, years."""
    return np.array([row.age for row in rows], np.float64)


def patients(rows: Sequence[Aged]) -> NDArray[np.str_]:
    """The patient of each; equal names of two sources are two patients."""
    return np.array([f"{row.source} {row.patient}" for row in rows])


def dealt(rows: Sequence[Aged], *, count: int = FOLDS) -> NDArray[np.int64]:
    """Patient-left-out folds, stratified by decade and sex: the fold of each row.

    Raises DataError: fewer patients than folds.
    """
    listed = [
        IndexRow(row.name, row.source, patient, row.age, row.sex)
        for row, patient in zip(rows, patients(rows).tolist(), strict=True)
    ]
    return assign(listed, count=count)


def digest(rows: Sequence[Aged]) -> str:
    """SHA-256 of names and patients in their order; ages may be mended."""
    named = json.dumps([[row.name, row.patient] for row in rows])
    return hashlib.sha256(named.encode()).hexdigest()


def enough(rows: Sequence[Aged], table: Path) -> None:
    """Raise DataError where there are not :data:`FEWEST` patients."""
    people = len(set(patients(rows).tolist()))
    if people < FEWEST:
        raise DataError(f"{table}: expected {FEWEST} patients with an age or more, got {people}")


FEWEST = 10
"""Patients, two a fold: what such a network is worth is another question."""
