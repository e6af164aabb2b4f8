"""SPR X-ray age and gender (Kaggle): ``train_age.csv``, ``train_gender.csv``, ``train/000000.png``.

10,702 labelled images of the Sociedade Paulista de Radiologia. Columns relied on: imageId (a
number; the file's name has it with leading zeros, in ``kaggle/kaggle/train`` as downloaded), age in
years, gender. **gender is 0 for female and 1 for male**: the tables do not say so; four independent
public programs that use them do, and none was found that says otherwise. One of those inverts the
pictures first: look at some before you train. Patients are not named, so every image counts as a
patient: find the duplicates before you trust a split.
"""

from collections.abc import Iterator
from pathlib import Path

from training.data.index import IndexRow
from training.data.labels import labels_of_columns
from training.data.tables import CsvLine, read_table
from training.readers.layout import NO_FILE, Tally, find_table

LICENCE = "Kaggle competition rules (SPR X-Ray Age and Gender)"
SEX = {"0": "F", "1": "M"}


def read(root: Path, tally: Tally) -> Iterator[IndexRow]:
    """Rows of the SPR set below ``root``; an image needs one of the two labels."""
    tables = [find_table(root, f"train_{name}.csv", f"*/train_{name}.csv") for name in SOUGHT]
    ages, sexes = (_column(table, name) for table, name in zip(tables, SOUGHT, strict=True))
    images = _images(root)
    for number in sorted(ages.keys() | sexes.keys()):
        if number not in images:
            tally[NO_FILE] += 1
            continue
        age = ages[number]["age"] if number in ages else ""
        labels = labels_of_columns(age=age, sex=_sex(sexes.get(number)))
        tally.update(labels.doubts)
        yield IndexRow(
            image=images[number],
            dataset="spr",
            age=labels.age,
            sex=labels.sex,
            licence=LICENCE,
            split="train",
        )


SOUGHT = ("age", "gender")


def _column(table: Path, name: str) -> dict[int, CsvLine]:
    lines = read_table(table, ("imageId", name))
    return {int(line.number_in("imageId", 0, 1e9)): line for line in lines}


def _sex(line: CsvLine | None) -> str:
    if line is None or not line["gender"]:
        return ""
    value = line["gender"].removesuffix(".0")
    if value not in SEX:
        raise line.wrong("gender", "0 (female) or 1 (male)")
    return SEX[value]


def _images(root: Path) -> dict[int, str]:
    """The labelled images by number; those of the folder ``test`` have the same numbers."""
    folders = [f for f in sorted(root.rglob("train")) if f.is_dir()]
    return {
        int(path.stem): path.relative_to(root).as_posix()
        for folder in folders
        for path in sorted(folder.glob("*.png"))
        if path.stem.isdecimal()
    }
