"""What a run is made of: images, their labels and their roles, wherever they come from.

:mod:`training.data.project` reads this project's own images, :mod:`training.data.archive` anybody
else's.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from training.data.mapped import Mapped
from training.data.sets import Set

TRAINING = ("train", "train_128", "gate")
"""Roles of the images that a network is trained with; ``gate`` without their ages and sexes."""
GATE_TEST = "gate_test"
HELD_OUT_OF_THREE = 0  # crc32(group) % 3 of the gates' held-out third
AT_ONCE = 512
"""Images that are measured at a time: a multiple of every batch, so that no batch changes."""


@dataclass(frozen=True, slots=True)
class Item:
    """One image and its labels; NaN where a label is unknown or must not be used."""

    path: str
    source: str
    patient: str
    role: str
    """``gate``, its held-out part ``gate_test``, or: of the own images a split of their index or
    ``hannover``; of an archive ``train``, ``held_out`` or the name of an external set."""
    age: float
    female: float
    frontal: float
    chest: float
    view: str = ""
    licence: str = ""
    findings: tuple[str, ...] = ()
    """As its source names them, see :class:`training.data.index.Row`."""


@dataclass(frozen=True, slots=True)
class Images:
    """Items with their pixels of shape (N, side, side), stretched as the contract says."""

    items: list[Item]
    pixels: NDArray[np.uint8] | NDArray[np.uint16] | Mapped
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


class Data(Protocol):
    """Where a run's images come from, and which are for what."""

    @property
    def sets(self) -> Sequence[Set]:
        """What a bundle is measured on; each is a role."""

    @property
    def calibrates(self) -> str:
        """The role that calibrates a bundle: its images train nothing."""

    @property
    def chooses(self) -> str:
        """The role that chooses how much of the ages' prior is taken out."""

    def trained(self) -> list[Item]:
        """What a network is trained with, in a fixed order, without pixels."""

    def training(self, side: int) -> Images:
        """The same with pixels, in as few bits as are enough."""

    def load(self, side: int, *roles: str) -> Images:
        """Images in ``roles`` with 16 bits, as they are measured."""

    def about(self, run: str) -> About:
        """What is to be said of the images that train, and of the ``run``."""
