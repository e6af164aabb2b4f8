"""How far an audit is, for those who watch it."""

from dataclasses import dataclass
from enum import StrEnum


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
