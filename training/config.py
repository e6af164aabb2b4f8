"""The settings of one training run, read from a TOML file."""

import math
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Config:
    """One training run; each value is a line of the TOML file."""

    architecture: str = "mobilenet_v2"
    out: str = "runs/first"
    start: str = ""
    """Weights of an earlier run to start from, instead of ImageNet's."""
    imagenet: bool = True
    """Start a MobileNetV2 from ImageNet's weights rather than from random ones."""
    cache: str = "runs/cache"
    device: str = "auto"
    """``cpu``, ``cuda`` or ``auto``: CUDA, in bfloat16, when there is one."""
    seed: int = 1
    minutes: float = 60.0
    clock: str = "wall"
    """What ``minutes`` are of: ``wall``, or ``processor`` time, which others cannot take away."""
    batch: int = 32
    rate: float = 8e-4
    """Peak learning rate of AdamW."""
    warmup: float = 0.02
    """Share of the time in which the rate rises."""
    decay: float = 0.02
    chunk: int = 32
    """Images that go through the network at once; their gradients add up to those of the batch."""
    frozen_norms: bool = False
    """Keep the statistics of the batch norms that ``start`` came with, see ``training.frozen``."""
    frozen_blocks: int = 0
    """First blocks of the backbone that stay as ``start`` has them: a third of the time."""
    ema: float = 0.998
    dropout: float = 0.2
    pixels: int = 256
    """Side of the cached images."""
    sides: tuple[int, ...] = (128, 176, 224)
    """Side of the network's input in each stage ..."""
    until: tuple[float, ...] = (0.25, 0.55, 1.0)
    """... and the share of the time at which the stage ends."""
    low_resolution: tuple[float, ...] = (0.5, 0.25, 0.1)
    """Share of images with 128 pixels a side (``train_128``) in each stage."""
    rare: float = 0.0
    """Share drawn from patients under 18 or from 70 alone, on top of their natural share."""
    gate: float = 0.12
    """Share of gate material; three in ten of it are laterals, three frontal images like them."""
    corrupted: float = 0.04
    """Share of training images turned or inverted: negatives of the chest head."""
    age_loss: str = "dldl"
    """``dldl`` (DLDL-v2) or ``nll`` (negative log likelihood of a normal distribution)."""
    checkpoint_seconds: float = 180.0

    def __post_init__(self) -> None:
        if not len(self.sides) == len(self.until) == len(self.low_resolution):
            raise ValueError("sides, until and low_resolution need one value for each stage")
        if self.until[-1] != 1.0 or list(self.until) != sorted(self.until):
            raise ValueError(f"until is {list(self.until)}, expected to rise to 1.0")
        if self.frozen_norms and not (self.start and self.architecture == "mobilenet_v2"):
            raise ValueError("frozen_norms needs a start, and the architecture mobilenet_v2")
        if self.frozen_blocks and not self.frozen_norms:
            raise ValueError("frozen_blocks needs frozen_norms")
        if self.clock not in ("wall", "processor"):
            raise ValueError(f"clock is {self.clock!r}, expected 'wall' or 'processor'")
        if self.age_loss not in ("dldl", "nll"):
            raise ValueError(f"age_loss is {self.age_loss!r}, expected 'dldl' or 'nll'")

    def stage(self, progress: float) -> int:
        """Position of the stage at ``progress``, from 0 to 1."""
        return next(i for i, end in enumerate(self.until) if progress < end)

    def learning_rate(self, progress: float) -> float:
        """Linear rise, then half a cosine down to a hundredth."""
        if progress < self.warmup:
            return self.rate * max(progress / self.warmup, 0.01)
        done = min((progress - self.warmup) / (1 - self.warmup), 1.0)
        return self.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def read(path: Path, **changes: Any) -> Config:
    """Read a TOML file; what is not None in ``changes`` replaces its values.

    Raises
    ------
    SystemExit
        With the file and the key, when a key is unknown or a value makes no sense.
    """
    values = tomllib.loads(path.read_text())
    given = {name: value for name, value in changes.items() if value is not None}
    return checked(path, values | given)


def checked(path: Path, values: dict[str, Any]) -> Config:
    """The settings that stand in ``path``; SystemExit as :func:`read` raises it."""
    unknown = set(values) - {field.name for field in fields(Config)}
    if unknown:
        raise SystemExit(f"{path}: unknown keys {sorted(unknown)}")
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    try:
        return Config(**given)
    except ValueError as error:
        raise SystemExit(f"{path}: {error}") from error
