"""Network, moving average and optimiser of a run, one step of them, and the log of the steps."""

import copy
import csv
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dicom_ai_node.inference.network import Network
from training.fit import loss
from training.fit.batches import FURTHER
from training.fit.config import RunConfig
from training.fit.mobilenet import freeze_blocks, freeze_norms

FILE = "log.csv"
EVERY = 50
"""Steps between two rows."""


class Run:
    """Network, its moving average and the optimiser, as they stand after ``steps``."""

    def __init__(self, config: RunConfig, network: Network, device: torch.device) -> None:
        self.config, self.device = config, device
        self.network = network.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.ema = copy.deepcopy(self.network)
        if config.frozen_norms:
            freeze_norms(self.network)
        freeze_blocks(self.network, config.frozen_blocks)
        if config.mixed_styles:
            early = self.network.backbone[config.frozen_blocks or 1]
            early.register_forward_hook(partial(mixed_styles, share=config.mixed_styles))
        self.further = loss.FindingsTask(self.network.head.in_features).to(device)
        self.optimiser = torch.optim.AdamW(
            groups(nn.ModuleList([*self._learning().values()]), config.decay),
            lr=config.rate,
            fused=True,
        )
        self.elapsed, self.steps = 0.0, 0
        self.seen = dict[str, float]()
        """Parts of the loss, smoothed over some fifty steps."""

    @property
    def progress(self) -> float:
        """Share of the budget that is used up."""
        return self.config.progress(self.elapsed, self.steps)

    def step(self, x: Tensor, labels: dict[str, Tensor]) -> dict[str, float]:
        """One update; returns the parts of its loss."""
        rate = self.config.learning_rate(self.progress)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        chunks = range(0, len(x), self.config.chunk)
        parts: dict[str, float] = {}
        for first in chunks:
            some = slice(first, first + self.config.chunk)
            known = {name: label[some] for name, label in labels.items()}
            with torch.autocast("cuda", dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
                answers = self.network(x[some])
            value, found = loss.total(self.network.rows, answers, known, self.config.gate_weight)
            if self.config.findings:
                further = self.further.loss(answers.features, known[FURTHER])
                value = value + self.config.findings * further
                found[FURTHER] = float(further.detach())
            (value / len(chunks)).backward()  # type: ignore[no-untyped-call]
            parts = {k: parts.get(k, 0.0) + v / len(chunks) for k, v in found.items()}
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()
        self.steps += 1
        self.seen = {k: 0.98 * self.seen.get(k, v) + 0.02 * v for k, v in parts.items()}
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

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`load_state_dict` needs to go on: tensors, numbers and text."""
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        numbers = {"elapsed": self.elapsed, "steps": self.steps, "seen": self.seen}
        return {**parts, **numbers, "dropout": {self.device.type: self._randomness()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to ``state``; on another kind of device dropout starts from its seed."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.elapsed, self.steps, self.seen = state["elapsed"], state["steps"], state["seen"]
        stored = state["dropout"].get(self.device.type)
        if stored is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(stored.cpu(), self.device)
        elif stored is not None:
            torch.set_rng_state(stored)

    def _randomness(self) -> Tensor:
        """Where the generator stands that dropout draws from."""
        if self.device.type == "cuda":
            return torch.cuda.get_rng_state(self.device)
        return torch.get_rng_state()

    def _learning(self) -> dict[str, nn.Module]:
        return {"network": self.network, FURTHER: self.further}

    def _parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        return {**self._learning(), "ema": self.ema, "optimiser": self.optimiser}


def mixed_styles(module: nn.Module, _: Any, maps: Tensor, *, share: float) -> Tensor:
    """Mix means and deviations of each map (N, C, h, w) with those of another image of the batch.

    Of a ``share`` of the batches, while ``module`` is trained; see MixStyle (Zhou et al. 2021).
    """
    if not module.training or torch.rand(()) >= share:
        return maps
    own = torch.distributions.Beta(0.1, 0.1).sample((len(maps), 1, 1, 1)).to(maps)
    mean, deviation = maps.mean((2, 3), keepdim=True), maps.std((2, 3), keepdim=True) + 1e-5
    mean, deviation = mean.detach(), deviation.detach()
    other = torch.randperm(len(maps), device=maps.device)
    new_mean = own * mean + (1 - own) * mean[other]
    new_deviation = own * deviation + (1 - own) * deviation[other]
    return (maps - mean) / deviation * new_deviation + new_mean


def groups(network: nn.Module, decay: float) -> list[dict[str, object]]:
    """Weight decay for weights, none for norms and biases."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    found = [
        {
            "params": [p for p in parameters if (p.ndim > 1) == large],
            "weight_decay": decay if large else 0.0,
        }
        for large in (True, False)
    ]
    return [group for group in found if group["params"]]


def device_of(config: RunConfig) -> torch.device:
    """Where to compute."""
    name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name if config.device == "auto" else config.device)


class Log:
    """The log in ``folder`` as it was after ``steps``: what came later is made again."""

    def __init__(self, folder: Path, steps: int) -> None:
        self.file = folder / FILE
        earlier = _rows(self.file, steps)
        self._empty = not earlier
        with self.file.open("w", newline="") as file:
            csv.writer(file).writerows(earlier)

    def add(self, run: Run, side: int) -> None:
        """A row, where it is time for one."""
        if run.steps % EVERY:
            return
        with self.file.open("a", newline="") as file:
            log = csv.writer(file)
            if self._empty:
                log.writerow(["step", "seconds", "side", *run.seen])
                self._empty = False
            values = (f"{value:.4f}" for value in run.seen.values())
            log.writerow([run.steps, round(run.elapsed), side, *values])


def _rows(path: Path, steps: int) -> list[list[str]]:
    """Header and rows up to ``steps``, without one that was only written in part."""
    if not steps or not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    return rows[:1] + [row for row in rows[1:] if len(row) == len(rows[0]) and int(row[0]) <= steps]
