"""MIMIC-CXR-JPG: ``mimic-cxr-2.*-metadata.csv.gz``, labels, split, and ``files/p10/p100.../*.jpg``.

377,110 images of 227,827 studies of one hospital. Columns relied on: dicom_id, subject_id,
study_id, ViewPosition and StudyDate of the metadata; the findings of ``*-chexpert.csv.gz`` (else
``*-negbio.csv.gz``); split of ``*-split.csv.gz``. Age and sex are not published with it: they come
from ``patients.csv.gz`` of MIMIC-IV (module hosp, columns subject_id, gender, anchor_age,
anchor_year), put next to the other tables. The age is anchor_age plus the years from anchor_year to
the study, both shifted by the same years, so it is right within a year. An anchor_age over 89 is
written as 91 and makes no age at all. Source: PhysioNet's pages of MIMIC-CXR-JPG 2.1 and MIMIC-IV
(patients).
"""

from collections.abc import Iterator
from pathlib import Path

from training.data.index import IndexRow
from training.data.labels import Labels, labels_of_columns
from training.data.tables import CsvLine, read_table
from training.readers.chexpert import FINDINGS, findings
from training.readers.layout import NO_FILE, Tally, find_table, view_of

LICENCE = "PhysioNet Credentialed Health Data License 1.5.0"
CENSORED_ANCHOR = 89


def read(root: Path, tally: Tally) -> Iterator[IndexRow]:
    """Rows of MIMIC-CXR-JPG below ``root``, the folder of its tables."""
    metadata = find_table(root, "mimic-cxr-*-metadata.csv*")
    patients = _patients(find_table(root, "patients.csv*", "hosp/patients.csv*"))
    found = _findings(find_table(root, "mimic-cxr-*-chexpert.csv*", "mimic-cxr-*-negbio.csv*"))
    splits = _splits(root)
    required = ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate")
    for line in read_table(metadata, required):
        subject, study, name = line["subject_id"], line["study_id"], line["dicom_id"]
        image = f"files/p{subject[:2]}/p{subject}/s{study}/{name}.jpg"
        if not (root / image).is_file():
            tally[NO_FILE] += 1
            continue
        labels = _labels(line, patients.get(subject))
        tally.update(labels.doubts)
        yield IndexRow(
            image=image,
            dataset="mimic",
            patient=f"mimic_{subject}",
            age=labels.age,
            sex=labels.sex,
            view=view_of(line["ViewPosition"]),
            findings=found.get(study, ()),
            licence=LICENCE,
            split=splits.get(name, ""),
        )


def _labels(line: CsvLine, patient: CsvLine | None) -> Labels:
    if patient is None:  # not every subject of MIMIC-CXR is in MIMIC-IV
        return labels_of_columns()
    anchor = int(patient.number_in("anchor_age", 0, 120))
    if anchor > CENSORED_ANCHOR:  # rule E8, also for studies of earlier years
        return labels_of_columns(age=str(anchor), sex=patient["gender"], deidentified=True)
    year = int(line.number_in("StudyDate", 1800_01_01, 2999_12_31)) // 10_000
    age = anchor + year - int(patient.number_in("anchor_year", 1800, 2999))
    return labels_of_columns(age=str(age), sex=patient["gender"], deidentified=True)


def _patients(table: Path) -> dict[str, CsvLine]:
    required = ("subject_id", "gender", "anchor_age", "anchor_year")
    return {line["subject_id"]: line for line in read_table(table, required)}


def _findings(table: Path) -> dict[str, tuple[str, ...]]:
    return {line["study_id"]: findings(line) for line in read_table(table, ("study_id", *FINDINGS))}


def _splits(root: Path) -> dict[str, str]:
    table = next(iter(sorted(root.glob("mimic-cxr-*-split.csv*"))), None)
    if table is None:
        return {}
    return {line["dicom_id"]: line["split"] for line in read_table(table, ("dicom_id", "split"))}
