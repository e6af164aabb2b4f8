"""The slices of CT and MR that this project is developed with: an index of regions.

Images and their captions are in ``ct_mr/index.csv`` below the root. A caption names what a case
is about, not what one of its images shows, so each image was looked at on contact sheets, once
and by no radiologist: ``ct_mr_regions.csv`` beside this module has the terms that were seen, of 1
in 13 elsewhere on the body than the caption's (``stated`` keeps that). ``NONE`` are radiographs,
scouts and montages among them, ``UNCLEAR`` what was left out: projections of vessels, MR that is
called CT, fetuses, what could not be told.

Of low resolution, and in training alone, are MedNIST's heads, chests, abdomens and breasts;
radiographs are what is no slice. ``deeplesion`` and ``dicom_regions`` are test sets.
"""

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from training.data.regions import ONLY_TRAIN, TEST, TRAIN, Slice
from training.data.tables import CsvLine, read_table
from training.readers.region_folders import plane

SEEN = Path(__file__).with_name("ct_mr_regions.csv")
NONE, UNCLEAR = "NONE", "UNCLEAR"

STATED = {
    "brain": "BRAIN",
    "head": "HEAD",
    "orbit": "ORBIT",
    "sinus/face": "FACE",
    "neck": "NECK",
    "cervical spine": "CSPINE",
    "thoracic spine": "TSPINE",
    "lumbar spine": "LSPINE",
    "spine": "SPINE",
    "chest": "CHEST",
    "heart": "HEART",
    "breast": "BREAST",
    "abdomen": "ABDOMEN",
    "abdomen (pancreas)": "ABDOMEN",
    "abdomen (liver)": "ABDOMEN",
    "pelvis": "PELVIS",
    "hip": "HIP",
    "shoulder": "SHOULDER",
    "shoulder/apex": "SHOULDER CHEST",
    "arm": "UPPERARM",
    "elbow": "ELBOW",
    "hand/wrist": "HAND",
    "wrist": "WRIST",
    "thigh": "THIGH",
    "knee": "KNEE",
    "leg": "LOWERLEG",
    "foot/ankle": "FOOT",
}
"""Terms for the regions of the index; what is not here is none of one slice."""

NOTED = {
    "header says NECK; slice looks lumbar/abdominal": "ABDOMEN LSPINE",
    "header says CHEST; slice looks abdominal": "ABDOMEN",
}
"""The same for notes on headers that contradict their image."""

MEDNIST = {
    "mednist_AbdomenCT": "ABDOMEN PELVIS",
    "mednist_ChestCT": "CHEST",
    "mednist_HeadCT": "HEAD",
    "mednist_BreastMRI": "BREAST",
}
EVERY = {"mednist": 3, "radiographs": 4, "cxr": 60}
"""Of so many images one is taken: they are to be known, not to prevail."""


def read(root: Path, folder: Path) -> Iterator[Slice]:
    """Every image below ``root``, named from ``folder``.

    Raises DataError: a table is not what it should be.
    """
    yield from _slices(root, folder)
    yield from _others(root, folder)


def _slices(root: Path, folder: Path) -> Iterator[Slice]:
    with SEEN.open(newline="") as file:
        seen = {row["path"]: row["terms"] for row in csv.DictReader(file)}
    columns = ("path", "source", "patient_id", "split", "modality", "region", "licence", "note")
    for line in read_table(root / "ct_mr" / "index.csv", columns):
        known = NOTED.get(line["note"], STATED.get(line["region"], ""))
        stated = known if line["note"] != "phantom" else ""
        terms = seen.get(line["path"], stated or NONE)
        if terms == UNCLEAR:
            continue
        yield Slice(
            os.path.relpath(root / line["path"], folder),
            root / line["path"],
            terms=frozenset() if terms == NONE else frozenset(terms.split()),
            modality=line["modality"],
            source=line["source"],
            patient=line["patient_id"],
            use=TEST if line["split"] == "test" else TRAIN,
            age=line["age_years"],
            sex=line["sex"],
            plane=_plane(line["plane"]),
            protocol=line["protocol"],
            manufacturer=line["manufacturer"],
            contrast=line["contrast"],
            stated=stated if line["source"] == "medpix" else "",
            licence=line["licence"],
        )


def _plane(text: str) -> str:
    """Axial, coronal, sagittal or '', of a word or of ImageOrientationPatient (PS3.3 C.7.6.2)."""
    if text.startswith("["):
        return plane([float(x) for x in text.strip("[]").split(",")])
    named = {"ax": "axial", "transverse": "axial", "cor": "coronal", "sag": "sagittal"}
    word = named.get(text, text)
    return word if word in ("axial", "coronal", "sagittal") else ""


def _others(root: Path, folder: Path) -> Iterator[Slice]:
    """Material of low resolution, and what is no slice."""
    lines = list(read_table(root / "nonchest" / "index.csv", ("path", "modality", "body_part")))
    slices = [line for line in lines if _class(line) in MEDNIST]
    radiographs = [line for line in lines if line["modality"].startswith("DX")]
    for line in slices[:: EVERY["mednist"]]:
        yield _other(root, folder, line, MEDNIST[_class(line)], line["modality"])
    for line in radiographs[:: EVERY["radiographs"]]:
        yield _other(root, folder, line, "", "")
    table = read_table(root / "cxr" / "index.csv", ("path", "source", "split"))
    chests = [line for line in table if line["split"] == "train"]
    for line in chests[:: EVERY["cxr"]]:
        yield _other(root, folder, line, "", "")


def _class(line: CsvLine) -> str:
    return line["path"].split("/")[-2]


def _other(root: Path, folder: Path, line: CsvLine, terms: str, modality: str) -> Slice:
    return Slice(
        os.path.relpath(root / line["path"], folder),
        root / line["path"],
        terms=frozenset(terms.split()),
        modality=modality,
        source=line["source"],
        patient=_class(line) if terms else "",
        use=ONLY_TRAIN,
        licence=line["licence"],
    )
