"""``[destinations.NAME]``: the peers that get results, copies and forwarded images."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from dicom_ai_node.config.table import AETitle, Port, Table
from dicom_ai_node.decide.settings import FillSettings
from dicom_ai_node.study import StudySettings


class Destination(Table):
    """One ``[destinations.NAME]``: a peer that gets results."""

    host: str = Field(min_length=1)
    port: Port
    ae_title: AETitle
    send: tuple[Literal["sr", "sc", "saliency"], ...] = Field(
        ("sr",),
        description="Which objects it gets: 'sr', 'sc' (needs report.secondary_capture), 'saliency'"
        " (needs report.saliency).",
    )
    fill: Literal["none", "deterministic", "inferred"] = Field(
        "none",
        description="Which applied proposals it gets as filled copies of the images: none, those "
        "that are not inferred, or all.",
    )
    research: bool = Field(
        False,
        description="It is for research: copies carry PatientSex there without a person's approval "
        "of that value.",
    )
    forward: Literal["none", "received", "coerced"] = Field(
        "none",
        description="This node is a gateway to it. Every received instance goes there under its "
        "own UIDs: 'received', byte for byte; 'coerced', with the PatientAge that was accepted for "
        "it. Only where no archive gets the images another way, see docs/fill.md.",
    )
    max_pdu: int = Field(131072, ge=4096, le=4194304)
    timeout: float = Field(30.0, gt=0, description="Seconds to connect, and for each answer.")
    retry_seconds: float = Field(5.0, gt=0, description="First pause after a failure; doubles.")
    retry_max_seconds: float = Field(3600.0, gt=0, description="Longest pause.")
    give_up_days: float = Field(7.0, gt=0, description="Then the delivery is a dead letter.")


def forwarding(destinations: Mapping[str, Destination]) -> dict[str, Destination]:
    """Return those that get the received images themselves."""
    return {name: one for name, one in destinations.items() if one.forward != "none"}


def check_forwarding(
    destinations: Mapping[str, Destination], *, fill: FillSettings, study: StudySettings
) -> None:
    """Raise ValueError when ``forward`` asks for what cannot be, or must not."""
    by_mode = {one.forward: name for name, one in forwarding(destinations).items()}
    name = by_mode.get("coerced")
    if name is None:
        return
    key = f"destinations.{name}.forward = 'coerced'"
    if "received" in by_mode:
        raise ValueError(
            f"{key}, but destinations.{by_mode['received']}.forward = 'received': one UID would "
            "stand for two versions of an image; forward to both alike"
        )
    if not (fill.propose and fill.auto_accept):
        raise ValueError(
            f"{key} fills what fill.auto_accept accepts: set fill.propose = true and list a source "
            "such as 'dates' there, or set forward = 'received'"
        )
    if fill.forward_within_seconds <= study.quiet_seconds:
        raise ValueError(
            f"{key}: fill.forward_within_seconds = {fill.forward_within_seconds:g} must be more "
            f"than study.quiet_seconds = {study.quiet_seconds:g}, or no image could wait for its "
            "study's analysis"
        )
