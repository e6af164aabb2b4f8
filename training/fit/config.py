"""The settings of one training run, read from a TOML file."""

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from training.data.archive import ArchiveData
from training.data.chest_findings import FindingsData
from training.data.images import Data
from training.data.project import ProjectData
from training.data.roles import ArchiveConfig

WEIGHTS = "ema.safetensors"
"""What a run leaves in ``out``: weights to pack, to start from, to teach with."""
RANDOM = "random"
"""As ``start``: no weights at all."""

DATA: Mapping[str, Callable[[Path, Path], Data]] = {
    "chest-age-sex": ProjectData,
    "chest-findings": FindingsData,
}
"""By the bundle that a run makes this project's images for it, of a folder and a cache."""


@dataclass(frozen=True, slots=True)
class RunConfig:
    """One training run; each value is a line of the TOML file."""

    bundle: str = "chest-age-sex"
    """What is asked of the images, by the name of the bundle that is made: also
    ``chest-findings``."""
    architecture: str = "mobilenet_v2"
    out: str = "runs/first"
    start: str = ""
    """Weights of an earlier run or of a bundle to start from, torchvision's by file or by name
    (``ResNet18_Weights.IMAGENET1K_V1``), or ``random``; '': ImageNet's of MobileNetV2 at hand."""
    cache: str = "runs/cache"
    device: str = "auto"
    """``cpu``, ``cuda`` or ``auto``: CUDA, in bfloat16, when there is one."""
    seed: int = 1
    minutes: float = 60.0
    steps: int = 0
    """Updates to make, in place of ``minutes``: the same seed then gives the same schedule on any
    machine. 0: the clock decides."""
    clock: str = "wall"
    """What ``minutes`` are of: ``wall``, or ``processor`` time, which others cannot take away."""
    batch: int = 32
    rate: float = 8e-4
    """Peak learning rate of AdamW."""
    warmup: float = 0.02
    """Share of the budget in which the rate rises."""
    decay: float = 0.02
    chunk: int = 32
    """Images that go through the network at once; their gradients add up to those of the batch."""
    frozen_norms: bool = False
    """Keep the statistics of the batch norms that ``start`` came with (:mod:`mobilenet`)."""
    frozen_blocks: int = 0
    """First blocks of the backbone that stay as in ``start``: they take a third of the time."""
    ema: float = 0.998
    dropout: float = 0.2
    pixels: int = 256
    """Side of the cached images."""
    sides: tuple[int, ...] = (128, 176, 224)
    """Side of the network's input in each stage ..."""
    until: tuple[float, ...] = (0.25, 0.55, 1.0)
    """... and the share of the budget at which the stage ends."""
    low_resolution: tuple[float, ...] = (0.5, 0.25, 0.1)
    """Share of images with 128 pixels a side (``train_128``) in each stage; an archive has none."""
    rare: float = 0.0
    """Share drawn from patients under 18 or from 70 alone, on top of their natural share."""
    ap: float = 0.0
    """The same of images in AP projection."""
    other: float = 0.0
    """The same of images of other institutions (``train_other``)."""
    children: float = 0.0
    """The same of those of whom only a range of ages is known (``children``)."""
    leave_out: tuple[str, ...] = ()
    """Countries whose images of other institutions are not trained with."""
    devices: float = 0.0
    """Share of images with drawn lines, tubes and electrodes, as the very sick have them."""
    mixed_styles: float = 0.0
    """Share of batches whose images swap the mean and the contrast of early feature maps (MixStyle,
    Zhou et al. 2021)."""
    local_contrast: float = 0.0
    """Share of images whose contrast is equalised locally, as CLAHE does."""
    findings: float = 0.0
    """Weight of projection and findings next to age and sex, see :mod:`training.data.findings`."""
    gate: float = 0.12
    """Share of gate material; three in ten of it are laterals, three frontal images like them."""
    ridge: bool = False
    """Of an age from CT: learn the linear layer of :mod:`training.fit.ridge` alone. ``minutes`` are
    0 then."""
    as_hu: float = 0.0
    """Share of pictures of CT that are taken for HU (:mod:`training.data.augment_slices`)."""
    gate_weight: float = 0.2
    """Weight of each gate in the loss, where a head has 1."""
    corrupted: float = 0.04
    """Share of training images turned or inverted: negatives of the chest head."""
    checkpoint_seconds: float = 180.0
    archive: ArchiveConfig | None = None
    """What to train on; None: this project's images (``training.data.project``)."""

    def __post_init__(self) -> None:
        if self.bundle not in DATA:
            raise ValueError(f"bundle is {self.bundle!r}, expected one of {', '.join(DATA)}")
        if not len(self.sides) == len(self.until) == len(self.low_resolution):
            raise ValueError("sides, until and low_resolution need one value for each stage")
        if self.until[-1] != 1.0 or list(self.until) != sorted(self.until):
            raise ValueError(f"until is {list(self.until)}, expected to rise to 1.0")
        trained = self.start != RANDOM
        if self.frozen_norms and not (trained and self.architecture == "mobilenet_v2"):
            raise ValueError(
                "frozen_norms needs weights as start, and the architecture mobilenet_v2"
            )
        if self.frozen_blocks and not self.frozen_norms:
            raise ValueError("frozen_blocks needs frozen_norms")
        if self.clock not in ("wall", "processor"):
            raise ValueError(f"clock is {self.clock!r}, expected 'wall' or 'processor'")
        if self.ridge:
            if self.minutes or self.steps:
                raise ValueError("ridge needs minutes = 0: nothing else is learnt")
        elif not self.minutes > 0:
            raise ValueError(f"minutes is {self.minutes}, expected more than 0")
        if self.steps < 0:
            raise ValueError(f"steps is {self.steps}, expected 0 or more")

    @property
    def budget(self) -> str:
        """How long the run is, in words."""
        return f"{self.steps:,} steps" if self.steps else f"{self.minutes:g} minutes"

    def progress(self, elapsed: float, steps: int) -> float:
        """The share of the budget that is used up after ``elapsed`` seconds and ``steps``."""
        if self.ridge:
            return 1.0
        return steps / self.steps if self.steps else elapsed / (60 * self.minutes)

    def stage(self, progress: float) -> int:
        """Position of the stage at ``progress``, from 0 to 1."""
        return next(i for i, end in enumerate(self.until) if progress < end)

    def learning_rate(self, progress: float) -> float:
        """Linear rise, then half a cosine down to a hundredth."""
        if progress < self.warmup:
            return self.rate * max(progress / self.warmup, 0.01)
        done = min((progress - self.warmup) / (1 - self.warmup), 1.0)
        return self.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def read(path: Path, *, fold: int | None = None, **changes: Any) -> RunConfig:
    """Read a TOML file; what is not None in ``changes`` replaces its values.

    A run on an archive has a folder for each fold that it may hold out;
    ``fold`` stands for ``archive.hold_out``.

    Raises SystemExit: with the file and the key, when a key is unknown or a value makes no sense.
    """
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SystemExit(f"{path}: expected a configuration in TOML ({error})") from error
    given = {name: value for name, value in changes.items() if value is not None}
    return checked(path, values | given, fold=fold)


def checked(path: Path, values: dict[str, Any], *, fold: int | None = None) -> RunConfig:
    """The settings that stand in ``path``; SystemExit as :func:`read` raises it."""
    try:
        given = _known(RunConfig, values)
        if {"minutes", "steps"} <= given.keys():
            raise ValueError("minutes and steps: expected one of them")
        if given.get("archive") is not None:
            given["archive"] = ArchiveConfig(**_known(ArchiveConfig, given["archive"]))
        config = RunConfig(**given)
        if fold is not None and config.archive is None:
            raise ValueError("--fold needs an [archive]")
    except ValueError as error:
        raise SystemExit(f"{path}: {error}") from error
    if config.archive is None:
        return config
    return member(config, config.archive.hold_out if fold is None else fold)


def data_of(config: RunConfig, root: Path) -> Data:
    """What a run trains on: its archive, or this project's images below ``root``."""
    if config.archive is None:
        return DATA[config.bundle](root, Path(config.cache))
    return archived(config)


def archived(config: RunConfig) -> ArchiveData:
    """The images of a run that has an archive."""
    assert config.archive is not None
    return ArchiveData(config.archive, Path(config.cache), config.pixels)


def member(config: RunConfig, fold: int) -> RunConfig:
    """The run that holds out ``fold``, in the folder ``fold-K`` below ``out``."""
    assert config.archive is not None
    held = replace(config.archive, hold_out=fold)
    return replace(below(config, f"fold-{fold}"), archive=held)


def below(config: RunConfig, name: str) -> RunConfig:
    """A run of its own, in the folder ``name`` below ``out``."""
    return replace(config, out=str(Path(config.out) / name))


def _known(kind: type[RunConfig] | type[ArchiveConfig], values: Any) -> dict[str, Any]:
    """Values for the fields of ``kind``, lists as tuples; ValueError where there is no field."""
    if not isinstance(values, dict):
        raise ValueError(f"archive is {values!r}, expected a table")
    unknown = set(values) - {field.name for field in fields(kind)}
    if unknown:
        raise ValueError(f"unknown keys {sorted(unknown)}")
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
