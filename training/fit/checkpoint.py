"""What a run leaves in its folder: weights to ship, and last.pt, from which it goes on."""

from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import is_zipfile

import torch
from safetensors.torch import save_file

from training.data.images import Item
from training.data.tables import DataError
from training.fit import record
from training.fit.config import WEIGHTS
from training.fit.material import Material
from training.fit.record import Record
from training.fit.run import Run

LAST = "last.pt"
PARTS = frozenset({"record", "run", "material"})
"""What last.pt holds: a :mod:`training.fit.record`, the states of the run and of its material."""
INSTEAD = "remove the folder to train anew, or give another out"


def save(folder: Path, run: Run, material: Material, trained_with: Record) -> None:
    """Write both files, each in one piece."""
    weights = {k: v.contiguous().cpu() for k, v in run.ema.state_dict().items()}
    save_file(weights, folder / f"{WEIGHTS}.partial")
    (folder / f"{WEIGHTS}.partial").rename(folder / WEIGHTS)
    states = {"run": run.state_dict(), "material": material.state_dict()}
    torch.save({"record": trained_with, **states}, folder / f"{LAST}.partial")
    (folder / f"{LAST}.partial").rename(folder / LAST)


def resume(folder: Path, run: Run, material: Material, trained_with: Record) -> None:
    """Go back to what last.pt holds; DataError unless its run was trained with the same."""
    kept = read(folder, run.device)
    check(folder, kept["record"], trained_with)
    run.load_state_dict(kept["run"])
    material.load_state_dict(kept["material"])


def read(folder: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The :data:`PARTS` of last.pt; only tensors, numbers and text are ever read from it.

    Raises
    ------
    DataError
        It is not there, or it is none that a run could go on from.
    """
    file = folder / LAST
    if not file.exists():
        raise DataError(f"{file}: expected the checkpoint of a run")
    try:
        kept = torch.load(file, weights_only=True, map_location=device) if is_zipfile(file) else {}
    except (RuntimeError, UnpicklingError) as error:  # torch would advise weights_only=False
        raise DataError(f"{file}: expected the checkpoint of a run; {INSTEAD}") from error
    missing = PARTS - kept.keys() if isinstance(kept, dict) else PARTS
    if missing:
        names = ", ".join(sorted(missing))
        raise DataError(f"{file}: expected the checkpoint of a run, with {names}; {INSTEAD}")
    return dict(kept)


def check(folder: Path, kept: Record, wanted: Record) -> None:
    """Raise DataError unless the run in ``folder`` was trained as is ``wanted``."""
    different = record.differences(kept, wanted)
    if different:
        raise DataError(f"{folder / LAST}: {'; '.join(different)}; {INSTEAD}")


def check_images(folder: Path, items: Sequence[Item]) -> None:
    """Raise DataError unless the run in ``folder`` was trained with ``items`` and no others.

    Else it may have seen what is held out now.
    """
    kept: Record = read(folder)["record"]
    check(folder, {record.IMAGES: kept[record.IMAGES]}, {record.IMAGES: record.images(items)})
