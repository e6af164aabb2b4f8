"""Where relative paths of the configuration lead: from the folder of its file; shipped bundles.

A command answers about the same node from every working directory. See
docs/decisions/0013 for what this means for variables of the environment.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dicom_ai_node.config.peers import SourceTable, WebTable
from dicom_ai_node.config.processes import ModelSettings, StorageSettings

_SQLITE = "sqlite:///"
_FILE = "file:"


def anchored(
    storage: StorageSettings, model: ModelSettings, sources: dict[str, SourceTable], folder: Path
) -> dict[str, Any]:
    """Return the tables that hold paths, these below ``folder`` where they are relative."""
    database = storage.database
    name = database.removeprefix(_SQLITE)
    if database.startswith(_SQLITE) and name and not name.startswith((":memory:", _FILE)):
        database = f"{_SQLITE}{folder / name}"
    names = {"", "default", *shipped_bundles()}

    def bundle(name: str) -> str:
        return name if name in names else str(folder / name)

    bundles = {
        "bundle": bundle(model.bundle),
        "shadow": bundle(model.shadow),
        "further": tuple(map(bundle, model.further)),
    }
    return {
        "storage": storage.model_copy(
            update={"spool": folder / storage.spool, "database": database}
        ),
        "model": model.model_copy(update=bundles),
        "sources": {name: _anchored_source(source, folder) for name, source in sources.items()},
    }


def missing_files(sources: dict[str, SourceTable]) -> Iterator[str]:
    """Say which files of certificates are not there."""
    for name, source in sources.items():
        if isinstance(source, WebTable) and source.ca_file and not Path(source.ca_file).is_file():
            yield f"sources.{name}.ca_file = {source.ca_file!r}: no such file"


def _anchored_source(source: SourceTable, folder: Path) -> SourceTable:
    if not isinstance(source, WebTable):
        return source
    found: dict[str, Any] = {
        "headers": {
            name: f"{_FILE}{folder / secret.removeprefix(_FILE)}"
            if secret.startswith(_FILE)
            else secret
            for name, secret in source.headers.items()
        }
    }
    if source.ca_file:
        found["ca_file"] = str(folder / source.ca_file)
    return source.model_copy(update=found)


def models_folder() -> Path:
    """``bundles`` of the installed package, or ``models`` of a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "bundles"
    return installed if installed.is_dir() else package.parent / "models"


def shipped_bundles() -> dict[str, Path]:
    """Return the folders of the bundles that ship with the program, by name."""
    folders = sorted(path.parent for path in models_folder().glob("*/manifest.json"))
    return {folder.name: folder for folder in folders}
