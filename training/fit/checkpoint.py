"""What a run leaves in its folder: weights to ship, and last.pt, from which it goes on.

last.pt also says what the run was trained with, in a few words that can be compared. Folds are
dealt anew when images are added. What was trained before then knows patients who are now held out:
it must neither go on, nor be calibrated or measured as if it had not seen them.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol
from zipfile import is_zipfile

import torch
from safetensors.torch import save_file
from torch import Tensor

from training.data.images import LabelledImage
from training.data.tables import DataError
from training.fit import start
from training.fit.config import WEIGHTS, RunConfig
from training.fit.run import Run

LAST = "last.pt"

PARTS = frozenset({"record", "run", "material"})
"""What last.pt holds: a :data:`Record`, and the states of the run and of its batches."""

INSTEAD = "remove the folder to train anew, or give another out"
IMAGES = "images"

FREE = frozenset({"out", "cache", "device", "minutes", "steps", "checkpoint_seconds", "archive"})
"""Settings that say where and how long; of an archive it is the images that matter."""

Record = dict[str, str]
"""``images``, ``start`` and every setting that what is learnt depends on."""


class Drawn(Protocol):
    """Training images, and what is left to draw of them."""

    def batch(self, stage: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Images (N, C, S, S) of a stage, and their labels by the name of each head and gate."""

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`load_state_dict` needs, in numbers, text and tensors."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to ``state``: the same batches follow."""


def save(folder: Path, run: Run, batches: Drawn, trained_with: Record) -> None:
    """Write both files, each in one piece."""
    weights = {k: v.contiguous().cpu() for k, v in run.ema.state_dict().items()}
    save_file(weights, folder / f"{WEIGHTS}.partial")
    (folder / f"{WEIGHTS}.partial").rename(folder / WEIGHTS)
    states = {"run": run.state_dict(), "material": batches.state_dict()}
    torch.save({"record": trained_with, **states}, folder / f"{LAST}.partial")
    (folder / f"{LAST}.partial").rename(folder / LAST)


def resume(folder: Path, run: Run, batches: Drawn, trained_with: Record) -> None:
    """Go back to what last.pt holds; DataError unless its run was trained with the same."""
    stored = read(folder, run.device)
    check(folder, stored["record"], trained_with)
    run.load_state_dict(stored["run"])
    batches.load_state_dict(stored["material"])


def read(folder: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The :data:`PARTS` of last.pt; only tensors, numbers and text are ever read from it.

    Raises DataError: it is not there, or it is none that a run could go on from.
    """
    file = folder / LAST
    if not file.exists():
        raise DataError(f"{file}: expected the checkpoint of a run")
    try:
        stored = (
            torch.load(file, weights_only=True, map_location=device) if is_zipfile(file) else {}
        )
    except (RuntimeError, UnpicklingError) as error:  # torch would advise weights_only=False
        raise DataError(f"{file}: expected the checkpoint of a run; {INSTEAD}") from error
    missing = PARTS - stored.keys() if isinstance(stored, dict) else PARTS
    if missing:
        names = ", ".join(sorted(missing))
        raise DataError(f"{file}: expected the checkpoint of a run, with {names}; {INSTEAD}")
    return dict(stored)


def check(folder: Path, stored: Record, wanted: Record) -> None:
    """Raise DataError unless the run in ``folder`` was trained as is ``wanted``."""
    different = differences(stored, wanted)
    if different:
        raise DataError(f"{folder / LAST}: {'; '.join(different)}; {INSTEAD}")


def check_images(folder: Path, items: Sequence[LabelledImage]) -> None:
    """Raise DataError unless the run in ``folder`` was trained with ``items`` and no others.

    Else it may have seen what is held out now.
    """
    stored: Record = read(folder)["record"]
    check(folder, {IMAGES: stored[IMAGES]}, {IMAGES: images(items)})


def images(items: Sequence[LabelledImage]) -> str:
    """SHA-256 of the names and roles of ``items``, in their order; labels may be mended."""
    names = json.dumps([[item.path, item.role] for item in items])
    return hashlib.sha256(names.encode()).hexdigest()


def record(config: RunConfig, items: Sequence[LabelledImage]) -> Record:
    """What a run of ``config`` is trained with; ``items`` are its training images."""
    return {IMAGES: images(items), **settings(config)}


def settings(config: RunConfig) -> Record:
    """What is learnt depends on beside the images."""
    kept = {f.name: repr(getattr(config, f.name)) for f in fields(config) if f.name not in FREE}
    return {**kept, "start": start.words(config)}


def differences(stored: Record, wanted: Record) -> list[str]:
    """What is not as ``wanted``, in words; settings that ``stored`` does not know had defaults."""
    usual = {field.name: repr(field.default) for field in fields(RunConfig)}
    found = {name: stored.get(name, usual.get(name, "nothing")) for name in wanted}
    return [
        f"{name}: expected {value}, got {found[name]}"
        for name, value in wanted.items()
        if found[name] != value
    ]
