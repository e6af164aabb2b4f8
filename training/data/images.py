"""What a run is made of: images, their labels and their roles, wherever they come from.

:mod:`training.data.project` reads this project's images, :mod:`training.data.archive` anybody
else's.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

TRAINING = ("train", "train_128", "train_other", "children", "gate")
"""Roles of the images that a network is trained with; ``gate`` without their ages and sexes,
``train_other`` of other institutions than most, ``children`` with a range in place of an age."""

GATE_TEST = "gate_test"
HELD_OUT_OF_THREE = 0  # crc32(group) % 3 of the gates' held-out third

AT_ONCE = 512
"""Images that are measured at a time: a multiple of every batch, so that no batch changes."""


class Institution(StrEnum):
    """Whose images are measured, seen from those that train."""

    SAME = "same institution"
    OTHER = "another institution"


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """One data set, named as the role of its images in :mod:`training.data.images`."""

    name: str
    title: str
    institution: Institution


PROJECT_SETS = (
    EvaluationSet("val", "Internal: `val`, NIH patients in no other split", Institution.SAME),
    EvaluationSet(
        "val_128",
        "Internal at low resolution: `val_128`, 128-pixel images enlarged",
        Institution.SAME,
    ),
    EvaluationSet(
        "external_dev",
        "External look: `external_dev`, radiographs from public articles and websites",
        Institution.OTHER,
    ),
    EvaluationSet(
        "external_dev2",
        "External look: `external_dev2`, the source of `train_other`, other patients",
        Institution.OTHER,
    ),
    EvaluationSet("hannover", "External look: `hannover`, sex only", Institution.OTHER),
)
"""Those of this project's images, whose criteria are in :mod:`training.measure.criteria`."""


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One image and its labels; NaN where a label is unknown or must not be used."""

    path: str
    source: str
    patient: str
    role: str
    """``gate``, its held-out part ``gate_test``, or: of this project's images a split of their
    index or ``hannover``; of an archive ``train``, ``held_out`` or the name of an external set."""
    age: float
    female: float
    frontal: float
    chest: float
    view: str = ""
    licence: str = ""
    findings: tuple[str, ...] = ()
    """As its source names them, see :class:`training.data.index.IndexRow`."""
    age_from: float = float("nan")
    age_to: float = float("nan")
    """First and last completed year of those that are possible, where ``age`` is unknown."""
    country: str = ""


class MappedImages:
    """Images of several caches in one row, read from disk when they are asked for.

    Indexed along its first axis as an array of shape (N, side, side) would be.
    """

    def __init__(self, parts: Sequence[tuple[NDArray[np.uint16], NDArray[np.int64]]]) -> None:
        """Of each cache its images, and the positions of those to be drawn from."""
        self.dtype = np.dtype(np.uint16)
        self._stored = [stored for stored, _ in parts]
        self._part = np.repeat(np.arange(len(parts)), [len(at) for _, at in parts])
        self._row = np.concatenate([np.empty(0, np.int64), *(at for _, at in parts)])

    def __len__(self) -> int:
        """How many images."""
        return len(self._row)

    def __getitem__(self, key: Any) -> NDArray[np.uint16]:
        """One image for a number, else those of a slice, positions or a mask; never a view."""
        single = np.ndim(key) == 0 and not isinstance(key, slice)
        part, row = np.atleast_1d(self._part[key]), np.atleast_1d(self._row[key])
        side = self._stored[0].shape[1] if self._stored else 0
        found = np.empty((len(row), side, side), np.uint16)
        for number in np.unique(part):
            found[part == number] = self._stored[number][row[part == number]]
        return found[0] if single else found


@dataclass(frozen=True, slots=True)
class Images:
    """Items with their pixels of shape (N, side, side), stretched as the contract says."""

    items: list[LabelledImage]
    pixels: NDArray[np.uint8] | NDArray[np.uint16] | MappedImages
    """The contract's 0 to 1 as the whole range of the type; on disk where they may be many."""

    def __len__(self) -> int:
        """How many images."""
        return len(self.items)

    def column(self, name: str) -> NDArray[np.float32]:
        """One numeric label of every item."""
        return np.array([getattr(item, name) for item in self.items], dtype=np.float32)

    def where(self, *roles: str) -> NDArray[np.int64]:
        """Positions of the items in ``roles``."""
        return np.array([i for i, item in enumerate(self.items) if item.role in roles], np.int64)

    def some(self, count: int) -> "Images":
        """``count`` images, or up to twice as many, from all over; all where there are fewer."""
        every = slice(None, None, max(len(self) // count, 1))
        return Images(self.items[every], self.pixels[every])

    def floats(self) -> Iterator[NDArray[np.float32]]:
        """Pixels as the network sees them, in [0, 1], :data:`AT_ONCE` images at a time."""
        largest = np.float32(np.iinfo(self.pixels.dtype).max)
        for first in range(0, len(self), AT_ONCE):
            yield self.pixels[first : first + AT_ONCE].astype(np.float32) / largest


def held_out(group: str) -> bool:
    """Whether the gates are measured with ``group`` rather than trained with it."""
    return zlib.crc32(group.encode()) % 3 == HELD_OUT_OF_THREE


@dataclass(frozen=True, slots=True)
class About:
    """What a manifest says of a run's images, in words."""

    summary: str
    not_for: str


class Material(Protocol):
    """What a run is trained with."""

    def trained(self) -> list[LabelledImage]:
        """What a network is trained with, in a fixed order, without pixels."""

    def training(self, side: int) -> Images:
        """The same with pixels, in as few bits as are enough."""


class Data(Material, Protocol):
    """Where a run's images come from, and which are for what."""

    @property
    def sets(self) -> Sequence[EvaluationSet]:
        """What a bundle is measured on; each is a role."""

    @property
    def calibrates(self) -> str:
        """The role that calibrates a bundle: its images train nothing."""

    @property
    def beside(self) -> Sequence[str]:
        """Further roles that calibrate it, of which nothing is a reference for what is near."""

    @property
    def chooses(self) -> str:
        """The role that chooses how much of the ages' prior is taken out."""

    def load(self, side: int, *roles: str) -> Images:
        """Images in ``roles`` with 16 bits, as they are measured."""

    def about(self, run: str) -> About:
        """What is to be said of the images that train, and of the ``run``."""
