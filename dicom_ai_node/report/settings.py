"""The ``[report]`` table of the configuration."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Label = Annotated[
    str, Field(min_length=1, max_length=64, pattern=r"^[\x20-\x5b\x5d-\x7e]*[\x21-\x5b\x5d-\x7e]$")
]
"""A DICOM LO value that every character set can hold: printable ASCII without backslash."""


class ReportSettings(BaseModel):
    """How reports name their maker, and which kinds are made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
