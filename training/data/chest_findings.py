"""This project's images whose findings are known, and which of them are for what.

``nih`` and ``nih_128`` bear the labels that were text-mined for ChestX-ray14. Images of ``rsna``
are images of NIH, too: where ``labels/rsna_to_nih.csv.gz`` says of which, they bear its labels,
else the challenge's class. Of ``siim`` no labels are at hand: its images train nothing here.

Left out of training by patient are every image of somebody with a box in ``labels/`` (the boxes
tell whether the network looks at the right place) and of one patient in ten: they choose between
candidates. ``val`` and ``val_128`` calibrate and measure, as NIH patients in no other split.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from training.data.findings import known
from training.data.images import (
    GATE_TEST,
    TRAINING,
    About,
    EvaluationSet,
    Images,
    Institution,
    LabelledImage,
)
from training.data.project import ProjectData, items, with_pixels
from training.data.tables import read_table

CHOICE, BOXED = "choice", "boxed"
"""Roles of what is left out of training."""
GATES = ("gate", GATE_TEST)
"""Roles of images whose findings nobody asks for."""
CHOOSES_OF_TEN = 3
"""crc32(patient) % 10 of the patients whose images are :data:`CHOICE`."""

SETS = (
    EvaluationSet("val", "`val`, NIH patients in no other split, 448 px", Institution.SAME),
    EvaluationSet("val_128", "`val_128`, NIH patients in no other split, 128 px", Institution.SAME),
)

SUMMARY = (
    "frontal chest radiographs of one institution (NIH Clinical Center) at 448 and 128 pixels, with"
    " the labels of ChestX-ray14: mined from reports by a program, 10 to 30 % of them wrong. The"
    " gates also on other body parts, laterals and frontal radiographs from public articles."
    " Patients with a box and one patient in ten were left out."
)
NOT_FOR = (
    "Diagnosis, treatment, triage, screening, or any decision about a patient: not for diagnosis."
    " Children, lateral views, other body parts, other hospitals without a measurement there. Not a"
    " medical device."
)


@dataclass(frozen=True)
class FindingsData:
    """Images below ``root`` with known findings, and the material of the gates."""

    root: Path
    cache: Path
    sets: Sequence[EvaluationSet] = SETS
    calibrates: str = "val"
    beside: Sequence[str] = ()
    chooses: str = CHOICE

    @cached_property
    def items(self) -> dict[str, LabelledImage]:
        """Every image that is of use, by its path, with its role and its findings."""
        labels = self.root / "labels"
        pairs, boxed = rsna_as_nih(labels), boxed_images(labels)
        every = [_with_labels_of_nih(item, pairs) for item in items(self.root)]
        patients = {item.patient for item in every if Path(item.path).stem in boxed}
        roles = (_with_role(item, patients) for item in every)
        return {item.path: item for item in roles if item.role in GATES or known(item)}

    def trained(self) -> list[LabelledImage]:
        """See :class:`training.data.images.Data`."""
        return [item for item in self.items.values() if item.role in TRAINING]

    def training(self, side: int) -> Images:
        """See :class:`training.data.images.Data`; from the cache of all that train age and sex."""
        images = ProjectData(self.root, self.cache).training(side)
        found = [(at, self.items.get(item.path)) for at, item in enumerate(images.items)]
        chosen = [(at, item) for at, item in found if item is not None and item.role in TRAINING]
        at = np.array([position for position, _ in chosen], np.int64)
        return Images([item for _, item in chosen], images.pixels[at])

    def load(self, side: int, *roles: str) -> Images:
        """See :class:`training.data.images.Data`; :data:`CHOICE` and :data:`BOXED` are roles."""
        chosen = [item for item in self.items.values() if item.role in roles]
        return with_pixels(self.root, self.cache, side, chosen, bits=16)

    def about(self, run: str) -> About:
        """See :class:`training.data.images.Data`."""
        return About(f"{run} on {SUMMARY}", NOT_FOR)


def rsna_as_nih(labels: Path) -> dict[str, tuple[str, ...]]:
    """The findings of NIH by the name of RSNA's image, from the tables in ``labels``.

    Raises DataError: a table is not there or not what it should be.
    """
    entries = read_table(labels / "nih_entries.csv.gz", ("Image Index", "Finding Labels"))
    found = {
        Path(line["Image Index"]).stem: tuple(line["Finding Labels"].split("|")) for line in entries
    }
    pairs = read_table(labels / "rsna_to_nih.csv.gz", ("rsna_id", "nih"))
    return {line["rsna_id"]: found[line["nih"]] for line in pairs if line["nih"] in found}


def boxed_images(labels: Path) -> set[str]:
    """Names, without folder and suffix, of the images at hand that have a box in ``labels``."""
    nih = read_table(labels / "nih_boxes.csv", ("image", "have", "have_rsna"))
    rsna = read_table(labels / "rsna_pneumonia_boxes.csv", ("image", "have"))
    files = [line[column] for line in nih for column in ("have", "have_rsna")]
    files += [line["have"] for line in rsna]
    return {Path(file).stem for file in files if file}


def _with_labels_of_nih(item: LabelledImage, pairs: dict[str, tuple[str, ...]]) -> LabelledImage:
    findings = pairs.get(Path(item.path).stem) if item.source == "rsna" else None
    return item if findings is None else replace(item, source="nih", findings=findings)


def _with_role(item: LabelledImage, boxed: set[str]) -> LabelledImage:
    if item.role not in ("train", "train_128"):
        return item
    if item.patient in boxed:
        return replace(item, role=BOXED)
    chooses = item.patient.startswith("nih_") and _of_ten(item.patient) == CHOOSES_OF_TEN
    return replace(item, role=CHOICE) if chooses else item


def _of_ten(patient: str) -> int:
    return zlib.crc32(patient.encode()) % 10
