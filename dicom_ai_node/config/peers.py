"""The peers: who gets what is made, which archives are audited, which worklist is asked."""

from typing import Annotated, Literal

from pydantic import Field

from dicom_ai_node.config.table import AETitle, Port, Table

Secret = Annotated[str, Field(pattern=r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$")]
"""Where a value is kept that must not stand in a configuration."""
MatchModality = Annotated[
    bool,
    Field(
        description="List only studies that the archive matches to the wanted modalities. false:"
        " list all studies of the dates and choose here, which also finds 'cr' or 'CR/SR' in an"
        " archive that compares literally, and takes longer."
    ),
]


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


class PacsTable(Table):
    """``[sources.NAME]`` with ``kind = "pacs"``: C-FIND, then C-GET or C-MOVE."""

    kind: Literal["pacs"] = Field(description="C-FIND, then C-GET or C-MOVE (Study Root).")
    host: str = Field(min_length=1)
    port: Port
    ae_title: AETitle
    timeout: float = Field(
        30.0, gt=0, description="Seconds to connect, and of silence while an answer is awaited."
    )
    max_pdu: int = Field(131072, ge=4096, le=4194304)
    match_modality: MatchModality = True
    retrieve: Literal["get", "move"] = Field(
        "get", description="'get': over the same association. 'move': the PACS calls us."
    )
    move_ae_title: str = Field(
        "",
        max_length=16,
        description="AE title that a C-MOVE names as its destination; empty: node.ae_title.",
    )
    move_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port on which an audit itself takes what a C-MOVE sends; the PACS must know"
        " it under move_ae_title. 0: the running node takes it, as any study sent to it.",
    )
    move_bind: str = Field("0.0.0.0", description="Address that move_port listens on.")


class WebTable(Table):
    """``[sources.NAME]`` with ``kind = "web"``: QIDO-RS and WADO-RS."""

    kind: Literal["web"] = Field(description="DICOMweb: QIDO-RS and WADO-RS.")
    url: str = Field(
        pattern=r"^https?://[^@?#]+$",
        description="Root of the service, without user, password or query.",
    )
    timeout: float = Field(
        30.0, gt=0, description="Seconds to connect, and of silence while an answer is awaited."
    )
    match_modality: MatchModality = True
    page: int = Field(200, ge=1, le=10000, description="Studies asked for at once.")
    headers: dict[str, Secret] = Field(
        default_factory=dict,
        description="HTTP headers sent with each request, such as Authorization. A value is never"
        " here: 'env:NAME' takes it from the environment, 'file:PATH' from a file.",
    )
    ca_file: str = Field("", description="Certificates to trust; empty: the usual ones.")


SourceTable = Annotated[PacsTable | WebTable, Field(discriminator="kind")]


class WorklistTable(Table):
    """``[worklist]``: a modality worklist to ask for birth date and sex; absent: none is asked."""

    host: str = Field(min_length=1)
    port: Port
    ae_title: AETitle
    calling_ae_title: str = Field(
        "", max_length=16, description="AE title that we call with; empty: node.ae_title."
    )
    timeout: float = Field(
        3.0,
        gt=0,
        le=30,
        description="Seconds to connect, and for all that is asked about one study. Then the "
        "analysis goes on without an answer, and for a while nothing is asked.",
    )
    max_pdu: int = Field(131072, ge=4096, le=4194304)
    compare: bool = Field(
        False,
        description="Ask about every study, to hold its header against the answer (rule G6); "
        "false: only where age, sex or birth date is missing or wrong.",
    )
