"""What the tables of the configuration are made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

AETitle = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[\x20-\x5b\x5d-\x7e]+$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
UID = Annotated[str, Field(max_length=64, pattern=r"^(0|[1-9]\d*)(\.(0|[1-9]\d*))+$")]


class Table(BaseModel):
    """Base of every table: frozen, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")
