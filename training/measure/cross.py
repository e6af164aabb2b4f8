"""Train a network for every fold of an archive, and say how far off each is on what it never saw.

    python -m training cross --config site.toml

The network that held out fold K lies in ``fold-K`` below the configuration's ``out``, where
``train --fold K`` puts it too: what is trained is not trained again, and an interrupted
run goes on. ``out-of-fold.csv`` in ``out`` has a line for every frontal image with a label, named
as in the folds: what the network that held it out says of it, before any calibration.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from safetensors.numpy import load_file

from dicom_ai_node.inference.calibration import sigmoids
from dicom_ai_node.inference.engine import NETWORK
from dicom_ai_node.inference.torch_engine import load_network
from training.data.archive import ArchiveData
from training.data.folds import OutOfFold, read_folds, write_predictions
from training.data.images import LabelledImage
from training.data.options import ROOT, ConfigFile, Root
from training.data.roles import HELD_OUT
from training.fit import config as settings
from training.fit.calibrate import answers
from training.fit.config import WEIGHTS, RunConfig, archived, member
from training.fit.run import device_of
from training.fit.train import print_roles, train
from training.measure import metrics
from training.measure.metrics import Estimate, Floats, Statistic, estimate, resamples

FILE = "out-of-fold.csv"
Predicted = tuple[LabelledImage, OutOfFold]
"""What is known of an image, and what the network says that held it out."""


def crossed(config: RunConfig, root: Path) -> Iterator[Predicted]:
    """Train what is not trained yet; everything that was held out, fold by fold.

    ``config`` is that of a member, as :func:`training.fit.config.read` gives it.
    """
    assert config.archive is not None
    base = str(Path(config.out).parent)
    for fold in sorted(set(read_folds(Path(config.archive.folds)).values())):
        fold_config = member(replace(config, out=base), fold)
        data = archived(fold_config)
        print(f"fold {fold}", flush=True)
        print_roles(data)
        train(fold_config, root, data)
        yield from predictions(fold_config, data)


def predictions(config: RunConfig, data: ArchiveData) -> Iterator[Predicted]:
    """What the trained network of ``config`` says of the fold that it held out."""
    assert config.archive is not None
    weights, device = Path(config.out) / WEIGHTS, device_of(config)
    tensors = {NETWORK + name: tensor for name, tensor in load_file(weights).items()}
    network = load_network(config.architecture, tensors, weights).to(device)
    images = data.load(config.sides[-1], HELD_OUT)
    raw = answers(network, images, device.type)
    female = sigmoids(raw["sex"].astype(np.float64))
    for i, item in enumerate(images.items):
        age, sd = map(float, raw["age"][i])
        yield item, OutOfFold(item.path, config.archive.hold_out, age, sd, float(female[i]))


def figures(predicted: Sequence[Predicted]) -> tuple[Estimate | None, Estimate | None]:
    """MAE of the age in years and AUC of the sex; None where no label is known."""

    def measured(statistic: Statistic, answer: str, label: str) -> Estimate | None:
        known = [(item, p) for item, p in predicted if not np.isnan(getattr(item, label))]
        if not known:
            return None
        columns: list[Floats] = [
            np.array([getattr(p, answer) for _, p in known]),
            np.array([getattr(item, label) for item, _ in known]),
        ]
        weights = resamples([item.patient for item, _ in known])
        found = estimate(statistic, weights, *columns)
        return None if np.isnan(found.value) else found

    return measured(metrics.mae, "age", "age"), measured(
        metrics.auc, "probability_female", "female"
    )


def of_the_median(predicted: Sequence[Predicted], part: Sequence[Predicted]) -> float:
    """MAE on the folds of ``part`` of answering with the median age of the folds that are trained.

    NaN where no age is known.
    """
    known = [(item.age, p.fold) for item, p in predicted if not np.isnan(item.age)]
    errors: list[float] = []
    for fold in {p.fold for _, p in part}:
        others = [age for age, of in known if of != fold]
        if others:
            held = [age for age, of in known if of == fold]
            errors += np.abs(np.array(held) - np.median(others)).tolist()
    return float(np.mean(errors)) if errors else float("nan")


def summary(predicted: Sequence[Predicted]) -> Iterator[list[str]]:
    """A line for each fold and one for all: name, images, patients, MAE, the median's, AUC."""
    for fold in [*sorted({p.fold for _, p in predicted}), None]:
        part = [pair for pair in predicted if fold is None or pair[1].fold == fold]
        patients = len({item.patient for item, _ in part})
        name = "all" if fold is None else f"fold {fold}"
        age, sex = map(_cell, figures(part))
        median = of_the_median(predicted, part)
        usual = "-" if np.isnan(median) else f"{median:.3f}"
        yield [name, f"{len(part):,}", f"{patients:,}", age, usual, sex]


def _cell(found: Estimate | None) -> str:
    if found is None:
        return "-"
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def main(
    config: ConfigFile,
    root: Root = ROOT,
    minutes: Annotated[float | None, typer.Option(help="For each fold.")] = None,
    out: Annotated[str | None, typer.Option(help="Folder of the folds' folders.")] = None,
) -> None:
    """Train every fold, write and sum up what was held out."""
    run = settings.read(config, minutes=minutes, out=out)
    if run.archive is None:
        raise SystemExit(f"{config}: expected an [archive]")
    predicted = list(crossed(run, root))
    file = Path(run.out).parent / FILE
    write_predictions((p for _, p in predicted), file)
    table = Table(
        "Held out", "Images", "Patients", "Age MAE, years", "Of the median", "Sex AUC", box=None
    )
    for line in summary(predicted):
        table.add_row(*line)
    Console().print(table, "", f"{file}: {len(predicted):,} images", highlight=False)
