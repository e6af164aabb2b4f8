"""PadChest: ``PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv`` (or .gz) and 16-bit PNG.

160,868 images of 67,000 patients of one hospital, in folders 0 to 54 or in one. Columns relied on:
ImageID, PatientID, PatientBirth (a year, such as 1930.0), StudyDate_DICOM (YYYYMMDD),
PatientSex_DICOM, Projection (PA, AP, AP_horizontal, L, COSTAL, EXCLUDE), ViewPosition_DICOM, Labels
(a Python list as text), Manufacturer_DICOM where it is there. No age is published: it is made from
the year of birth, taken as 1 July, and the date of the study, and so is half a year off on average
and one at most. Infants get none (rule C5). Source: the data set's README and its table headers as
public code uses them (torchxrayvision).
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from training.data.index import IndexRow
from training.data.labels import labels_of_columns
from training.data.tables import CsvLine, read_table
from training.readers.layout import NO_FILE, Tally, by_name, find_table, view_of

LICENCE = "PadChest Dataset Research Use Agreement: non-commercial"
COLUMNS = ("ImageID", "PatientID", "PatientBirth", "StudyDate_DICOM", "PatientSex_DICOM", "Labels")
# A day that the header rules know for 'only the year is known', and that errs to neither side.
MIDDLE_OF_YEAR = "0701"


def read(root: Path, tally: Tally) -> Iterator[IndexRow]:
    """Rows of PadChest below ``root``."""
    table = find_table(root, "PADCHEST_chest_x*labels*.csv*", "*/PADCHEST_chest_x*labels*.csv*")
    images = by_name(root, ".png")
    for line in read_table(table, (*COLUMNS, "Projection")):
        if line["ImageID"] not in images:
            tally[NO_FILE] += 1
            continue
        labels = labels_of_columns(
            sex=line["PatientSex_DICOM"],
            birth=_birth(line["PatientBirth"]),
            study=line["StudyDate_DICOM"].removesuffix(".0"),
        )
        tally.update(labels.doubts)
        yield IndexRow(
            image=images[line["ImageID"]],
            dataset="padchest",
            patient=f"padchest_{line['PatientID']}" if line["PatientID"] else "",
            age=labels.age,
            sex=labels.sex,
            view=view_of(line["Projection"] or line["ViewPosition_DICOM"]),
            findings=_findings(line),
            device=line["Manufacturer_DICOM"],
            licence=LICENCE,
        )


def _birth(text: str) -> str:
    year = text.removesuffix(".0")
    return year + MIDDLE_OF_YEAR if len(year) == 4 and year.isdecimal() else ""


def _findings(line: CsvLine) -> tuple[str, ...]:
    """``['normal']`` is what other sets call No Finding; a missing list is nothing known."""
    if not line["Labels"] or line["Labels"].lower() == "nan":
        return ()
    try:
        names = [str(name).strip() for name in ast.literal_eval(line["Labels"])]
    except (ValueError, SyntaxError, TypeError) as error:
        raise line.wrong("Labels", "a list of names, such as ['nodule']") from error
    return tuple("No Finding" if name == "normal" else name for name in names if name)
