"""The ``[monitor]`` table: what is observed, for how long, and what is taken for drift."""

from pydantic import BaseModel, ConfigDict, Field, model_validator


class MonitorSettings(BaseModel):
    """``[monitor]``: the network held against the site's own trusted headers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of the studies that policy.analyse = 'flagged' passes over and that the "
        "network sees all the same. Their reports do not change; only the observation is kept.",
    )
    retention_days: float = Field(
        730.0, gt=0, description="Observations are removed this long after their study came."
    )
    reference_weeks: int = Field(
        8, ge=2, le=52, description="A bundle's first weeks on this site are what later ones meet."
    )
    min_studies: int = Field(
        50, ge=20, le=10000, description="Weeks are joined until a chart has so many studies."
    )
    false_alarm_weeks: float = Field(
        200.0,
        ge=10,
        le=100000,
        description="A site where nothing changes raises a flag once in so many weeks on average.",
    )
    shadow_on_drift: bool = Field(
        False,
        description="A flag puts the model in shadow mode: results are kept and not sent until a "
        "person runs 'monitor resume'.",
    )

    @model_validator(mode="after")
    def _the_reference_outlives_its_learning(self) -> "MonitorSettings":
        least = 7 * (self.reference_weeks + 2)
        if self.retention_days < least:
            raise ValueError(f"retention_days must be at least {least} for reference_weeks")
        return self
