"""The commented example configuration, made from the models: ``config/node.toml`` is its output."""

import json
import textwrap
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dicom_ai_node.config import Config
from dicom_ai_node.config.peers import Destination, PacsTable, WebTable, WorklistTable
from dicom_ai_node.config.processes import Caller

_HEAD = """\
# Configuration of dicom-ai-node. Every key is here with its default, commented out where it is
# not needed. Unknown keys and bad values are refused at start: dicom-ai-node check-config
#
# Relative paths lead from the folder of this file, wherever a command is run.
#
# A variable of the environment overrides a key: DICOM_AI_NODE_RECEIVE__MAX_PDU=65536
"""
_SAMPLES: dict[str, dict[str, Any]] = {
    "pacs": {"host": "127.0.0.1", "port": 4242, "ae_title": "ORTHANC"},
    "archive": {"kind": "pacs", "host": "127.0.0.1", "port": 4242, "ae_title": "ORTHANC"},
    "archive-web": {
        "kind": "web",
        "url": "https://pacs.example/dicom-web",
        "headers": {"Authorization": "env:PACS_AUTHORIZATION"},
    },
    "worklist": {"host": "127.0.0.1", "port": 104, "ae_title": "WORKLIST"},
    # Thresholds without a default of this program.
    "policy": {
        "min_chest": 0.5,
        "min_frontal": 0.5,
        "min_in_distribution": 0.01,
        "max_age_interval": 60.0,
    },
    "caller": {"ae_title": "MODALITY1", "address": "192.0.2.0/24"},
}


def example(data: Path | None = None) -> str:
    """Return a TOML file that holds every key, its meaning and its default.

    With ``data``, spool and database are in that folder.
    """
    lines = [_HEAD]
    samples = _SAMPLES
    if data is not None:
        places = {"spool": data / "spool", "database": f"sqlite:///{data / 'node.db'}"}
        samples = samples | {"storage": places}
    for name, field in Config.model_fields.items():
        if name == "destinations":
            lines += ["# Who gets the reports: one table per destination, the name is yours."]
            lines += ["# [destinations.pacs]"]
            lines += _keys(Destination, _SAMPLES["pacs"], off=True)
        elif name == "sources":
            lines += ["# Archives to audit: one table per archive, the name is yours."]
            for table, sample in ((PacsTable, "archive"), (WebTable, "archive-web")):
                lines += [f"# [sources.{sample}]", *_keys(table, _SAMPLES[sample], off=True)]
        elif name == "worklist":
            lines += [*_comment(_first_line(WorklistTable)), "# [worklist]"]
            lines += _keys(WorklistTable, _SAMPLES["worklist"], off=True)
        else:
            model = field.annotation
            assert isinstance(model, type)
            assert issubclass(model, BaseModel)
            lines += [
                *_comment(_first_line(model)),
                f"[{name}]",
                *_keys(model, samples.get(name, {}), off=False),
            ]
        if name == "receive":
            lines += ["# One table per peer that may call.", "# [[receive.callers]]"]
            lines += _keys(Caller, _SAMPLES["caller"], off=True)
    return "\n".join(lines)


def _keys(model: type[BaseModel], sample: dict[str, Any], *, off: bool) -> list[str]:
    lines: list[str] = []
    for name, field in model.model_fields.items():
        if name == "callers":
            continue
        lines += _comment(field.description or "")
        default = _default(field)
        unset = "# " if off or default is None else ""
        lines.append(f"{unset}{name} = {_toml(sample.get(name, default))}")
    return [*lines, ""]


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True)


def _first_line(model: type[BaseModel]) -> str:
    line = (model.__doc__ or "").strip().splitlines()[0].split(": ", 1)[-1]
    return line[:1].upper() + line[1:]


def _comment(text: str) -> Iterator[str]:
    for line in textwrap.wrap(text, 96):
        yield f"# {line}"


def _toml(value: Any) -> str:
    if isinstance(value, Enum):
        return json.dumps(value.value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Path):
        return json.dumps(str(value))
    return json.dumps(value)
