"""The images that this project is developed with: ``cxr/index.csv`` below the root.

Columns relied on: path (from the root, to a WebP file), source, patient_id, age_years, sex, view,
finding (joined by ``|``), split, licence. The splits are the table's own; images of the source
``hannover``, whose sexes are looked at from outside, make a split of that name.
``training.data.project`` reads the same table with the roles of the first network's training.
"""

from collections.abc import Iterator
from pathlib import Path

from training.data.index import IndexRow
from training.data.labels import labels_of_columns
from training.data.tables import read_table
from training.readers.layout import NO_FILE, Tally, view_of

COLUMNS = (
    "path",
    "source",
    "patient_id",
    "age_years",
    "sex",
    "view",
    "finding",
    "split",
    "licence",
)
OWN_SPLIT = ("hannover",)


def read(root: Path, tally: Tally) -> Iterator[IndexRow]:
    """Rows of the chest radiographs below ``root``."""
    for line in read_table(root / "cxr" / "index.csv", COLUMNS):
        if not (root / line["path"]).is_file():
            tally[NO_FILE] += 1
            continue
        labels = labels_of_columns(age=line["age_years"], sex=line["sex"])
        tally.update(labels.doubts)
        yield IndexRow(
            image=line["path"],
            dataset=line["source"],
            patient=line["patient_id"],
            age=labels.age,
            sex=labels.sex,
            view=view_of(line["view"]),
            findings=tuple(part for part in line["finding"].split("|") if part),
            licence=line["licence"],
            split=line["source"] if line["source"] in OWN_SPLIT else line["split"],
        )
