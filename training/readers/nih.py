"""NIH ChestX-ray14: ``Data_Entry_2017*.csv`` and ``images_001/images/*.png`` to ``images_012``.

112,120 frontal PNG of 1024 x 1024 from one institution. Columns relied on: Image Index, Finding
Labels (joined by ``|``), Patient ID, Patient Age, Patient Gender, View Position. Ages are years,
in the first release as '058Y' or '013M'; some are 148 to 414 and are dropped by rule C2. The
official lists ``train_val_list.txt`` and ``test_list.txt`` give the split where they are there.
Source: the data set's own README and table headers as public code uses them (torchxrayvision).
"""

from collections.abc import Iterator
from pathlib import Path

from training.data.index import IndexRow
from training.data.labels import labels_of_columns
from training.data.tables import read_table
from training.readers.layout import NO_FILE, Tally, by_name, find_table, view_of

LICENCE = "NIH Clinical Center: free use with attribution"
COLUMNS = ("Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender")


def read(root: Path, tally: Tally) -> Iterator[IndexRow]:
    """Rows of ChestX-ray14 below ``root``."""
    table = find_table(root, "Data_Entry_2017*.csv*")
    images = by_name(root, ".png")
    splits = _splits(root)
    for line in read_table(table, (*COLUMNS, "View Position")):
        name = line["Image Index"]
        if name not in images:
            tally[NO_FILE] += 1
            continue
        labels = labels_of_columns(age=line["Patient Age"], sex=line["Patient Gender"])
        tally.update(labels.doubts)
        yield IndexRow(
            image=images[name],
            dataset="nih",
            # The joined sets of other readers name the same patients the same way.
            patient=f"nih_{line['Patient ID'].lstrip('0')}",
            age=labels.age,
            sex=labels.sex,
            view=view_of(line["View Position"]),
            findings=tuple(line["Finding Labels"].split("|")),
            licence=LICENCE,
            split=splits.get(name, ""),
        )


def _splits(root: Path) -> dict[str, str]:
    named = (("train", "train_val_list.txt"), ("test", "test_list.txt"))
    return {
        name: split
        for split, file in named
        if (root / file).is_file()
        for name in (root / file).read_text().split()
    }
