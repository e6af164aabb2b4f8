"""``[sources.NAME]``: the archives that an audit can be asked of."""

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
