"""What was tried on the way to a bundle, written down by hand."""

import tomllib
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from training.measure.markdown import number, table

FILE = Path(__file__).parents[1] / "configs/experiments.toml"


class Experiment(BaseModel):
    """One run; a figure that was not measured is left out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    what: str
    val_mae: float | None = None
    val_auc: float | None = None
    external_mae: float | None = None
    external_auc: float | None = None
    hannover_auc: float | None = None
    note: str = ""


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    experiment: tuple[Experiment, ...] = ()


def read_experiments(file: Path = FILE) -> tuple[Experiment, ...]:
    """Every ``[[experiment]]`` of ``file``, in its order; none where there is no file.

    Raises ValueError: the file is no TOML or holds something else; names the file and the key.
    """
    if not file.exists():
        return ()
    try:
        return _File.model_validate(tomllib.loads(file.read_text())).experiment
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file}: expected TOML ({error})") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise ValueError(f"{file}: {where}: {first['msg']}") from error


def table_of(runs: Sequence[Experiment]) -> str:
    """The table of what was tried."""
    if not runs:
        return "Nothing is noted yet."
    rows = [
        [r.name, r.what]
        + [number(v) for v in (r.val_mae, r.val_auc, r.external_mae, r.external_auc)]
        + [number(r.hannover_auc), r.note]
        for r in runs
    ]
    head = ["run", "what", "`val` MAE", "`val` AUC", "`external_dev` MAE", "`external_dev` AUC"]
    return table([*head, "`hannover` AUC", "note"], rows)
