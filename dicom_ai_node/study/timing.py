"""When a study counts as complete."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, model_validator


class LatePolicy(StrEnum):
    """What an image does that arrives after its study was closed."""

    REOPEN = "reopen"
    """Analyse again; a changed result supersedes the old report."""
    KEEP = "keep"
    """File the image and leave the result as it is."""


class StudySettings(BaseModel):
    """``[study]``: when a study counts as complete."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quiet_seconds: float = Field(
        30.0, gt=0, le=86400, description="A study closes after this long without a new instance."
    )
    max_wait_seconds: float = Field(
        900.0, gt=0, le=7 * 86400, description="It closes at the latest this long after it opened."
    )
    late_policy: LatePolicy = Field(
        LatePolicy.REOPEN, description="What an image does that arrives after the study closed."
    )

    @model_validator(mode="after")
    def _cap_is_not_below_quiet(self) -> "StudySettings":
        if self.max_wait_seconds < self.quiet_seconds:
            raise ValueError("max_wait_seconds must be at least quiet_seconds")
        return self


def closing_time(*, opened_at: float, last_at: float, settings: StudySettings) -> float:
    """Return when a study closes, given when it was (re)opened and when the last instance came.

    Seconds since the epoch, as the arguments. Counted from the last instance, never from the
    first, because senders pause; capped, because some never stop.
    """
    return min(last_at + settings.quiet_seconds, opened_at + settings.max_wait_seconds)
