"""The tables of the stages that a study goes through, and of the audit of an archive."""

import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from dicom_ai_node.answers import Outcome
from dicom_ai_node.config.table import Table
from dicom_ai_node.types import ProposalSource

Label = Annotated[
    str, Field(min_length=1, max_length=64, pattern=r"^[\x20-\x5b\x5d-\x7e]*[\x21-\x5b\x5d-\x7e]$")
]
"""A DICOM LO value that every character set can hold: printable ASCII without backslash."""
_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


class LatePolicy(StrEnum):
    """What an image does that arrives after its study was closed."""

    REOPEN = "reopen"
    """Analyse again; a changed result supersedes the old report."""
    KEEP = "keep"
    """File the image and leave the result as it is."""


class StudySettings(Table):
    """``[study]``: when a study counts as complete."""

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


class PolicySettings(Table):
    """``[policy]``: what is analysed, and when the network may answer.

    Thresholds left at None are the model bundle's own.
    """

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
    max_age_interval: float | None = Field(
        None,
        gt=0,
        description="Give no age when the 90 % interval is wider, years; absent: every age that"
        " the gates let pass. 'model show' says what each width answers, and how well.",
    )
    min_sex_certainty: float = Field(
        0.5,
        ge=0.5,
        le=1,
        description="Give no sex when the more probable one is less certain; 0.5: always one.",
    )
    certain_age_interval: float = Field(
        45.0,
        gt=0,
        description="An age whose 90 % interval is wider, years, is reported as uncertain: it "
        "contradicts no recorded age, and is never proposed.",
    )
    certain_sex: float = Field(
        0.8,
        ge=0.5,
        le=1,
        description="The same of a sex when the more probable one is less certain.",
    )
    min_body_part_certainty: float = Field(
        0.8,
        ge=0,
        le=1,
        description="Give no body part when the images show the stated one, or one of those that a"
        " combined term covers, less probably.",
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
    chest_alert_probability: float = Field(
        0.001,
        gt=0,
        lt=0.5,
        description="With model.compare_chests: report a possible mix-up (H3) when chests of one "
        "patient are as unlike as those of this study and the others less often than this.",
    )
    body_part_alert_probability: float = Field(
        0.02,
        gt=0,
        lt=0.5,
        description="Report a conflict (J6) when it is less probable than this that the images "
        "show anything of the recorded body part, or that a chest radiograph is one.",
    )


class FillSettings(Table):
    """``[fill]``: which values are proposed for missing and implausible fields, see docs/fill.md.

    Nothing is sent for it: that takes a destination with ``fill``, and a proposal that is accepted
    and applied, or a destination with ``forward``.
    """

    propose: bool = Field(
        True, description="Propose values for PatientAge, PatientSex and BodyPartExamined."
    )
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
    min_body_part_certainty: float = Field(
        0.9, ge=0.5, le=1, description="Propose no inferred body part that is less certain."
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


class ReportSettings(Table):
    """How reports name their maker, and which kinds are made."""

    manufacturer: Label = Field(
        "dicom_ai_node project", description="Manufacturer of the reporting device."
    )
    model_name: Label = Field(
        "dicom_ai_node", description="Manufacturer's Model Name of the reporting device."
    )
    device_name: Label = Field(
        "DICOM AI node", description="Device Observer Name, as readers of a report see it."
    )
    device_serial_number: Label = Field(
        "1",
        description="Tells the installations of a site apart; the Device Observer UID follows it.",
    )
    institution_name: str = Field(
        "",
        max_length=64,
        pattern=r"^[\x20-\x5b\x5d-\x7e]*$",
        description="Institution Name of the reporting device, ASCII; empty: not stated.",
    )
    series_number: int = Field(
        9900,
        ge=1,
        le=999999,
        description="Series Number of the Structured Report; the Secondary Capture takes the next,"
        " saliency maps the one after.",
    )
    secondary_capture: bool = Field(
        False, description="Also send the result as a Secondary Capture, for viewers without SR."
    )
    saliency: Literal["none", "grad-cam", "score-cam"] = Field(
        "none",
        description="Also make a Secondary Capture of each answered image that shows what the"
        " answers rest on, see docs/explanation.md; score-cam takes seconds an image.",
    )


class MonitorSettings(Table):
    """``[monitor]``: the network held against the site's own trusted headers."""

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


class AuditSettings(Table):
    """``[audit]``: how an audit of an archive behaves toward the archive and this node."""

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
