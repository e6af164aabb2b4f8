"""What an audit was asked to do: fixed when it starts, kept with it, part of its report."""

from datetime import date
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Depth(StrEnum):
    """How much of a study is asked for."""

    HEADERS = "headers"
    """Nothing but what can be had without pixels: C-FIND, WADO-RS metadata, headers of files."""
    FLAGGED = "flagged"
    """The images of studies that the header rules flag."""
    ALL = "all"
    """The images of every study: needed to find a wrong age or sex that looks plausible."""


class AuditSpec(BaseModel):
    """The request of one audit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(min_length=1)
    """``pacs:NAME``, ``web:NAME``, ``folder:PATH`` or ``node``."""
    first_date: date | None = None
    last_date: date | None = None
    """StudyDate, both inclusive; None: open."""
    modalities: tuple[Annotated[str, Field(pattern=r"^[A-Z0-9_ ]{1,16}$")], ...] = ("CR", "DX")
    depth: Depth = Depth.FLAGGED
    limit: int | None = Field(None, ge=1)
    """At most so many studies."""
    alerts_per_day: float | None = Field(None, gt=0)
    """Budget of image alerts for each day of StudyDate that the audit covers; None: no budget."""
    false_discovery_rate: float = Field(0.1, gt=0, lt=1)
    """Expected share of false ones among the image conflicts (Benjamini-Hochberg)."""
    today: date
    """The day the audit was started: the rules' clock, also when it is resumed later."""

    @property
    def whole_headers(self) -> bool:
        """Whether the source's headers are those of its instances, not answers to queries."""
        return not self.source.startswith("pacs:")

    @model_validator(mode="after")
    def _dates_are_in_order(self) -> "AuditSpec":
        if self.first_date and self.last_date and self.last_date < self.first_date:
            raise ValueError("the last date lies before the first")
        return self
