"""Which images make a batch: pools in fixed shares, each shuffled and used up before it repeats."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data import images as data
from training.data.tables import DataError
from training.fit.config import Config

YOUNG, OLD = 18, 70
"""Ages below and from which images are rare enough to be drawn more often."""


class Sampler:
    """Draws the positions of a batch from pools of ``images``."""

    def __init__(self, images: data.Images, rng: np.random.Generator) -> None:
        gate = images.where("gate")
        frontal, chest = images.column("frontal")[gate], images.column("chest")[gate]
        aged, years = images.where("train", "train_128"), images.column("age")
        self.pools = {
            "train": images.where("train"),
            "train_128": images.where("train_128"),
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
        self.rest = {name: np.array(kept, np.int64) for name, kept in state["rest"].items()}

    def shares(self, config: Config, stage: int) -> dict[str, float]:
        """As :func:`shares`, where pools without an image leave theirs to the others.

        To ``train`` what is meant for ``train_128``; the rest to each as much as it has.
        """
        wanted = shares(config, stage)
        if not len(self.pools["train_128"]):
            wanted["train"] += wanted.pop("train_128")
        kept = {name: part for name, part in wanted.items() if len(self.pools[name])}
        if len(kept) == len(self.pools):
            return kept
        return {name: part / sum(kept.values()) for name, part in kept.items()}


def shares(config: Config, stage: int) -> dict[str, float]:
    """How much of a batch is to come from each pool in ``stage``; they add up to one."""
    aged = 1 - config.gate
    usual = aged * (1 - config.rare)
    low = config.low_resolution[stage]
    return {
        "train": usual * (1 - low),
        "train_128": usual * low,
        "rare": aged * config.rare,
        "lateral": 0.3 * config.gate,
        "like_lateral": 0.3 * config.gate,
        "other": 0.4 * config.gate,
    }


def frequencies(config: Config, images: data.Images) -> NDArray[np.float64]:
    """How often each of ``images`` is drawn in the last stage, relative to each other."""
    drawn = np.zeros(len(images.items))
    sampler = Sampler(images, np.random.default_rng(0))
    for name, part in sampler.shares(config, len(config.sides) - 1).items():
        pool = sampler.pools[name]
        drawn[pool] += part / len(pool)
    return drawn
