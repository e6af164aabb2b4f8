"""Training of an age from CT: its head, its batches with random crops, and one run.

The head answers mean and log variance, trained by Gaussian negative log likelihood (Kendall & Gal
2017), as Kerber et al. 2023 did for projections.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from dicom_ai_node.inference.engine import Raw
from dicom_ai_node.inference.heads import QuantityHead, Row
from dicom_ai_node.inference.network import Network
from dicom_ai_node.inference.torch_engine import run
from training.data import ages, augment_slices
from training.data.ages import Aged
from training.data.augment_slices import Kinds, Strength
from training.data.cache import WHITE
from training.data.slices import Values
from training.fit.config import RunConfig

AGE = QuantityHead(
    name="age", output=0, unit="a", normal=(55.0, 20.0), bounds=(0.0, 110.0), attribute="PatientAge"
)
SMALLEST_CROP = 0.8
"""Least share of a projection's side that a random crop keeps."""
GAIN, NOISE = 0.02, 0.01
"""Standard deviations of what changes brightness: little, for density is what age is read from."""


class Pictures(Protocol):
    """Images that can be drawn, augmented, as often as is needed."""

    channels: int

    def __len__(self) -> int:
        """How many."""

    def at(self, positions: NDArray[np.int64]) -> "Pictures":
        """Some of them."""

    def drawn(self, at: NDArray[np.int64], side: int, rng: torch.Generator) -> Tensor:
        """Augmented (N, C, side, side) in [0, 1] of some of them."""

    def measured(self) -> NDArray[np.float32]:
        """All as the node makes them, (N, C, S, S)."""


class Projections:
    """Two projections of each series, cropped at random."""

    channels = 2

    def __init__(self, pixels: NDArray[np.uint16]) -> None:
        """``pixels`` are (N, 2, S, S), 0 to 65535."""
        self.pixels = pixels

    def __len__(self) -> int:
        """How many."""
        return len(self.pixels)

    def at(self, positions: NDArray[np.int64]) -> "Projections":
        """Some of them."""
        return Projections(self.pixels[positions])

    def drawn(self, at: NDArray[np.int64], side: int, rng: torch.Generator) -> Tensor:
        """See :class:`Pictures`."""
        return cropped(torch.from_numpy(self.at(at).measured()), side, rng)

    def measured(self) -> NDArray[np.float32]:
        """See :class:`Pictures`."""
        return self.pixels.astype(np.float32) / np.float32(WHITE)


class Sections:
    """Single axial sections through three windows; pictures are taken for HU and HU for pictures.

    Left and right age alike, so half of them are mirrored.
    """

    channels = 3
    strength = Strength(as_hu=0.5, montage=0.0, page=0.0)

    def __init__(self, values: Values, inputs: NDArray[np.float16]) -> None:
        """What inputs are made of, and what ``windows-1`` makes of the images."""
        self.values, self.inputs = values, inputs

    def __len__(self) -> int:
        """How many."""
        return len(self.values)

    def at(self, positions: NDArray[np.int64]) -> "Sections":
        """Some of them."""
        return Sections(self.values.at(positions), self.inputs[positions])

    def drawn(self, at: NDArray[np.int64], side: int, rng: torch.Generator) -> Tensor:
        """See :class:`Pictures`."""
        some = self.values.at(at)
        every = torch.ones(len(at), dtype=torch.bool)
        kinds = Kinds(absolute=torch.from_numpy(some.absolute), ct=every, symmetric=every)
        values = torch.from_numpy(some.values.astype(np.float32))
        x, _ = augment_slices.batch(values, kinds, side, rng, self.strength)
        return x

    def measured(self) -> NDArray[np.float32]:
        """See :class:`Pictures`."""
        return self.inputs.astype(np.float32)


def cropped(x: Tensor, side: int, rng: torch.Generator) -> Tensor:
    """Random crops of projections (N, 2, S, S), each enlarged to ``side``.

    Half of the coronal ones are mirrored: left and right age alike.
    """
    n = len(x)
    mirrored = torch.rand(n, 1, 1, generator=rng) < 0.5
    x = torch.stack([torch.where(mirrored, x[:, 0].flip(2), x[:, 0]), x[:, 1]], dim=1)
    size = 1 - (1 - SMALLEST_CROP) * torch.rand(n, 2, generator=rng)
    shift = (1 - size) * (2 * torch.rand(n, 2, generator=rng) - 1)
    where = torch.zeros(n, 2, 3)
    where[:, 0, 0], where[:, 1, 1] = size[:, 0], size[:, 1]
    where[:, :, 2] = shift
    if x.shape[-1] >= 1.9 * side:  # sampling alone would alias
        x = functional.avg_pool2d(x, 2)
    grid = functional.affine_grid(where, [n, 2, side, side], align_corners=False)
    x = functional.grid_sample(x, grid, padding_mode="zeros", align_corners=False)
    x = x * (1 + GAIN * torch.randn(n, 1, 1, 1, generator=rng))
    return (x + NOISE * torch.randn(x.shape, generator=rng)).clamp(0, 1)


class Batches:
    """Images that train, and the batches made of them: each is used up before one repeats."""

    def __init__(self, config: RunConfig, rows: Sequence[Aged], pictures: Pictures) -> None:
        self.config, self.pictures = config, pictures
        self.rows: Sequence[Row] = (AGE,)
        self.channels, self.images = pictures.channels, ages.digest(rows)
        self.years = torch.from_numpy(ages.years(rows).astype(np.float32))
        self.rng = torch.Generator().manual_seed(config.seed)
        self.order = np.random.default_rng(config.seed)
        self.rest = np.empty(0, np.int64)

    def batch(self, stage: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Augmented images (N, C, S, S) of ``stage``, and their ages."""
        while len(self.rest) < self.config.batch:
            self.rest = np.concatenate([self.rest, self.order.permutation(len(self.pictures))])
        at, self.rest = self.rest[: self.config.batch], self.rest[self.config.batch :]
        x = self.pictures.drawn(at, self.config.sides[stage], self.rng)
        labels = {AGE.name: self.years[torch.from_numpy(at)]}
        return x.contiguous(memory_format=torch.channels_last), labels

    def for_norms(self, side: int) -> Tensor:
        """128 augmented images, for the statistics of the norms."""
        at = np.random.default_rng(0).integers(len(self.pictures), size=128)
        return self.pictures.drawn(at, side, self.rng)

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`load_state_dict` needs to draw the same batches as without a pause."""
        return {
            "order": self.order.bit_generator.state,
            "rest": self.rest.tolist(),
            "augmentation": self.rng.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to ``state``."""
        self.order.bit_generator.state = state["order"]
        self.rest = np.array(state["rest"], np.int64)
        self.rng.set_state(state["augmentation"])


class Looked:
    """What networks see in images; those of one backbone are asked once for all."""

    def __init__(self, pictures: Pictures) -> None:
        self.pictures = pictures
        self.last: tuple[str, Raw] | None = None

    def through(self, network: Network) -> Raw:
        """What ``network`` says of all of them."""
        parts = [tensor.numpy().tobytes() for tensor in network.backbone.state_dict().values()]
        backbone = hashlib.sha256(b"".join(parts)).hexdigest()
        learning = network.training
        network.eval()
        if self.last is None or self.last[0] != backbone:
            self.last = backbone, run(network, self.pictures.measured())
        seen = self.last[1]
        with torch.inference_mode():
            values = network.values(network.answer(torch.from_numpy(seen.features)))
        network.train(learning)
        answers = {name: value.float().numpy() for name, value in values.items()}
        return Raw(answers, seen.features, seen.texture)
