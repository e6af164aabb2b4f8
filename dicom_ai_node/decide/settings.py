"""The ``[policy]`` table: which studies are analysed, and when the network may answer."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from dicom_ai_node.types import Outcome


class PolicySettings(BaseModel):
    """``[policy]``: what is analysed, and when the network may answer.

    Thresholds left at None are the model bundle's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    analyse: Literal["flagged", "all"] = Field(
        "flagged",
        description="Show the network only studies that the header rules flagged, or all.",
    )
    report: tuple[Outcome, ...] = Field(
        tuple(Outcome), description="Which outcomes are reported; the others are 'skipped'."
    )
    min_chest: float | None = Field(
        None, ge=0, le=1, description="Abstain below this probability of a chest radiograph."
    )
    min_frontal: float | None = Field(
        None, ge=0, le=1, description="Abstain below this probability of a frontal view."
    )
    min_in_distribution: float | None = Field(
        None, ge=0, le=1, description="Abstain below this p-value of looking like known images."
    )
    max_age_interval: float = Field(
        45.0, gt=0, description="Give no age when the 90 % interval is wider, years."
    )
    min_sex_certainty: float = Field(
        0.8, ge=0.5, le=1, description="Give no sex when the more probable one is less certain."
    )
    age_alert_widening: float = Field(
        1.5,
        ge=1,
        description="Report a conflict when the recorded age lies outside the 90 % interval "
        "widened by this factor.",
    )
    sex_alert_probability: float = Field(
        0.02,
        gt=0,
        lt=0.5,
        description="Report a conflict when the recorded sex is less probable than this.",
    )
