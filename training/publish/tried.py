"""What was tried on the way to a bundle, kept by hand in ``training/configs/tried.toml``."""

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

FILE = Path(__file__).parents[1] / "configs/tried.toml"


class Tried(BaseModel):
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

    tried: tuple[Tried, ...] = ()


def read(file: Path = FILE) -> tuple[Tried, ...]:
    """Every ``[[tried]]`` of ``file``, in its order; none where there is no file.

    Raises
    ------
    ValueError
        The file is no TOML or holds something else; names the file and the key.
    """
    if not file.exists():
        return ()
    try:
        return _File.model_validate(tomllib.loads(file.read_text())).tried
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file}: expected TOML ({error})") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise ValueError(f"{file}: {where}: {first['msg']}") from error
