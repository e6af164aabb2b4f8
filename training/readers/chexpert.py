"""CheXpert: ``train.csv``, ``valid.csv`` and the JPEG files that their Path column names.

224,316 images of 65,240 patients of one hospital. Columns relied on: Path (with the folder
``CheXpert-v1.0`` or ``CheXpert-v1.0-small`` in front), Sex (Male, Female, Unknown in one row), Age
in years (0 where unknown; the oldest are put together, so 89 and over is a bound, rule E8),
Frontal/Lateral, AP/PA, and 14 findings with 1 present, 0 absent, -1 uncertain, empty not mentioned.
Source: the table headers as public code uses them (torchxrayvision, TensorFlow Datasets).
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from training.data.index import IndexRow
from training.data.labels import labels_of_columns
from training.data.tables import CsvLine, DataError, read_table
from training.readers.layout import NO_FILE, Tally, view_of

LICENCE = "Stanford University Dataset Research Use Agreement: non-commercial"
COLUMNS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA")
FINDINGS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)


def read(root: Path, tally: Tally) -> Iterator[IndexRow]:
    """Rows of CheXpert below ``root``, the folder of ``train.csv``."""
    tables = [root / f"{split}.csv" for split in ("train", "valid")]
    there = [table for table in tables if table.is_file()]
    if not there:
        raise DataError(f"{root}: expected a file train.csv or valid.csv")
    for table in there:
        for line in read_table(table, COLUMNS):
            image = _image(root, line)
            if not (root / image).is_file():
                tally[NO_FILE] += 1
                continue
            labels = labels_of_columns(age=line["Age"], sex=line["Sex"], deidentified=True)
            tally.update(labels.doubts)
            lateral = line["Frontal/Lateral"] == "Lateral"
            yield IndexRow(
                image=image,
                dataset="chexpert",
                patient=f"chexpert_{_patient(line)}",
                age=labels.age,
                sex=labels.sex,
                view="LATERAL" if lateral else _frontal(line["AP/PA"]),
                findings=findings(line),
                licence=LICENCE,
                split=table.stem,
            )


def _image(root: Path, line: CsvLine) -> str:
    """The path below the folder of the tables, whatever the outer folder is called now."""
    parts = PurePosixPath(line["Path"]).parts
    inner = PurePosixPath(*parts[1:])
    outer = bool(parts) and parts[0].startswith("CheXpert") and not (root / line["Path"]).is_file()
    return str(inner) if outer else line["Path"]


def _patient(line: CsvLine) -> str:
    found = [p for p in PurePosixPath(line["Path"]).parts if p.startswith("patient")]
    if not found:
        raise line.wrong("Path", "a path with the folder of a patient")
    return found[0].removeprefix("patient")


def _frontal(text: str) -> str:
    # A few frontal images have LL or RL here; which of the two columns is wrong cannot be told.
    return text if view_of(text) in ("PA", "AP") else ""


def findings(line: CsvLine) -> tuple[str, ...]:
    """Findings that are present, and the uncertain ones with a question mark."""
    marks = {"1": "", "1.0": "", "-1": "?", "-1.0": "?"}
    return tuple(name + marks[line[name]] for name in FINDINGS if line[name] in marks)
