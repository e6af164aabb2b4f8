"""The configuration: one TOML file and environment overrides, checked as a whole at start.

``processes``, ``stages``, ``rules`` and ``peers`` hold the tables. This package lies below all
stages: it loads no library but pydantic. ``DICOM_AI_NODE_RECEIVE__MAX_PDU=65536`` overrides
``max_pdu`` of ``[receive]``.
"""

import tomllib
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from dicom_ai_node.config.paths import anchored, missing_files
from dicom_ai_node.config.peers import Destination, SourceTable, WorklistTable
from dicom_ai_node.config.processes import (
    AnalyseSettings,
    LimitsSettings,
    LogSettings,
    ModelSettings,
    NodeSettings,
    OperateSettings,
    ReceiveSettings,
    StorageSettings,
    WebSettings,
)
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.config.stages import (
    AuditSettings,
    FillSettings,
    MonitorSettings,
    PolicySettings,
    ReportSettings,
    StudySettings,
)
from dicom_ai_node.config.table import Name, fault_text, unknown_variables
from dicom_ai_node.errors import ConfigError

_ENVIRONMENT = "DICOM_AI_NODE_"
NO_CALLERS = (
    "only this machine may send: list the peers under [[receive.callers]],"
    " or let everybody in with receive.anybody = true"
)
"""What to say where :attr:`Config.refuses_other_machines`."""


class Config(BaseSettings):
    """The whole configuration, frozen."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=_ENVIRONMENT,
        env_nested_delimiter="__",
    )

    node: NodeSettings = NodeSettings()
    receive: ReceiveSettings = ReceiveSettings()
    limits: LimitsSettings = LimitsSettings()
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
        by_mode = {peer.forward: name for name, peer in self.forwarding.items()}
        name, received = by_mode.get("coerced"), by_mode.get("received")
        if name is None:
            return self
        key = f"destinations.{name}.forward = 'coerced'"
        within, quiet = self.fill.forward_within_seconds, self.study.quiet_seconds
        if received is not None:
            raise ValueError(
                f"{key}, but destinations.{received}.forward = 'received': one UID would "
                "stand for two versions of an image; forward to both alike"
            )
        if not (self.fill.propose and self.fill.auto_accept):
            raise ValueError(
                f"{key} fills what fill.auto_accept accepts: set fill.propose = true and list a "
                "source such as 'dates' there, or set forward = 'received'"
            )
        if within <= quiet:
            raise ValueError(
                f"{key}: fill.forward_within_seconds = {within:g} must be more than "
                f"study.quiet_seconds = {quiet:g}, or no image could wait for its study's analysis"
            )
        return self

    @property
    def refuses_other_machines(self) -> bool:
        """Whether the port can be reached from other machines, none of which may send."""
        receive = self.receive
        return not (receive.callers or receive.anybody or self.node.is_local)

    @property
    def forwarding(self) -> dict[str, Destination]:
        """The destinations that get the received images themselves, by name."""
        return {name: peer for name, peer in self.destinations.items() if peer.forward != "none"}

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


def located(path: Path) -> Path:
    """Return where a configuration lies, whatever becomes of the working directory.

    A link of the file itself stays: a mounted one points into a folder of versions.
    """
    return path.parent.resolve() / path.name


def load_config(path: Path | None) -> Config:
    """Read and check the configuration; without ``path``, defaults and the environment.

    Relative paths lead from the folder of the file, those in variables of the environment too.

    Raises ConfigError: one line per fault: the key, the value and what is allowed.
    """
    if path is None:
        return parse_config({}, where="the environment")
    return parse_config(_read(path), where=str(path), folder=located(path).parent)


def parse_config(
    values: dict[str, Any], *, where: str = "configuration", folder: Path | None = None
) -> Config:
    """Check ``values`` (as TOML gives them).

    ``where`` names their origin in errors; relative paths lead from ``folder``, if there is one.
    """
    try:
        config = Config(**values)
    except ValidationError as error:
        raise _refused(where, [fault_text(Config, fault) for fault in error.errors()]) from None
    if folder is not None:
        tables = anchored(config.storage, config.model, config.sources, folder)
        config = config.model_copy(update=tables)
    faults = [*unknown_variables(Config, _ENVIRONMENT), *missing_files(config.sources)]
    if faults:
        raise _refused(where, faults)
    return config


def _refused(where: str, faults: list[str]) -> ConfigError:
    lines = "\n".join(f"  {fault}" for fault in faults)
    return ConfigError(f"{where}: {len(faults)} fault(s)\n{lines}")


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from error
