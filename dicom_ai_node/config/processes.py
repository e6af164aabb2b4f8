"""The tables of the processes: who the node is, and how it receives, stores, analyses and runs."""

import ipaddress
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from dicom_ai_node.config.table import UID, AETitle, Port, Table
from dicom_ai_node.dicom.limits import DEFAULT, Limits


class NodeSettings(Table):
    """``[node]``: who this node is."""

    ae_title: AETitle = Field("DICOMAINODE", description="AE title, calling and called.")
    bind: str = Field("0.0.0.0", description="Address that the C-STORE SCP listens on.")
    port: Port = Field(11112, description="Port that the C-STORE SCP listens on.")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the port."""
        try:
            return ipaddress.ip_address(self.bind).is_loopback
        except ValueError:
            return self.bind == "localhost"


class Caller(Table):
    """One ``[[receive.callers]]``: a peer that may open an association."""

    ae_title: AETitle
    address: str = Field("", description="Address or network (CIDR); empty: from anywhere.")

    @field_validator("address")
    @classmethod
    def _is_a_network(cls, value: str) -> str:
        if value:
            ipaddress.ip_network(value, strict=False)
        return value


class ReceiveSettings(Table):
    """``[receive]``: what is accepted, from whom, and how."""

    callers: tuple[Caller, ...] = Field(
        (), description="Who may call; none listed: this machine alone, see anybody."
    )
    anybody: bool = Field(
        False,
        description="Without callers, whoever reaches the port may send. false: from other machines"
        " only those that are listed under [[receive.callers]].",
    )
    require_called_ae: bool = Field(
        True, description="Refuse associations that call another AE title than ours."
    )
    processes: int = Field(2, ge=1, le=32, description="Receiver processes on the one port.")
    max_pdu: int = Field(131072, ge=4096, le=4194304, description="Largest PDU, bytes.")
    max_associations: int = Field(64, ge=1, le=1000, description="Open at once, per process.")
    max_associations_per_address: int = Field(
        16, ge=1, le=1000, description="Open at once from one address, over all processes."
    )
    acse_timeout: float = Field(10.0, gt=0, description="Seconds for an association request.")
    dimse_timeout: float = Field(
        60.0,
        gt=0,
        description="Seconds of a message over which least_rate is averaged; the longest silence"
        " within one.",
    )
    least_rate: float = Field(
        4096.0,
        ge=1,
        description="Bytes a second. A sender that is slower within a message, and would keep"
        " others out, is let go. A line of 2 Mbit/s brings 250,000.",
    )
    max_object_mb: int = Field(
        512,
        ge=1,
        le=65536,
        description="Largest data set; a larger one is refused (0xC000). The largest radiographs"
        " have 60 MB, multi-frame captures some hundreds.",
    )
    object_seconds: float = Field(
        1800.0,
        gt=0,
        description="Longest time for one message. 100 MB over 2 Mbit/s take 400 s.",
    )
    unproductive_seconds: float = Field(
        600.0,
        gt=0,
        description="An association that brought no instance for so long is ended, echoes or not.",
    )
    network_timeout: float = Field(120.0, gt=0, description="Seconds of silence on a connection.")
    extra_storage_classes: tuple[UID, ...] = Field(
        (), description="SOP Class UIDs that are kept beside CR, DX and Secondary Capture."
    )

    @model_validator(mode="after")
    def _a_list_is_not_for_anybody(self) -> "ReceiveSettings":
        if self.anybody and self.callers:
            raise ValueError("anybody = true and callers: remove one of them")
        return self


class LimitsSettings(Table):
    """``[limits]``: what is read of one object; what goes beyond is refused, and says the key."""

    header_bytes: int = Field(
        DEFAULT.header_bytes, ge=65536, le=1 << 30, description="Bytes before the pixel data."
    )
    element_bytes: int = Field(
        DEFAULT.element_bytes,
        ge=65536,
        le=1 << 30,
        description="Bytes of one value before the pixel data, sequences aside.",
    )
    elements: int = Field(
        DEFAULT.elements,
        ge=1000,
        le=10_000_000,
        description="Data elements and sequence items before the pixel data, nested ones too. "
        "400000 take the analyser some 330 MB, a receiver 90 MB.",
    )
    depth: int = Field(DEFAULT.depth, ge=4, le=64, description="Sequences within each other.")
    pixels: int = Field(
        DEFAULT.pixels,
        ge=1_000_000,
        le=500_000_000,
        description="Rows x Columns of an image, in its header and in its codestream. The largest "
        "radiographs have some 36 million.",
    )
    decoded_bytes: int = Field(
        DEFAULT.decoded_bytes,
        ge=1 << 20,
        le=2 << 30,
        description="Bytes of an image's pixels when decoded: Rows x Columns x samples of 8 or 16 "
        "bits. JPEG 2000 takes up to five times as much while it is decoded.",
    )

    @property
    def bounds(self) -> Limits:
        """The limits as the readers take them."""
        return Limits(**self.model_dump())


class StorageSettings(Table):
    """``[storage]``: where everything is kept."""

    spool: Path = Field(Path("var/spool"), description="Folder of received and sent files.")
    database: str = Field(
        "sqlite:///var/node.db",
        description="SQLAlchemy URL: sqlite:/// and a file (absolute: sqlite:////), or "
        "postgresql+psycopg://",
    )
    min_free_mb: int = Field(2048, ge=0, description="Refuse (0xA700) below this much free space.")
    warn_free_mb: int = Field(10240, ge=0, description="Not ready, and log, below this much.")
    database_warn_free_mb: int = Field(
        512,
        ge=0,
        description="The same for a SQLite database's own file system; at most a twentieth of it.",
    )
    retention_days: float = Field(
        7.0, ge=0, description="Keep received images this long after everything was delivered."
    )
    report_retention_days: float = Field(
        90.0,
        ge=0,
        description="Keep report files this long after every destination had them; 0: for good.",
    )
    row_retention_days: float = Field(
        1095.0,
        ge=0,
        description="Forget a study this long after it was done and its files were removed; 0: "
        "never. Of proposals and forwarded images stay decisions, and what went out.",
    )

    @field_validator("database")
    @classmethod
    def _known_database(cls, value: str) -> str:
        if not value.startswith(("sqlite:///", "postgresql+psycopg://")):
            raise ValueError("must start with sqlite:/// or postgresql+psycopg://")
        return value

    @model_validator(mode="after")
    def _files_go_before_rows(self) -> "StorageSettings":
        if 0 < self.row_retention_days < max(self.retention_days, self.report_retention_days):
            raise ValueError(
                "row_retention_days must be at least retention_days and report_retention_days, or 0"
            )
        return self

    @model_validator(mode="after")
    def _warns_before_it_refuses(self) -> "StorageSettings":
        if self.warn_free_mb < self.min_free_mb:
            raise ValueError("warn_free_mb must be at least min_free_mb")
        return self


class ModelSettings(Table):
    """``[model]``: the network."""

    bundle: str = Field("default", description="'default', a shipped bundle's name, or a folder.")
    shadow: str = Field(
        "",
        description="A second bundle that sees what the first sees and of which nothing is ever "
        "reported, for 'model compare'; '': none. It doubles the work of the network.",
    )
    further: tuple[str, ...] = Field(
        (),
        description="Further bundles; each sees the images of a study that its manifest accepts, "
        "and has a part of its own in the report.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="'auto' takes CUDA when there is one."
    )
    batch: int = Field(16, ge=1, le=256, description="Images per forward pass.")
    threads: int = Field(0, ge=0, le=256, description="CPU threads; 0: the library's choice.")
    compare_chests: bool = Field(
        False,
        description="Keeps an embedding of each chest as long as its study, and compares it with "
        "those of the same PatientID (rule H3). It is biometric data. Needs a bundle that embeds.",
    )

    @field_validator("further")
    @classmethod
    def _names_others(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for number, name in enumerate(value):
            if name in value[:number]:
                raise ValueError(f"{name!r} is listed twice")
            for key in ("bundle", "shadow"):
                if name == info.data.get(key):
                    raise ValueError(f"{name!r} is model.{key} already")
        return value


class AnalyseSettings(Table):
    """``[analyse]``: how studies are worked on."""

    studies_at_once: int = Field(8, ge=1, le=256, description="Studies claimed together.")
    decoders: int = Field(2, ge=1, le=64, description="Threads that decode images.")
    lease_seconds: float = Field(60.0, gt=1, description="A silent analyser loses its studies.")
    max_batch_seconds: float = Field(
        600.0, gt=1, description="An analyser that is longer at one batch is ended and replaced."
    )
    max_attempts: int = Field(5, ge=1, le=20, description="Then the study is 'failed'.")
    retry_seconds: float = Field(5.0, ge=0, description="First pause after a failed attempt.")


class WebSettings(Table):
    """``[web]``: health and metrics over HTTP."""

    bind: str = Field("127.0.0.1")
    port: Port = Field(8104, description="Not one of Orthanc, dcm4chee or a usual proxy.")


class LogSettings(Table):
    """``[log]``: logs, without names or IDs of patients."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = Field(
        "auto", description="'auto': console on a terminal, JSON otherwise."
    )
    hash_key: str = Field(
        "", description="Key of the hash that stands for UIDs; empty: one kept in the spool."
    )


class OperateSettings(Table):
    """``[operate]``: the process group."""

    stop_seconds: float = Field(20.0, gt=0, description="SIGTERM: time to finish, then SIGKILL.")
    restart_seconds: float = Field(0.5, gt=0, description="First pause before a restart; doubles.")
    restart_max_seconds: float = Field(30.0, gt=0, description="Longest pause before a restart.")
    silent_seconds: float = Field(
        60.0, gt=3, description="A process without a sign of life is killed and restarted."
    )
