"""What a run is trained with: its images, and the batches that are made of them."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data import augment
from training.data.images import Data
from training.fit.config import Config
from training.fit.findings import targets
from training.fit.sampling import Sampler

LABELS = ("age", "female", "frontal", "chest")
FURTHER = "further"
"""The label, and the part of the loss, that is :mod:`training.fit.findings`'."""


class Material:
    """The training images, and the batches made of them on the device."""

    def __init__(self, config: Config, data: Data, device: torch.device) -> None:
        self.images = data.training(config.pixels)
        labels = {name: self.images.column(name) for name in LABELS}
        labels[FURTHER] = targets(self.images.items)
        self.labels = {name: torch.from_numpy(of).to(device) for name, of in labels.items()}
        self.config, self.device = config, device
        self.strength = augment.Strength(local=config.local_contrast)
        self.rng = torch.Generator(device).manual_seed(config.seed)
        self.sampler = Sampler(self.images, np.random.default_rng(config.seed))

    def batch(self, stage: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Augmented images (N, 1, S, S) of ``stage``, and their labels, each (N,)."""
        shares = self.sampler.shares(self.config, stage)
        drawn = self.sampler.draw(self.config.batch, shares)
        at = torch.from_numpy(drawn).to(self.device)
        labels = {name: label[at] for name, label in self.labels.items()}
        chance = torch.rand(len(at), generator=self.rng, device=self.device)
        spoilt = (chance < self.config.corrupted) & (labels["chest"] == 1)
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

    def calm(self, side: int) -> Tensor:
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
