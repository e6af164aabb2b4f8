"""``[policy]``: which studies are analysed and answered; ``[fill]``: which values are proposed."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from dicom_ai_node.types import Outcome, ProposalSource


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
    report_consistent: bool = Field(
        False,
        description="Also report studies whose header is found in order; false: they are 'skipped',"
        " unless an earlier report of theirs has to be replaced.",
    )
    min_chest: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Abstain below this probability of a chest radiograph; "
        "absent: as the bundle says.",
    )
    min_frontal: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Abstain below this probability of a frontal view; absent: as the bundle says.",
    )
    min_in_distribution: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Abstain below this p-value of looking like known images; "
        "absent: as the bundle says.",
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


class FillSettings(BaseModel):
    """``[fill]``: which values are proposed for missing and implausible fields, see docs/fill.md.

    Nothing is sent for it: that takes a destination with ``fill``, and a proposal that is accepted
    and applied, or a destination with ``forward``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    propose: bool = Field(True, description="Propose values for PatientAge and PatientSex.")
    auto_accept: tuple[ProposalSource, ...] = Field(
        (),
        description="Accept proposals from these sources without a person: 'header', 'dates', "
        "'worklist', 'priors'. Never 'inference'.",
    )
    auto_apply: bool = Field(
        False,
        description="Send copies with accepted values to the destinations that take them without "
        "'proposals apply'.",
    )
    max_age_interval: float = Field(
        30.0, gt=0, description="Propose no inferred age whose 90 % interval is wider, years."
    )
    min_sex_certainty: float = Field(
        0.95, ge=0.5, le=1, description="Propose no inferred sex that is less certain."
    )
    forward_within_seconds: float = Field(
        900.0,
        gt=0,
        le=86400,
        description="Toward destinations with forward = 'coerced': an image that has waited so "
        "long for the analysis of its study goes out as it was received.",
    )

    @field_validator("auto_accept")
    @classmethod
    def _a_guess_needs_a_person(
        cls, value: tuple[ProposalSource, ...]
    ) -> tuple[ProposalSource, ...]:
        if ProposalSource.INFERENCE in value:
            raise ValueError(
                "'inference' needs a person's decision; allowed: header, dates, worklist, priors"
            )
        return value
