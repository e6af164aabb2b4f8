"""The command that deals the images of several indexes out to patient-left-out folds.

python -m training.folds nih/index.csv site.csv --duplicates duplicates.json --out folds.csv
"""

import argparse
from pathlib import Path

import numpy as np

from training.data.folds import FOLDS, assign, write_folds
from training.data.groups import groups
from training.data.index import files, gathered
from training.data.near_duplicates import read_links
from training.data.tables import DataError


def main() -> None:
    """Deal the images of an index out to folds."""
    parser = argparse.ArgumentParser(
        description="patient-left-out folds",
        epilog="example: python -m training.folds nih/index.csv site/index.csv"
        " --duplicates duplicates.json --out folds.csv",
    )
    parser.add_argument("indexes", type=Path, nargs="+", help="index files")
    parser.add_argument("--duplicates", type=Path, help="report of training.duplicates")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folds", type=int, default=FOLDS)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    try:
        rows = gathered(given.out.parent, given.indexes)
        links = read_links(given.duplicates, files(given.out, rows)) if given.duplicates else []
        folds = assign(rows, links, count=given.folds, seed=given.seed)
    except DataError as error:
        raise SystemExit(f"error: {error}") from error
    write_folds(rows, folds, given.out)
    group = groups(rows, links)
    for fold in range(given.folds):
        at = np.flatnonzero(folds == fold)
        ages = [age for i in at if (age := rows[i].age) is not None]
        patients = len({group[i] for i in at})
        mean = f"{np.mean(ages):.1f}" if ages else "unknown"
        print(f"fold {fold}: {len(at):,} images, {patients:,} groups, mean age {mean}")


if __name__ == "__main__":
    main()
