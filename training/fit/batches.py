"""The batches of a run: images drawn from pools in fixed shares, augmented, with their labels.

Each pool is shuffled and used up before it repeats.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data import augment
from training.data import images as data
from training.data.findings import targets
from training.data.images import Material
from training.data.tables import DataError
from training.fit.config import RunConfig

YOUNG, OLD = 18, 70
"""Ages below and from which images are rare enough to be drawn more often."""

LABELS = {
    "sex": "female",
    "frontal": "frontal",
    "chest": "chest",
}
"""By the name of each head and gate the column of its label, less the age: of the sex the first
value, F."""

FURTHER = "further"
"""The label, and the part of the loss, that is :mod:`training.data.findings`'."""


class Sampler:
    """Draws the positions of a batch from pools of ``images``."""

    def __init__(
        self, images: data.Images, rng: np.random.Generator, leave_out: Collection[str] = ()
    ) -> None:
        countries = [item.country for item in images.items]
        gate = images.where("gate")
        frontal, chest = images.column("frontal")[gate], images.column("chest")[gate]
        aged, years = images.where("train", "train_128"), images.column("age")
        lying = np.array([images.items[at].view == "AP" for at in aged], np.bool_)
        self.pools = {
            "train": images.where("train"),
            "train_128": images.where("train_128"),
            "train_other": np.array(
                [at for at in images.where("train_other") if countries[at] not in leave_out],
                np.int64,
            ),
            "children": images.where("children"),
            "ap": aged[lying],
            "rare": aged[(years[aged] < YOUNG) | (years[aged] >= OLD)],
            "lateral": gate[frontal == 0],
            "like_lateral": gate[(frontal == 1) & (chest == 1)],
            "other": gate[chest == 0],
        }
        if not len(self.pools["train"]):
            raise DataError("expected at least one image that trains age or sex, got none")
        self.rng = rng
        self.rest: dict[str, NDArray[np.int64]] = {name: p[:0] for name, p in self.pools.items()}

    def draw(self, count: int, shares: dict[str, float]) -> NDArray[np.int64]:
        """``count`` positions; the shares are met on average."""
        names = self.rng.choice(list(shares), size=count, p=list(shares.values()))
        return np.array([self._next(str(name)) for name in names])

    def _next(self, pool: str) -> int:
        if not len(self.rest[pool]):
            self.rest[pool] = self.rng.permutation(self.pools[pool])
        first, self.rest[pool] = int(self.rest[pool][0]), self.rest[pool][1:]
        return first

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`load_state_dict` needs to go on drawing, in numbers and text."""
        rest = {name: positions.tolist() for name, positions in self.rest.items()}
        return {"rng": self.rng.bit_generator.state, "rest": rest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to ``state``."""
        self.rng.bit_generator.state = state["rng"]
        self.rest = {name: np.array(left, np.int64) for name, left in state["rest"].items()}

    def shares(self, config: RunConfig, stage: int) -> dict[str, float]:
        """As :func:`shares`, where pools without an image leave theirs to the others.

        To ``train`` what is meant for ``train_128``; the rest to each as much as it has.
        """
        wanted = shares(config, stage)
        if not len(self.pools["train_128"]):
            wanted["train"] += wanted.pop("train_128")
        present = {name: part for name, part in wanted.items() if len(self.pools[name])}
        if not any(part for name, part in wanted.items() if name not in present):
            return wanted
        return {name: part / sum(present.values()) for name, part in present.items()}


def shares(config: RunConfig, stage: int) -> dict[str, float]:
    """How much of a batch is to come from each pool in ``stage``; they add up to one."""
    aged = 1 - config.gate
    usual = aged * (1 - config.rare - config.ap - config.other - config.children)
    low = config.low_resolution[stage]
    return {
        "train": usual * (1 - low),
        "train_128": usual * low,
        "train_other": aged * config.other,
        "children": aged * config.children,
        "ap": aged * config.ap,
        "rare": aged * config.rare,
        "lateral": 0.3 * config.gate,
        "like_lateral": 0.3 * config.gate,
        "other": 0.4 * config.gate,
    }


def frequencies(config: RunConfig, images: data.Images) -> NDArray[np.float64]:
    """How often each of ``images`` is drawn in the last stage, relative to each other."""
    drawn = np.zeros(len(images.items))
    sampler = Sampler(images, np.random.default_rng(0), config.leave_out)
    for name, part in sampler.shares(config, len(config.sides) - 1).items():
        pool = sampler.pools[name]
        drawn[pool] += part / len(pool)
    return drawn


def possible_ages(images: data.Images) -> NDArray[np.float32]:
    """Youngest and oldest that each of ``images`` can be, years, shape (N, 2); NaN if unknown."""
    ages = [images.column(name) for name in ("age", "age_from", "age_to")]
    return np.stack([np.where(np.isnan(ages[0]), bound, ages[0]) for bound in ages[1:]], axis=1)


class Batches:
    """The training images, and the batches made of them on the device."""

    def __init__(self, config: RunConfig, data: Material, device: torch.device) -> None:
        self.images = data.training(config.pixels)
        labels = {name: self.images.column(column) for name, column in LABELS.items()}
        labels["age"] = possible_ages(self.images)
        labels[FURTHER] = targets(self.images.items)
        self.labels = {name: torch.from_numpy(of).to(device) for name, of in labels.items()}
        self.config, self.device = config, device
        self.strength = augment.Strength(local=config.local_contrast, devices=config.devices)
        self.rng = torch.Generator(device).manual_seed(config.seed)
        self.sampler = Sampler(self.images, np.random.default_rng(config.seed), config.leave_out)

    def batch(self, stage: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Augmented images (N, 1, S, S) of ``stage``, and their labels, each (N,)."""
        shares = self.sampler.shares(self.config, stage)
        drawn = self.sampler.draw(self.config.batch, shares)
        at = torch.from_numpy(drawn).to(self.device)
        labels = {name: label[at] for name, label in self.labels.items()}
        draw = torch.rand(len(at), generator=self.rng, device=self.device)
        spoilt = (draw < self.config.corrupted) & (labels["chest"] == 1)
        x = augment.corrupt(self.pixels(drawn), spoilt, self.rng)
        x = augment.batch(x, self.config.sides[stage], self.rng, self.strength)
        for label in labels.values():
            label[spoilt] = torch.nan
        labels["chest"][spoilt] = 0.0
        return x.contiguous(memory_format=torch.channels_last), labels

    def pixels(self, at: NDArray[np.int64]) -> Tensor:
        """Images on the device: bytes as they are, anything finer as float32 in [0, 1]."""
        drawn = self.images.pixels[at]
        if drawn.dtype == np.uint8:
            return torch.from_numpy(drawn).to(self.device)
        largest = np.float32(np.iinfo(drawn.dtype).max)
        return torch.from_numpy(drawn.astype(np.float32) / largest).to(self.device)

    def for_norms(self, side: int) -> Tensor:
        """About 256 augmented training images, for the statistics of the norms."""
        at = self.images.where("train")
        some = self.pixels(at[:: max(len(at) // 256, 1)])
        return augment.batch(some, side, self.rng, self.strength)

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`load_state_dict` needs to draw the same batches as if there were no pause."""
        return {
            "sampler": self.sampler.state_dict(),
            "augmentation": {self.device.type: self.rng.get_state()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to ``state``; on another kind of device augmentation starts from its seed."""
        self.sampler.load_state_dict(state["sampler"])
        if self.device.type in state["augmentation"]:
            self.rng.set_state(state["augmentation"][self.device.type].cpu())
