"""Training of the region of a slice: its head and gate, its batches, and one run.

A batch is drawn so that rare regions and patients of few images are seen more often: an image's
chance is one over the root of how many images show its rarest region, times the same of its
patient.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dicom_ai_node.answers import Concept
from dicom_ai_node.dicom.body_parts import BODY_PARTS
from dicom_ai_node.inference.heads import CategoryHead, Gate, Row
from training.data import augment_slices
from training.data.augment_slices import Kinds, Strength
from training.data.regions import Slice, merged, right, values
from training.data.slices import Values
from training.data.tables import DataError
from training.fit.config import RunConfig

CHANNELS = 3
NO_SLICE = 0.12
"""Share of a batch that is drawn from images which are no slice."""
SIDED = frozenset({"CHEST", "ABDOMEN"})
"""Regions whose left and right differ."""


@dataclass(frozen=True, slots=True)
class Regions:
    """What a network is asked of slices."""

    into: Mapping[str, str]
    """Which value each term of an index is counted to."""
    values: tuple[str, ...]

    @classmethod
    def of(cls, slices: Sequence[Slice]) -> "Regions":
        """The regions that ``slices`` have enough patients for."""
        into, _ = merged(slices)
        return cls(into, values(into))

    def right(self, one: Slice) -> list[int]:
        """Positions of the values that are right for an image."""
        return right(one.terms, self.into, self.values)

    def targets(self, slices: Sequence[Slice]) -> NDArray[np.float32]:
        """1 for each right value of each image, (N, K); no 1 in the row of what has no region."""
        found = np.zeros((len(slices), len(self.values)), np.float32)
        for at, one in enumerate(slices):
            found[at, self.right(one)] = 1
        return found

    @property
    def head(self) -> CategoryHead:
        """The question, coded as PS3.16 table L-1 has it."""
        codes = {
            term: Concept(part.code, "SCT", part.meaning)
            for term in self.values
            if (part := BODY_PARTS[term]).code
        }
        return CategoryHead(
            name="region",
            output=0,
            values=self.values,
            attribute="BodyPartExamined",
            spans=True,
            concept=Concept("123014", "DCM", "Target Region"),
            codes=codes,
        )

    @property
    def gate(self) -> Gate:
        """Whether there is a region to be asked for."""
        return Gate(
            name="slice",
            output=len(self.values),
            threshold=0.5,
            code="not_a_slice",
            text="does not look like a single slice of CT or MR",
        )

    @property
    def rows(self) -> tuple[Row, ...]:
        """All that the network answers."""
        return (self.head, self.gate)


class Batches:
    """Images that train, and the batches made of them."""

    def __init__(
        self, config: RunConfig, slices: Sequence[Slice], pixels: Values, regions: Regions
    ) -> None:
        self.config, self.pixels = config, pixels
        self.rows: Sequence[Row] = regions.rows
        self.channels = CHANNELS
        known = [[one.name, sorted(one.terms)] for one in slices]
        self.images = hashlib.sha256(json.dumps([regions.values, known]).encode()).hexdigest()
        targets = regions.targets(slices)
        shown = np.array([one.shown for one in slices])
        if not shown.any():
            raise DataError("expected slices with a region to train with, got none")
        self.targets = torch.from_numpy(targets)
        self.shown = torch.from_numpy(shown.astype(np.float32))
        self.kinds = Kinds(
            absolute=torch.from_numpy(pixels.absolute),
            ct=torch.tensor([one.modality == "CT" for one in slices]),
            symmetric=torch.tensor(
                [one.plane == "sagittal" or not one.terms & SIDED for one in slices]
            ),
        )
        self.chance = chances(slices, targets)
        self.strength = Strength(as_hu=config.as_hu)
        self.rng = torch.Generator().manual_seed(config.seed)
        self.drawn = np.random.default_rng(config.seed)

    def batch(self, stage: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Augmented images (N, 3, S, S) of ``stage``, and their labels."""
        at = self.drawn.choice(len(self.chance), size=self.config.batch, p=self.chance)
        x, spoilt = self.augmented(at, self.config.sides[stage])
        labels = self.targets[at].clone()
        labels[spoilt] = 0
        gate = self.shown[at] * (~spoilt).float()
        return x.contiguous(memory_format=torch.channels_last), {"region": labels, "slice": gate}

    def augmented(self, at: NDArray[np.int64], side: int) -> tuple[Tensor, Tensor]:
        """Augmented images, and which of them were made what is no slice."""
        kinds = Kinds(
            *(of[at] for of in (self.kinds.absolute, self.kinds.ct, self.kinds.symmetric))
        )
        some = torch.from_numpy(self.pixels.values[at].astype(np.float32))
        return augment_slices.batch(some, kinds, side, self.rng, self.strength)

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`load_state_dict` needs to draw the same batches as without a pause."""
        return {"drawn": self.drawn.bit_generator.state, "augmentation": self.rng.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to ``state``."""
        self.drawn.bit_generator.state = state["drawn"]
        self.rng.set_state(state["augmentation"])

    def for_norms(self, side: int) -> Tensor:
        """128 augmented images, for the statistics of the norms."""
        at = self.drawn.choice(len(self.chance), size=128, p=self.chance)
        return self.augmented(at, side)[0]


def chances(slices: Sequence[Slice], targets: NDArray[np.float32]) -> NDArray[np.float64]:
    """How often each image is drawn; they add up to one."""
    per_region = targets.sum(axis=0)
    rarest = np.where(targets > 0, per_region, np.inf).min(axis=1)
    images = Counter(one.person for one in slices)
    of_person = np.array([images[one.person] for one in slices])
    shown = np.array([one.shown for one in slices])
    known = shown & np.isfinite(rarest)
    weight = np.where(known, 1 / np.sqrt(np.where(known, rarest, 1) * of_person), 0.0)
    weight /= weight.sum()
    others = ~shown
    if not others.any():
        return np.asarray(weight)
    return np.asarray((1 - NO_SLICE) * weight + NO_SLICE * others / others.sum())
