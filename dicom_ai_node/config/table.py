"""What the tables of the configuration are made of, and their faults in words."""

import os
from collections.abc import Iterator
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field

from dicom_ai_node.errors import did_you_mean

AETitle = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[\x20-\x5b\x5d-\x7e]+$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
UID = Annotated[str, Field(max_length=64, pattern=r"^(0|[1-9]\d*)(\.(0|[1-9]\d*))+$")]


class Table(BaseModel):
    """Base of every table: frozen, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


_Loc = tuple[str | int, ...]


def fault_text(whole: type[BaseModel], fault: Any) -> str:
    """Return one of pydantic's faults as a line about a key of ``whole``."""
    loc: _Loc = fault["loc"]
    key = ".".join(str(part) for part in _path(loc)) or "(whole file)"
    if fault["type"] == "extra_forbidden":
        hint = did_you_mean(str(loc[-1]), _known(whole, loc[:-1]))
        return f"{key}: unknown key{hint}; see config/node.toml for all keys"
    shown = fault["input"]
    secret = key in ("storage.database", "log.hash_key") or _in_source(loc)
    value = "" if secret or isinstance(shown, dict | BaseModel) else f" = {shown!r}"
    return f"{key}{value}: {fault['msg']}"


def unknown_variables(whole: type[BaseModel], prefix: str) -> Iterator[str]:
    """Name the variables of the environment that mean a key, of a table that there is not."""
    for name in sorted(os.environ):
        table = name.removeprefix(prefix).partition("__")[0].lower()
        if name.startswith(prefix) and "__" in name and table not in whole.model_fields:
            hint = did_you_mean(table, whole.model_fields)
            yield f"{name}, of the environment: no table [{table}]{hint}"


def _known(whole: type[BaseModel], loc: _Loc) -> set[str]:
    """Return the keys of the table at ``loc``: names of tables and indices lead nowhere."""
    models = [whole]
    for part in loc:
        fields = [model.model_fields[str(part)] for model in models if part in model.model_fields]
        if fields:
            models = [model for field in fields for model in _models(field.annotation)]
    return {key for model in models for key in model.model_fields}


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]


def _path(loc: _Loc) -> _Loc:
    """Return the key as it stands in the file: pydantic puts the kind of a source into it."""
    return loc[:2] + loc[3:] if loc[:1] == ("sources",) else loc


def _in_source(loc: _Loc) -> bool:
    """Whether the value may be a password that somebody wrote into ``[sources.NAME]``."""
    return loc[:1] == ("sources",) and bool({"headers", "url"} & set(loc[2:]))
