"""This project's images: their index, their splits, and a cache of small pixels.

Splits are by patient and come from the data's index: ``train`` and ``train_128`` train, ``val``
calibrates with ``val_128`` beside it, and both give figures; the others are only looked at. The
gates learn from ``nonchest``, ``gate_lateral`` and frontal ``aux`` images of the laterals' source
(else the view head would learn the source); a third of each, by patient or source image where that
can be seen, is held out.
"""

import csv
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dicom_ai_node.pixels.normalise import normalise
from training.data.images import (
    GATE_TEST,
    PROJECT_SETS,
    TRAINING,
    About,
    EvaluationSet,
    Images,
    LabelledImage,
    held_out,
)
from training.data.near_duplicates import DISTANCE, SIDE, have_near_duplicates

MISLABELLED = (
    # inverted
    "00017999_000",
    "00017625_000",
    "ID_35a9e2842",
    "ID_eeadc6601",
    # upside down
    "ID_cba531b03",
    "00003490_011",
    "00002898_001",
    "ID_aaa0d1b33",
    # mostly abdomen
    "ID_a238e80e2",
)
EXTERNAL = ("external_dev", "external_dev2")
SUMMARY = (
    "MobileNetV2 from ImageNet weights, fine-tuned whole on frontal chest radiographs of one"
    " institution (NIH Clinical Center) at 448 and 128 pixels, on 251 of public cases of other"
    " institutions (COVID-CXNet) and on 242 of children of one more, of whom only a range of ages,"
    " 1 to 5 years, is known. The gates also on other body parts, laterals and frontal radiographs"
    " from public articles, without their ages and sexes. Up to 16 patients of external_dev have a"
    " lateral among them."
)
NOT_FOR = (
    "Diagnosis, treatment, identification of persons, forensic or legal age assessment, children,"
    " people over 85, lateral views, other body parts. Not a medical device."
)


@dataclass(frozen=True, slots=True)
class ProjectData:
    """This project's images below ``root``, with their cache."""

    root: Path
    cache: Path
    sets: Sequence[EvaluationSet] = PROJECT_SETS
    calibrates: str = "val"
    beside: Sequence[str] = ("val_128",)
    chooses: str = "val_128"

    def trained(self) -> list[LabelledImage]:
        """See :class:`Data`."""
        return [item for item in items(self.root) if item.role in TRAINING]

    def training(self, side: int) -> Images:
        """Eight bits are enough to train on."""
        return load(self.root, self.cache, side, *TRAINING, bits=8)

    def load(self, side: int, *roles: str) -> Images:
        """See :class:`Data`; what tests the gates is without near-duplicates of what trains."""
        images = load(self.root, self.cache, side, *roles)
        if GATE_TEST not in roles:
            return images
        measured = load(self.root, self.cache, SIDE, *roles, bits=8)
        copies = have_near_duplicates(measured, self.training(SIDE), DISTANCE)
        usable = [at for at, item in enumerate(images.items) if not copies[at]]
        return Images([images.items[at] for at in usable], images.pixels[usable])

    def about(self, run: str) -> About:
        """See :class:`Data`."""
        return About(SUMMARY, NOT_FOR)


def items(data: Path) -> list[LabelledImage]:
    """Every image of use below ``data``, in a fixed order."""
    rows: list[dict[str, str]] = []
    for index in ("cxr/index.csv", "cxr_more/index.csv"):
        with (data / index).open(newline="") as file:
            rows += csv.DictReader(file)
    looked_at = {row["patient_id"] for row in rows if row["split"] == "external_dev"}
    found = [item for row in rows if (item := _chest_item(row, looked_at)) is not None]
    with (data / "nonchest/index.csv").open(newline="") as file:
        found += [_other_item(row) for row in csv.DictReader(file)]
    return found


def _chest_item(row: dict[str, str], looked_at: set[str]) -> LabelledImage | None:
    split, source, patient = row["split"], row["source"], row["patient_id"]
    stem = Path(row["path"]).stem
    age = float(row["age_years"] or "nan")
    if not 0 < age <= 100:
        age = float("nan")
    female = {"F": 1.0, "M": 0.0}.get(row["sex"], float("nan"))
    frontal = 1.0
    if split == "external_dev" and source != "covid":  # other images of the same people
        return None
    if split in ("train", "train_128", "train_other", "val", "val_128", *EXTERNAL):
        role = split
        if stem in MISLABELLED:
            return None
    elif split == "children":
        role = "children_test" if held_out(patient) else split
    elif split == "gate_lateral":
        role = GATE_TEST if held_out(patient or stem.split("-")[0]) else "gate"
        frontal, age, female = 0.0, float("nan"), float("nan")
    elif split == "aux" and source == "hannover":
        role = "hannover"
    elif split == "aux" and row["view"] in ("PA", "AP") and patient not in looked_at:
        role = GATE_TEST if held_out(patient or stem) else "gate"
        age, female = float("nan"), float("nan")
    else:
        return None
    return LabelledImage(
        row["path"], source, patient or stem, role, age, female, frontal, 1.0, row["view"],
        row["licence"], tuple(row["finding"].split("|")),
        age_from=float(row.get("age_min") or "nan"), age_to=float(row.get("age_max") or "nan"),
        country=row.get("country", ""),
    )  # fmt: skip


def _other_item(row: dict[str, str]) -> LabelledImage:
    path = Path(row["path"])
    control = path.parent.name == "mednist_CXR"
    role = GATE_TEST if control or held_out(group_of(path)) else "gate"
    nan = float("nan")
    frontal, chest = (1.0, 1.0) if control else (nan, 0.0)
    return LabelledImage(
        row["path"], path.parent.name, group_of(path), role, nan, nan, frontal, chest, "",
        row["licence"],
    )  # fmt: skip


def group_of(path: Path) -> str:
    """Name of the patient, examination or neighbourhood that a non-chest image belongs to."""
    folder, stem = path.parent.name, path.stem
    number = re.search(r"(\d+)$", stem)
    if folder.startswith("mednist") and number:  # neighbours in the archive may be one patient
        return f"{folder}-{int(number[1]) // 300}"
    if folder == "knee":  # the same knee stands there under two folders' names
        return stem.rsplit("__", 1)[-1]
    if folder == "chest_ct":
        return re.split(r"[_-]", stem)[0]
    return stem.split(".rf.")[0]


def read(path: Path) -> NDArray[np.uint8]:
    """Grey pixels of an image file."""
    return np.asarray(Image.open(path).convert("L"))


def _small(task: tuple[Path, int, int]) -> NDArray[np.unsignedinteger]:
    path, side, bits = task
    largest = (1 << bits) - 1
    return np.rint(normalise(read(path), side) * largest).astype(f"uint{bits}")


def load(data: Path, cache: Path, side: int, *roles: str, bits: int = 16) -> Images:
    """Items in ``roles`` (all if none is named) with pixels of ``side``, cached below ``cache``.

    Eight ``bits`` are enough to train on and half the memory; what is measured takes sixteen, for
    rounding to eight moves an estimate by up to a fifth of a year.
    """
    chosen = [item for item in items(data) if not roles or item.role in roles]
    return with_pixels(data, cache, side, chosen, bits)


def with_pixels(
    data: Path, cache: Path, side: int, chosen: list[LabelledImage], bits: int
) -> Images:
    """The ``chosen`` items with their pixels, as :func:`load` has them."""
    names = "\n".join(item.path for item in chosen)
    key = hashlib.sha256(names.encode()).hexdigest()[:12]
    stored = cache / f"pixels-{side}-{'' if bits == 8 else f'{bits}bit-'}{key}.npy"
    if not stored.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with Pool(2) as pool:
            tasks = ((data / item.path, side, bits) for item in chosen)
            small = np.stack(list(pool.imap(_small, tasks, chunksize=32)))
        partial = stored.with_suffix(".partial.npy")
        np.save(partial, small)
        partial.rename(stored)
    return Images(chosen, np.load(stored))
