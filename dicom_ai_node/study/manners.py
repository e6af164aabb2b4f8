"""How an audit behaves toward the hospital it works in: the ``[audit]`` table, and its clock."""

import re
from datetime import datetime, time, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


class AuditSettings(BaseModel):
    """``[audit]``: how an audit of an archive behaves toward the archive and this node."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    studies_per_minute: float = Field(
        0.0, ge=0, description="Ask the source for at most so many studies; 0: no limit."
    )
    window: str = Field(
        "",
        description="Work only in these hours of local time, such as '22:00-06:00'; empty: always.",
    )
    yield_to_live: bool = Field(
        True, description="Wait while studies that the node received wait for their analysis."
    )
    max_attempts: int = Field(
        5, ge=1, le=50, description="Then a study is settled with its fault, and the audit goes on."
    )
    retry_seconds: float = Field(
        30.0, gt=0, description="First pause after a failure, of a study or of the source; doubles."
    )
    retry_max_seconds: float = Field(600.0, gt=0, description="Longest pause.")
    study_timeout_seconds: float = Field(
        600.0, gt=0, description="A study that takes longer has failed this attempt."
    )
    listing_timeout_seconds: float = Field(
        600.0,
        gt=0,
        description="The same for each thousand studies of a listing. Not for a folder or the"
        " node itself.",
    )
    csv_identifiers: tuple[Literal["AccessionNumber", "PatientID"], ...] = Field(
        (),
        description="What 'audit report --with NAME' may write into its CSV files beside the"
        " pseudonyms, so that records can be mended: 'AccessionNumber', 'PatientID'."
        " Empty: neither.",
    )
    lease_seconds: float = Field(
        60.0, gt=1, description="An audit whose process died is taken over after this long."
    )

    @field_validator("window")
    @classmethod
    def _is_a_window(cls, value: str) -> str:
        if value and not _WINDOW.fullmatch(value):
            raise ValueError("expected two times of day such as '22:00-06:00', or ''")
        if value and value[:5] == value[6:]:
            raise ValueError("the window begins when it ends; for all day leave it empty")
        return value


def seconds_until_open(window: str, at: datetime) -> float:
    """Return how long after the local time ``at`` the window is open, 0 when it is.

    A window may span midnight. Its first minute belongs to it, its last time does not.
    """
    if not window:
        return 0.0
    first, last = (time.fromisoformat(part) for part in window.split("-"))
    now = at.time()
    spans_midnight = last < first
    if (now >= first or now < last) if spans_midnight else (first <= now < last):
        return 0.0
    opens = datetime.combine(at.date(), first)
    if opens < at:
        opens += timedelta(days=1)
    return (opens - at).total_seconds()
