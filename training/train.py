"""Train one network in a given wall-clock time on a CPU; stop and go on as you like.

    python -m training.train --config training/configs/first.toml
    python -m training.train --config training/configs/first.toml --minutes 1 --out runs/try

The schedule follows the clock, not the steps, so that a busy machine costs steps and never the end
of the cosine. Writes log.csv, last.pt (to resume) and ema.safetensors (the weights to ship).
On Linux, ``GLIBC_TUNABLES=glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=20000000000`` in the
environment makes this up to twice as fast.
"""

import argparse
import copy
import csv
import math
import time
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from dicom_ai_node.inference.network import Network
from training import augment, data, imagenet, loss


@dataclass(frozen=True, slots=True)
class Config:
    """One training run; each value is a line of the TOML file."""

    architecture: str = "mobilenet_v2"
    out: str = "runs/first"
    cache: str = "runs/cache"
    seed: int = 1
    minutes: float = 60.0
    batch: int = 32
    rate: float = 8e-4
    """Peak learning rate of AdamW."""
    warmup: float = 0.02
    """Share of the time in which the rate rises."""
    decay: float = 0.02
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
    gate: float = 0.12
    """Share of gate material; three in ten of it are laterals, three frontal images like them."""
    corrupted: float = 0.04
    """Share of training images turned or inverted: negatives of the chest head."""
    checkpoint_seconds: float = 180.0


def read_config(path: Path) -> Config:
    """Read a TOML file; unknown keys are an error."""
    values = tomllib.loads(path.read_text())
    unknown = set(values) - {field.name for field in fields(Config)}
    if unknown:
        raise SystemExit(f"{path}: unknown keys {sorted(unknown)}")
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return Config(**given)


class Sampler:
    """Draws the positions of a batch: pools in fixed shares, each shuffled and used up."""

    def __init__(self, images: data.Images, rng: np.random.Generator) -> None:
        gate = images.where("gate")
        frontal, chest = images.column("frontal")[gate], images.column("chest")[gate]
        self.pools = {
            "train": images.where("train"),
            "train_128": images.where("train_128"),
            "lateral": gate[frontal == 0],
            "like_lateral": gate[(frontal == 1) & (chest == 1)],
            "other": gate[chest == 0],
        }
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


def shares(config: Config, stage: int) -> dict[str, float]:
    """How much of a batch comes from each pool in ``stage``."""
    aged = 1 - config.gate
    low = config.low_resolution[stage]
    return {
        "train": aged * (1 - low),
        "train_128": aged * low,
        "lateral": 0.3 * config.gate,
        "like_lateral": 0.3 * config.gate,
        "other": 0.4 * config.gate,
    }


@torch.no_grad()
def update_ema(ema: Network, network: Network, decay: float) -> None:
    """Move ``ema`` towards ``network``, buffers included."""
    average, current = ema.state_dict(), network.state_dict()
    for name, value in current.items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - decay)
        else:
            average[name].copy_(value)


def step(
    network: Network, optimiser: torch.optim.Optimizer, x: Tensor, labels: dict[str, Tensor]
) -> dict[str, float]:
    """One update; returns the parts of the loss."""
    value, parts = loss.total(network(x), labels)
    optimiser.zero_grad(set_to_none=True)
    value.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimiser.step()
    return parts


def learning_rate(config: Config, progress: float) -> float:
    """Linear rise, then half a cosine down to a hundredth."""
    if progress < config.warmup:
        return config.rate * max(progress / config.warmup, 0.01)
    done = min((progress - config.warmup) / (1 - config.warmup), 1.0)
    return config.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def groups(network: Network, decay: float) -> list[dict[str, object]]:
    """Weight decay for weights, none for norms and biases."""
    parameters = list(network.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def train(config: Config, root: Path) -> None:
    """Run until the time is used up, from the last checkpoint if there is one."""
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    rng = torch.Generator().manual_seed(config.seed)
    images = data.load(root, Path(config.cache), config.pixels, "train", "train_128", "gate")
    pixels = torch.from_numpy(images.pixels)
    columns = {n: torch.from_numpy(images.column(n)) for n in ("age", "female", "frontal", "chest")}
    sampler = Sampler(images, np.random.default_rng(config.seed))

    network = Network(config.architecture, config.dropout)
    elapsed, steps = 0.0, 0
    last = out / "last.pt"
    if not last.exists() and config.architecture == "mobilenet_v2":
        imagenet.load_imagenet(network.backbone, root / imagenet.ARCHIVE)
        some = pixels[torch.from_numpy(images.where("train")[:: len(images.items) // 256])]
        calm = augment.batch(some, config.sides[0], rng, augment.Strength())
        imagenet.insert_norms(network.backbone, list((calm * 2 - 1).chunk(4)))
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    ema = copy.deepcopy(network)
    optimiser = torch.optim.AdamW(groups(network, config.decay), lr=config.rate, fused=True)
    if last.exists():
        state = torch.load(last, weights_only=True)
        network.load_state_dict(state["network"])
        ema.load_state_dict(state["ema"])
        optimiser.load_state_dict(state["optimiser"])
        elapsed, steps = state["elapsed"], state["steps"]
        rng.manual_seed(config.seed + steps)
        sampler.rng = np.random.default_rng(config.seed + steps)
    network.train()

    def save() -> None:
        weights = {k: v.contiguous() for k, v in ema.state_dict().items()}
        save_file(weights, out / "ema.safetensors")
        state = {"network": network.state_dict(), "ema": ema.state_dict(), "elapsed": elapsed}
        state |= {"optimiser": optimiser.state_dict(), "steps": steps}
        torch.save(state, out / "last.partial")
        (out / "last.partial").rename(last)

    seen: dict[str, float] = {}
    saved = elapsed
    with (out / "log.csv").open("a", newline="") as file:
        log = csv.writer(file)
        while (progress := elapsed / (60 * config.minutes)) < 1:
            began = time.monotonic()
            stage = next(i for i, end in enumerate(config.until) if progress < end)
            rate = learning_rate(config, progress)
            for group in optimiser.param_groups:
                group["lr"] = rate
            at = torch.from_numpy(sampler.draw(config.batch, shares(config, stage)))
            labels = {name: column[at] for name, column in columns.items()}
            spoilt = (torch.rand(len(at), generator=rng) < config.corrupted) & (
                labels["chest"] == 1
            )
            x = augment.corrupt(pixels[at], spoilt, rng)
            x = augment.batch(x, config.sides[stage], rng, augment.Strength())
            labels = {name: label.where(~spoilt, torch.nan) for name, label in labels.items()}
            labels["chest"] = labels["chest"].where(~spoilt, 0.0)
            x = x.contiguous(memory_format=torch.channels_last)
            parts = step(network, optimiser, x, labels)
            steps += 1
            update_ema(ema, network, min(config.ema, (1 + steps) / (10 + steps)))
            elapsed += time.monotonic() - began
            seen = {k: 0.98 * seen.get(k, v) + 0.02 * v for k, v in parts.items()}
            if steps % 50 == 0:
                row = [steps, round(elapsed), config.sides[stage], f"{rate:.2e}"]
                log.writerow(row + [f"{value:.4f}" for value in seen.values()])
                file.flush()
            if elapsed - saved > config.checkpoint_seconds:
                save()
                saved = elapsed
    save()


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description="train one network")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--out")
    given = parser.parse_args()
    config = read_config(given.config)
    changed = {k: getattr(given, k) for k in ("minutes", "out") if getattr(given, k) is not None}
    values = {field.name: getattr(config, field.name) for field in fields(Config)} | changed
    train(Config(**values), given.data)


if __name__ == "__main__":
    main()
