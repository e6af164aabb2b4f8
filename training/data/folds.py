"""Patient-left-out folds, and the predictions that each fold's network makes of what it never saw.

    python -m training folds nih/index.csv site.csv --duplicates duplicates.json --out folds.csv

Folds are stratified by age decade and sex. No patient, and no near-duplicate of an image, stands in
two of them. They depend on the images and the seed, not on the order of the indexes. Images are
named by their path from the folder of the file that the folds are written to.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from training.data.index import IndexRow, files, read_indexes
from training.data.near_duplicates import Link, groups, read_links
from training.data.options import Indexes
from training.data.tables import DataError, read_table, write_table

FOLDS = 5
_COLUMNS = ("image", "fold", "age", "age_sd", "probability_female")


def assign(
    rows: Sequence[IndexRow], duplicates: Iterable[Link] = (), *, count: int = FOLDS, seed: int = 0
) -> NDArray[np.int64]:
    """The fold of each row, 0 to ``count`` - 1.

    ``duplicates`` are positions of near-duplicates (:func:`read_links`).

    Raises DataError: there are fewer groups of patients than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # takes a second to import

    group = groups(rows, duplicates)
    first: dict[int, str] = {}
    for row, number in zip(rows, group, strict=True):
        first[number] = min(first.get(number, row.image), row.image)
    if len(first) < count:
        raise DataError(f"expected at least {count} patients for {count} folds, got {len(first)}")
    order = sorted(range(len(rows)), key=lambda i: rows[i].image)
    names = np.array([first[group[i]] for i in order])
    strata = _strata([rows[i] for i in order], count)
    splitter = StratifiedGroupKFold(n_splits=count, shuffle=True, random_state=seed)
    folds = np.empty(len(rows), dtype=np.int64)
    for fold, (_, held_out) in enumerate(splitter.split(names, strata, names)):
        folds[np.array(order)[held_out]] = fold
    return folds


def _strata(rows: Sequence[IndexRow], count: int) -> NDArray[np.str_]:
    """Decade and sex of each row; what is rarer than a row a fold goes together.

    Or with the most common, where it is rarer than that even together.
    """
    named = [f"{_decade(row.age)} {row.sex or 'unknown'}" for row in rows]
    times = Counter(named)
    common = {name for name in times if times[name] >= count}
    few = len(common) > 0 and sum(name not in common for name in named) < count
    rest = times.most_common(1)[0][0] if few else "rare"
    return np.array([name if name in common else rest for name in named])


def _decade(age: float | None) -> str:
    return "unknown" if age is None else f"{int(age // 10) * 10:03d}"


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """What a network says of an image of the fold that it was not trained on."""

    image: str
    fold: int
    age: float
    age_sd: float
    probability_female: float


def write_predictions(predictions: Iterable[OutOfFold], path: Path) -> None:
    """Write out-of-fold predictions as CSV, to six digits behind the point."""
    rows = (
        (p.image, p.fold, *(f"{x:.6f}" for x in (p.age, p.age_sd, p.probability_female)))
        for p in predictions
    )
    write_table(path, _COLUMNS, rows)


def read_predictions(path: Path) -> list[OutOfFold]:
    """Read out-of-fold predictions; DataError names file, line, column and what was expected."""
    return [
        OutOfFold(
            image=line["image"],
            fold=int(line.number_in("fold", 0, 1000)),
            age=line.number_in("age", -50, 200),
            age_sd=line.number_in("age_sd", 0, 200),
            probability_female=line.number_in("probability_female", 0, 1),
        )
        for line in read_table(path, _COLUMNS)
    ]


def write_folds(
    rows: Sequence[IndexRow], folds: Sequence[int] | NDArray[np.int64], path: Path
) -> None:
    """Write the fold of each image as CSV, for runs that must share their folds."""
    write_table(path, ("image", "fold"), zip((r.image for r in rows), map(int, folds), strict=True))


def read_folds(path: Path) -> Mapping[str, int]:
    """The fold of each image, by its path from the folder of the file."""
    lines = read_table(path, ("image", "fold"))
    return {line["image"]: int(line.number_in("fold", 0, 1000)) for line in lines}


def main(
    indexes: Indexes,
    out: Annotated[Path, typer.Option(help="CSV to write.")],
    duplicates: Annotated[Path | None, typer.Option(help="Report of duplicates.")] = None,
    folds: int = FOLDS,
    seed: int = 0,
) -> None:
    """Deal the images of indexes out to folds."""
    rows = read_indexes(out.parent, indexes)
    links = read_links(duplicates, files(out, rows)) if duplicates else []
    dealt = assign(rows, links, count=folds, seed=seed)
    write_folds(rows, dealt, out)
    group = groups(rows, links)
    for fold in range(folds):
        at = np.flatnonzero(dealt == fold)
        ages = [age for i in at if (age := rows[i].age) is not None]
        patients = len({group[i] for i in at})
        mean = f"{np.mean(ages):.1f}" if ages else "unknown"
        print(f"fold {fold}: {len(at):,} images, {patients:,} groups, mean age {mean}")
