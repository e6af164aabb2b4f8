"""The configuration: one TOML file and environment overrides, checked as a whole at start.

Each stage owns its own table (``[rules]``, ``[policy]``, ``[fill]``, ``[study]``, ``[audit]``);
the tables of the processes are here. ``DICOM_AI_NODE_RECEIVE__MAX_PDU=65536`` overrides
``max_pdu`` of ``[receive]``.
"""

import ipaddress
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from dicom_ai_node.config_destinations import Destination, check_forwarding, forwarding
from dicom_ai_node.config_sources import SourceTable
from dicom_ai_node.config_table import UID, AETitle, Name, Port, Table
from dicom_ai_node.config_worklist import WorklistTable
from dicom_ai_node.decide.settings import FillSettings, PolicySettings
from dicom_ai_node.errors import ConfigError
from dicom_ai_node.monitor.settings import MonitorSettings
from dicom_ai_node.report.settings import ReportSettings
from dicom_ai_node.rules.settings import RulesSettings
from dicom_ai_node.study import AuditSettings, StudySettings


class NodeSettings(Table):
    """``[node]``: who this node is."""

    ae_title: AETitle = Field("DICOMAINODE", description="AE title, calling and called.")
    bind: str = Field("0.0.0.0", description="Address that the C-STORE SCP listens on.")
    port: Port = Field(11112, description="Port that the C-STORE SCP listens on.")


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

    callers: tuple[Caller, ...] = Field((), description="Who may call; none listed: everybody.")
    require_called_ae: bool = Field(
        True, description="Refuse associations that call another AE title than ours."
    )
    processes: int = Field(2, ge=1, le=32, description="Receiver processes on the one port.")
    max_pdu: int = Field(131072, ge=4096, le=4194304, description="Largest PDU, bytes.")
    max_associations: int = Field(64, ge=1, le=1000, description="Open at once, per process.")
    max_associations_per_address: int = Field(
        16, ge=1, le=1000, description="Open at once from one address, per process."
    )
    acse_timeout: float = Field(10.0, gt=0, description="Seconds for an association request.")
    dimse_timeout: float = Field(60.0, gt=0, description="Seconds for a DIMSE message.")
    network_timeout: float = Field(120.0, gt=0, description="Seconds of silence on a connection.")
    extra_storage_classes: tuple[UID, ...] = Field(
        (), description="SOP Class UIDs that are kept beside CR, DX and Secondary Capture."
    )


class StorageSettings(Table):
    """``[storage]``: where everything is kept."""

    spool: Path = Field(Path("var/spool"), description="Folder of received and sent files.")
    database: str = Field(
        "sqlite:///var/node.db", description="SQLAlchemy URL: sqlite:/// or postgresql+psycopg://"
    )
    min_free_mb: int = Field(2048, ge=0, description="Refuse (0xA700) below this much free space.")
    warn_free_mb: int = Field(10240, ge=0, description="Not ready, and log, below this much.")
    retention_days: float = Field(
        7.0, ge=0, description="Keep received images this long after everything was delivered."
    )

    @field_validator("database")
    @classmethod
    def _known_database(cls, value: str) -> str:
        if not value.startswith(("sqlite:///", "postgresql+psycopg://")):
            raise ValueError("must start with sqlite:/// or postgresql+psycopg://")
        return value

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
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="'auto' takes CUDA when there is one."
    )
    batch: int = Field(16, ge=1, le=256, description="Images per forward pass.")
    threads: int = Field(0, ge=0, le=256, description="CPU threads; 0: the library's choice.")


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
    port: Port = 8042


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


class Config(BaseSettings):
    """The whole configuration, frozen."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="DICOM_AI_NODE_",
        env_nested_delimiter="__",
    )

    node: NodeSettings = NodeSettings()
    receive: ReceiveSettings = ReceiveSettings()
    storage: StorageSettings = StorageSettings()
    study: StudySettings = StudySettings()
    rules: RulesSettings = RulesSettings()
    model: ModelSettings = ModelSettings()
    analyse: AnalyseSettings = AnalyseSettings()
    policy: PolicySettings = PolicySettings()
    fill: FillSettings = FillSettings()
    report: ReportSettings = ReportSettings()
    monitor: MonitorSettings = MonitorSettings()
    audit: AuditSettings = AuditSettings()
    destinations: dict[Name, Destination] = Field(default_factory=dict)
    sources: dict[Name, SourceTable] = Field(default_factory=dict)
    worklist: WorklistTable | None = None
    web: WebSettings = WebSettings()
    log: LogSettings = LogSettings()
    operate: OperateSettings = OperateSettings()

    @model_validator(mode="after")
    def _captures_are_made_before_they_are_sent(self) -> "Config":
        for name, destination in self.destinations.items():
            if "sc" in destination.send and not self.report.secondary_capture:
                raise ValueError(
                    f"destinations.{name}.send asks for 'sc': set report.secondary_capture = true"
                )
            if "saliency" in destination.send and self.report.saliency == "none":
                raise ValueError(
                    f"destinations.{name}.send asks for 'saliency':"
                    " set report.saliency to 'grad-cam' or 'score-cam'"
                )
        return self

    @model_validator(mode="after")
    def _what_is_forwarded_can_be(self) -> "Config":
        check_forwarding(self.destinations, fill=self.fill, study=self.study)
        return self

    @property
    def forwarding(self) -> dict[str, Destination]:
        """The destinations that get the received images themselves, by name."""
        return forwarding(self.destinations)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment override the file."""
        return env_settings, init_settings


def load_config(path: Path | None) -> Config:
    """Read and check the configuration; without ``path``, defaults and the environment.

    Raises
    ------
    ConfigError
        One line per fault: the key, the value and what is allowed.
    """
    return parse_config(_read(path) if path else {}, where=str(path or "the environment"))


def parse_config(values: dict[str, Any], *, where: str = "configuration") -> Config:
    """Check ``values`` (as TOML gives them); ``where`` names their origin in errors."""
    try:
        return Config(**values)
    except ValidationError as error:
        faults = "\n".join(f"  {_fault(fault)}" for fault in error.errors())
        raise ConfigError(f"{where}: {error.error_count()} fault(s)\n{faults}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from error


def _fault(fault: Any) -> str:
    key = ".".join(str(part) for part in _path(fault["loc"])) or "(whole file)"
    if fault["type"] == "extra_forbidden":
        return f"{key}: unknown key; see config/node.toml for all keys"
    shown = fault["input"]
    secret = key in ("storage.database", "log.hash_key") or _in_source(fault["loc"])
    value = "" if secret or isinstance(shown, dict | BaseModel) else f" = {shown!r}"
    return f"{key}{value}: {fault['msg']}"


def _path(loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Return the key as it stands in the file: pydantic puts the kind of a source into it."""
    return loc[:2] + loc[3:] if loc[:1] == ("sources",) else loc


def _in_source(loc: tuple[str | int, ...]) -> bool:
    """Whether the value may be a password that somebody wrote into ``[sources.NAME]``."""
    return loc[:1] == ("sources",) and bool({"headers", "url"} & set(loc[2:]))
