"""Train one network in a given time, or number of steps; stop and go on as you like.

    python -m training train --config training/configs/first.toml
    python -m training train --config training/configs/first.toml --minutes 1 --out runs/try
    python -m training train --config site.toml --fold 3

The schedule follows the clock, so that a busy machine costs steps and never the end of the cosine;
with ``steps`` in the configuration it follows those, and a busy machine costs time. Writes log.csv,
last.pt and ema.safetensors (the weights to ship). From last.pt a run goes on as if it had never
stopped: the same images with the same changes, bit for bit.
On Linux, ``GLIBC_TUNABLES=glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=20000000000`` in the
environment makes this up to twice as fast on a CPU.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.progress import Progress, TextColumn
from safetensors.torch import load_file
from torch import Tensor

from dicom_ai_node.inference.engine import NETWORK
from dicom_ai_node.inference.heads import Row
from dicom_ai_node.inference.network import Network
from dicom_ai_node.inference.torch_engine import load_network
from training.data.archive import ArchiveData
from training.data.images import Data, Material
from training.data.options import ROOT, ConfigFile, Fold, Root
from training.fit import checkpoint, start
from training.fit import config as settings
from training.fit.checkpoint import record
from training.fit.config import WEIGHTS, RunConfig, data_of
from training.fit.questions import QUESTIONS, begin_at_shares
from training.fit.run import Log, Run, device_of

FINISHED = "finished"
"""A file beside the weights of a run that has used up its budget."""


class Lesson(checkpoint.Drawn, Protocol):
    """Training images, and what a network is asked of them."""

    rows: Sequence[Row]
    channels: int
    images: str
    """SHA-256 of what the images and their labels are."""

    def for_norms(self, side: int) -> Tensor:
        """128 augmented images, for the statistics of the norms."""


def train(config: RunConfig, root: Path, data: Material) -> None:
    """Run until the budget is used up, from the last checkpoint if there is one.

    Raises DataError: there are no images or weights to train with, or the checkpoint is of other
    ones.
    """
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    device = device_of(config)
    asked = QUESTIONS[config.bundle]
    batches = asked.batches(config, data, device)
    network = start.network(config, root, batches.for_norms, asked.rows)
    begin_at_shares(network, batches)
    trained_with = record(config, batches.images.items)
    fit(Run(config, network, device), batches, trained_with)


def trained(
    config: RunConfig,
    root: Path,
    lesson: Lesson,
    begin: Callable[[Network], None] = lambda _: None,
) -> Network:
    """The network of a run, trained where it is not yet; its weights lie in ``config.out``.

    ``begin`` may change it in place before the first update.

    Raises DataError: its folder holds a run with other images or settings.
    """
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    trained_with = {checkpoint.IMAGES: lesson.images, **checkpoint.settings(config)}
    if (out / FINISHED).exists():
        checkpoint.check(out, checkpoint.read(out)["record"], trained_with)
    else:
        torch.manual_seed(config.seed)
        network = start.network(config, root, lesson.for_norms, lesson.rows, lesson.channels)
        if not (out / checkpoint.LAST).exists():
            begin(network)
        fit(Run(config, network, torch.device("cpu")), lesson, trained_with)
        (out / FINISHED).touch()
    tensors: dict[str, Any] = {
        NETWORK + name: tensor.numpy() for name, tensor in load_file(out / WEIGHTS).items()
    }
    return load_network(config.architecture, tensors, out / WEIGHTS, lesson.rows, lesson.channels)


def fit(run: Run, batches: checkpoint.Drawn, trained_with: checkpoint.Record) -> None:
    """Update ``run`` until its budget is used up, from its last checkpoint if there is one."""
    config, out = run.config, Path(run.config.out)
    if (out / checkpoint.LAST).exists():
        checkpoint.resume(out, run, batches, trained_with)
    log, saved = Log(out, run.steps), run.elapsed
    for stage in updates(config, batches, run):
        log.add(run, config.sides[stage])
        if run.elapsed - saved > config.checkpoint_seconds:
            checkpoint.save(out, run, batches, trained_with)
            saved = run.elapsed
    checkpoint.save(out, run, batches, trained_with)


def updates(config: RunConfig, batches: checkpoint.Drawn, run: Run) -> Iterator[int]:
    """Update until the budget is used up; yields the stage of each step."""
    clock = time.process_time if config.clock == "processor" else time.monotonic
    columns = (*Progress.get_default_columns(), TextColumn("{task.fields[seen]}"))
    with Progress(*columns) as bar:
        task = bar.add_task("training", total=1000, completed=int(1000 * run.progress), seen="")
        while run.progress < 1:
            began = clock()
            stage = config.stage(run.progress)
            run.step(*batches.batch(stage))
            run.elapsed += clock() - began
            text = " ".join(f"{name} {value:.3f}" for name, value in run.seen.items())
            bar.update(task, completed=1000 * run.progress, seen=f"step {run.steps} {text}")
            yield stage


def print_roles(data: Data) -> None:
    """Print what an archive's images are for."""
    if isinstance(data, ArchiveData):
        for name, number in sorted(data.counts().items()):
            print(f"{number:>9,}  {name}")


def main(
    config: ConfigFile,
    fold: Fold = None,
    root: Root = ROOT,
    minutes: float | None = None,
    out: str | None = None,
) -> None:
    """Train one network."""
    run = settings.read(config, fold=fold, minutes=minutes, out=out)
    data = data_of(run, root)
    print_roles(data)
    train(run, root, data)
