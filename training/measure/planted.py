"""How many recorded ages beyond those that the network learnt are found, and how many falsely.

python -m training planted

Each image is a study whose PatientAge is planted (or, where its own age lies beyond the learnt
ones, true), under the default policy.
"""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from dicom_ai_node.answers import ImageRef, Prediction
from dicom_ai_node.config.stages import PolicySettings
from dicom_ai_node.decide.images import OUTSIDE_TRAINING, Gates, judge
from dicom_ai_node.decide.study import combine, decide
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.parts import gates_of
from dicom_ai_node.pixels.normalise import normalise
from dicom_ai_node.types import AttributeStatus, CheckedAttribute, HeaderCheck
from training.data.images import held_out
from training.data.options import BUNDLE, ROOT, BundleFolder, Root
from training.data.project import read
from training.measure.markdown import table

OTHERS = ("external_dev", "external_dev2")
SEEN = ("train", "train_other")
_BATCH = 16
OLD, YOUNG = 80.0, 9.0
"""Learnt ages end here; of the images that trained only those beyond are of use."""


@dataclass(frozen=True, slots=True)
class PlantedImage:
    """One frontal image, what is true of it and what the network says."""

    split: str
    age: float
    """Years; NaN where only a range is known (``children_test``: 1 to 5)."""
    prediction: Prediction


@dataclass(frozen=True, slots=True)
class PlantedAges:
    """One row: which images, and what is recorded for each."""

    name: str
    splits: Sequence[str]
    ages: tuple[float, float] = (0, 121)
    """True ages, the second one excluded."""
    planted: float | None = None
    """Years; None: what is true is recorded."""

    def takes(self, image: PlantedImage) -> bool:
        """Whether an image is one of these; one of ``children_test`` has no age of its own."""
        low, high = self.ages
        return image.split in self.splits and not (image.age < low or image.age >= high)


GROUPS = (
    PlantedAges("planted 090Y, `val`, true age 10 to 49", ["val"], (10, 50), 90.0),
    PlantedAges("planted 090Y, other hospitals, true age 10 to 49", OTHERS, (10, 50), 90.0),
    PlantedAges("planted 090Y, `val`, true age 50 to 65", ["val"], (50, 66), 90.0),
    PlantedAges("planted 003Y, `val`, true age 30 and over", ["val"], (30, 121), 3.0),
    PlantedAges("true 81 to 120, not trained on", ["val", *OTHERS], (81, 121)),
    PlantedAges("true 1 to 5, other hospital", ["children_test"], planted=3.0),
    PlantedAges("true 81 to 120, trained on", SEEN, (81, 121)),
    PlantedAges("true 0 to 8, trained on", SEEN, (0, 9)),
)


def rows(cases: Sequence[PlantedImage], gates: Gates) -> Iterator[list[str]]:
    """Yield for each group: name, images, H1, no alert, refused by a gate."""
    policy, image = PolicySettings(), ImageRef("", "1", "")
    for group in GROUPS:
        found = Counter[str]()
        for case in filter(group.takes, cases):
            years = case.age if group.planted is None else group.planted
            age = CheckedAttribute("age", "", AttributeStatus.CONSISTENT, years)
            sex = CheckedAttribute("sex", "", AttributeStatus.MISSING)
            header = HeaderCheck({"PatientAge": age, "PatientSex": sex})
            said = decide(
                header,
                [judge(image, case.prediction, gates)],
                heads=tuple(case.prediction.answers),
                model=None,
                ages=gates.ages,
                policy=policy,
            )
            result = combine("1", header, [said], policy=policy)
            if "H1" in result.check.rules:
                found["H1"] += 1
            elif result.reason and result.reason.code != OUTSIDE_TRAINING:
                found["gate"] += 1
            else:
                found["quiet"] += 1
        counts = (found.total(), found["H1"], found["quiet"], found["gate"])
        yield [group.name, *map(str, counts)]


def _images(data: Path) -> Iterator[tuple[Path, str, float]]:
    """Yield path, split and age of the frontal images that a group can choose."""
    for folder in ("cxr", "cxr_more"):
        with (data / folder / "index.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                age, split = float(row["age_years"] or "nan"), row["split"]
                beyond = split in SEEN and (age > OLD or age < YOUNG)
                wanted = split in ("val", *OTHERS) or beyond
                if split == "children" and held_out(row["patient_id"]):
                    split = "children_test"
                known = split == "children_test" or (wanted and age == age)
                if known and not row["view"].upper().startswith("LAT"):
                    yield data / row["path"], split, age


def main(bundle: BundleFolder = BUNDLE, root: Root = ROOT) -> None:
    """Measure and print."""
    estimator = Estimator(bundle, device="cpu")
    gates = gates_of(estimator.manifest)
    cases = list[PlantedImage]()
    images = _images(root)
    while part := list(islice(images, _BATCH)):
        pixels = np.stack([normalise(read(path), estimator.size) for path, _, _ in part])
        answers = estimator.predict(pixels)
        cases += [PlantedImage(s, a, p) for (_, s, a), p in zip(part, answers, strict=True)]
    heads = ["recorded", "images", "H1", "no alert", "refused by a gate"]
    print(table(heads, list(rows(cases, gates))))
