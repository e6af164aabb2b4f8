"""Train one network in a given wall-clock time; stop and go on as you like.

    python -m training.train --config training/configs/first.toml
    python -m training.train --config training/configs/first.toml --minutes 1 --out runs/try
    python -m training.train --config site.toml --fold 3

The schedule follows the clock, not the steps, so that a busy machine costs steps and never the end
of the cosine. Writes log.csv, last.pt (to resume) and ema.safetensors (the weights to ship).
On Linux, ``GLIBC_TUNABLES=glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=20000000000`` in the
environment makes this up to twice as fast on a CPU.
"""

import argparse
import copy
import csv
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress, TextColumn
from safetensors.torch import save_file
from torch import Tensor, nn

from dicom_ai_node.errors import BundleError
from dicom_ai_node.inference.network import Network
from training import augment, loss, start
from training import config as settings
from training.archive import Archived, data_of
from training.config import Config
from training.data import Data
from training.findings import Further, targets
from training.frozen import freeze_blocks, freeze_norms
from training.sampling import Sampler
from training.tables import DataError

WEIGHTS = "ema.safetensors"
"""The file of a run's weights, in its folder."""
LABELS = ("age", "female", "frontal", "chest")
FURTHER = "further"
"""The label, and the part of the loss, that is :mod:`training.findings`'."""


class Material:
    """The training images, and the batches made of them on the device."""

    def __init__(self, config: Config, data: Data, device: torch.device) -> None:
        self.images = data.training(config.pixels)
        labels = {name: self.images.column(name) for name in LABELS}
        labels[FURTHER] = targets(self.images.items)
        self.labels = {name: torch.from_numpy(of).to(device) for name, of in labels.items()}
        self.config, self.device = config, device
        self.strength = augment.Strength(local=config.local_contrast)
        self.seed(config.seed)

    def seed(self, seed: int) -> None:
        """Start all randomness of the batches anew."""
        self.rng = torch.Generator(self.device).manual_seed(seed)
        self.sampler = Sampler(self.images, np.random.default_rng(seed))

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


class Run:
    """Network, its moving average and the optimiser, as they stand after ``steps``."""

    def __init__(self, config: Config, network: Network, device: torch.device) -> None:
        self.config, self.device = config, device
        self.network = network.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.ema = copy.deepcopy(self.network)
        if config.frozen_norms:
            freeze_norms(self.network)
        freeze_blocks(self.network, config.frozen_blocks)
        self.further = Further(self.network.head.in_features).to(device)
        self.optimiser = torch.optim.AdamW(
            groups(nn.ModuleList([self.network, self.further]), config.decay),
            lr=config.rate,
            fused=True,
        )
        self.elapsed, self.steps = 0.0, 0
        self.out = Path(config.out)

    def step(self, x: Tensor, labels: dict[str, Tensor]) -> dict[str, float]:
        """One update; returns the parts of the loss."""
        rate = self.config.learning_rate(self.elapsed / (60 * self.config.minutes))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        chunks = range(0, len(x), self.config.chunk)
        parts: dict[str, float] = {}
        for first in chunks:
            some = slice(first, first + self.config.chunk)
            with torch.autocast("cuda", dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
                answers = self.network(x[some])
            known = {name: label[some] for name, label in labels.items()}
            value, found = loss.total(answers, known, self.config.age_loss)
            if self.config.findings:
                further = self.further.loss(answers.features, known[FURTHER])
                value = value + self.config.findings * further
                found[FURTHER] = float(further.detach())
            (value / len(chunks)).backward()  # type: ignore[no-untyped-call]
            parts = {k: parts.get(k, 0.0) + v / len(chunks) for k, v in found.items()}
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()
        self.steps += 1
        self._average(min(self.config.ema, (1 + self.steps) / (10 + self.steps)))
        return parts

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        average, current = self.ema.state_dict(), self.network.state_dict()
        for name, value in current.items():
            if value.is_floating_point():
                average[name].lerp_(value, 1 - decay)
            else:
                average[name].copy_(value)

    def save(self) -> None:
        """Write ema.safetensors and last.pt, the latter in one piece."""
        weights = {k: v.contiguous().cpu() for k, v in self.ema.state_dict().items()}
        save_file(weights, self.out / WEIGHTS)
        state = {"network": self.network.state_dict(), "ema": self.ema.state_dict()}
        state |= {FURTHER: self.further.state_dict()}
        state |= {"optimiser": self.optimiser.state_dict()}
        state |= {"elapsed": self.elapsed, "steps": self.steps}
        torch.save(state, self.out / "last.partial")
        (self.out / "last.partial").rename(self.out / "last.pt")

    def resume(self) -> None:
        """Go back to what last.pt holds; only tensors and numbers are ever read from it."""
        state = torch.load(self.out / "last.pt", weights_only=True, map_location=self.device)
        self.network.load_state_dict(state["network"])
        self.ema.load_state_dict(state["ema"])
        self.further.load_state_dict(state[FURTHER])
        self.optimiser.load_state_dict(state["optimiser"])
        self.elapsed, self.steps = state["elapsed"], state["steps"]


def groups(network: nn.Module, decay: float) -> list[dict[str, object]]:
    """Weight decay for weights, none for norms and biases."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def device_of(config: Config) -> torch.device:
    """Where to compute."""
    name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name if config.device == "auto" else config.device)


def train(config: Config, root: Path, data: Data) -> None:
    """Run until the time is used up, from the last checkpoint if there is one."""
    Path(config.out).mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    device = device_of(config)
    material = Material(config, data, device)
    network = start.network(config, root, material.calm)
    run = Run(config, network, device)
    if (run.out / "last.pt").exists():
        run.resume()
        material.seed(config.seed + run.steps)
    saved = run.elapsed
    with (run.out / "log.csv").open("a", newline="") as file:
        log = csv.writer(file)
        for stage, seen in updates(config, material, run):
            if run.steps % 50 == 0:
                row = [run.steps, round(run.elapsed), config.sides[stage]]
                log.writerow(row + [f"{value:.4f}" for value in seen.values()])
                file.flush()
            if run.elapsed - saved > config.checkpoint_seconds:
                run.save()
                saved = run.elapsed
    run.save()


def updates(config: Config, material: Material, run: Run) -> Iterator[tuple[int, dict[str, float]]]:
    """Update until the time is used up; yields the stage and the smoothed parts of the loss."""
    total, seen = 60 * config.minutes, dict[str, float]()
    clock = time.process_time if config.clock == "processor" else time.monotonic
    columns = (*Progress.get_default_columns(), TextColumn("{task.fields[seen]}"))
    with Progress(*columns) as bar:
        task = bar.add_task("training", total=total, completed=int(run.elapsed), seen="")
        while run.elapsed < total:
            began = clock()
            stage = config.stage(run.elapsed / total)
            parts = run.step(*material.batch(stage))
            run.elapsed += clock() - began
            seen = {k: 0.98 * seen.get(k, v) + 0.02 * v for k, v in parts.items()}
            text = " ".join(f"{name} {value:.3f}" for name, value in seen.items())
            bar.update(task, completed=run.elapsed, seen=f"step {run.steps} {text}")
            yield stage, seen


def told(data: Data) -> None:
    """Print what an archive's images are for."""
    if isinstance(data, Archived):
        for name, number in sorted(data.counts().items()):
            print(f"{number:>9,}  {name}")


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(
        description="train one network",
        epilog="example: python -m training.train --config site.toml --fold 0",
    )
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--fold", type=int, help="to hold out, in place of archive.hold_out")
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="the own images, and ImageNet's"
    )
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--out")
    given = parser.parse_args()
    config = settings.read(given.config, fold=given.fold, minutes=given.minutes, out=given.out)
    try:
        data = data_of(config, given.data)
        told(data)
        train(config, given.data, data)
    except (DataError, BundleError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
