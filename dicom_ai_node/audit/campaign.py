"""What an audit is asked to do, how far it is, and how the work on it ended."""

from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dicom_ai_node.audit import FALSE_DISCOVERY_RATE


class Depth(StrEnum):
    """How much of a study is asked for."""

    HEADERS = "headers"
    """Nothing but what can be had without pixels: C-FIND, WADO-RS metadata, headers of files."""
    FLAGGED = "flagged"
    """The images of studies that the header rules flag."""
    ALL = "all"
    """The images of every study: needed to find a wrong age or sex that looks plausible."""


class AuditSpec(BaseModel):
    """The request of one audit: fixed when it starts, stored with it, part of its report."""

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
    false_discovery_rate: float = Field(FALSE_DISCOVERY_RATE, gt=0, lt=1)
    """Expected share of false ones among the image conflicts (Benjamini-Hochberg)."""
    today: date
    """The day the audit was started: the rules' clock, also when it is resumed later."""

    @model_validator(mode="after")
    def _dates_are_in_order(self) -> "AuditSpec":
        if self.first_date and self.last_date and self.last_date < self.first_date:
            raise ValueError("the last date lies before the first")
        return self


class Ending(StrEnum):
    """Why an audit is no longer worked on."""

    DONE = "done"
    STOPPED = "stopped"
    """The process was asked to stop; the audit still runs."""
    LEFT = "left"
    """A person paused or cancelled it."""
    LOST = "lost"
    """Another process has taken it over."""


class Ended(Exception):
    """Raised where the work ends before everything is collected."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.value)
        self.ending = ending


@dataclass(slots=True)
class Progress:
    """The counts of the moment."""

    slices_done: int = 0
    slices: int = 0
    """Parts of the listing; 0 until the source said how many."""
    listing_done: bool = False
    listed: int = 0
    settled: int = 0
    faults: int = 0
    waits: str = ""
    """What the audit waits for, '' while it works."""


@dataclass(slots=True)
class DryRun:
    """The counts of a dry run."""

    slices: int
    """Parts of the listing."""
    slices_done: int = 0
    studies: int = 0
    instances: int = 0
    """As far as the source says."""
    flagged: int = 0
    """Studies that the header rules flag by what the listing says of them."""
    images: int = 0
    """Studies of which the images would be fetched."""
    not_audited: dict[str, int] = field(default_factory=dict)
    """Why, and how many answers are left out."""

    def minutes(self, studies_per_minute: float) -> float | None:
        """Return how long the studies take at the rate limit, None when there is none."""
        return self.studies / studies_per_minute if studies_per_minute else None
