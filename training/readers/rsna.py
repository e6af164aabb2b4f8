"""RSNA Pneumonia Detection Challenge: DICOM files and ``stage_2_detailed_class_info.csv``.

30,000 frontal images of ChestX-ray14 as Secondary Capture: ``stage_2_train_images/*.dcm`` and
``stage_2_test_images/*.dcm``. Columns relied on: patientId (the file's name), class, one line a
box, so images repeat. Age ('64', without its unit), sex and view come from the headers. The ids are
one an image and not one a patient: the patients are NIH's, so find the duplicates before you train
on both. Source: the challenge's data page and the headers of its files.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from training.data.index import IndexRow
from training.data.tables import DataError, read_table
from training.readers.folders import row_of
from training.readers.layout import Tally, files_below

LICENCE = "RSNA Pneumonia Detection Challenge rules: non-commercial"
CLASSES = {"Normal": "No Finding"}


def read(root: Path, tally: Tally) -> Iterator[IndexRow]:
    """Rows of the RSNA challenge below ``root``."""
    folders = {split: root / f"stage_2_{split}_images" for split in ("train", "test")}
    there = {split: folder for split, folder in folders.items() if folder.is_dir()}
    if not there:
        raise DataError(f"{root}: expected a folder stage_2_train_images or stage_2_test_images")
    table = root / "stage_2_detailed_class_info.csv"
    lines = read_table(table, ("patientId", "class"))
    classes = {line["patientId"]: line["class"] for line in lines}
    for split, folder in there.items():
        for file in files_below(folder):
            if file.suffix != ".dcm":
                continue
            row = row_of(root, folder.relative_to(root) / file, "rsna", tally)
            if row is not None:
                found = classes.get(file.stem, "")
                yield replace(
                    row,
                    patient=f"rsna_{file.stem}",
                    findings=(CLASSES.get(found, found),) if found else (),
                    licence=LICENCE,
                    split=split,
                )
