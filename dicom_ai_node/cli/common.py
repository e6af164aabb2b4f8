"""What the commands share: options, tables, errors in words."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any

import typer
from rich.table import Column

from dicom_ai_node.config import Config, load_config, located
from dicom_ai_node.errors import ConfigError, ExitCode, NodeError, StorageError, did_you_mean
from dicom_ai_node.output import json_text, make_private
from dicom_ai_node.store import Database
from dicom_ai_node.terminal import complain, console, plain_terminal, progress_console

__all__ = ["ExitCode", "complain", "console", "plain_terminal", "progress_console"]

PLACES = (Path("config/node.toml"), Path("/etc/dicom-ai-node/node.toml"))

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "-c",
        "--config",
        envvar="DICOM_AI_NODE_CONFIG",
        help=f"Configuration file. Default: the first of {', '.join(map(str, PLACES))}.",
        show_default=False,
    ),
]
DAYS = ["%Y-%m-%d", "%Y%m%d"]
"""How a day is written on the command line."""
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


def whole(name: str) -> Column:
    """Return a column whose values, such as UIDs, are broken rather than cut: one copies them."""
    return Column(name, overflow="fold")


def find_config(path: Path | None) -> Path:
    """Return the configuration file to use.

    Raises
    ------
    ConfigError
        When none is given and none lies in the usual places.
    """
    if path is not None:
        return path
    for place in PLACES:
        if place.is_file():
            return place
    raise ConfigError(f"no configuration: give one with -c, or make {PLACES[0]}")


def configuration(path: Path | None) -> Config:
    """Load the configuration that a command works with."""
    global _configuration
    found = find_config(path)
    settings = load_config(found)
    _configuration = found
    return settings


def open_database(settings: Config) -> Database:
    """Open the node's database; StorageError when its schema is another."""
    db = Database(settings.storage.database)
    db.check_schema()
    return db


_configuration: Path | None = None


def explain(error: NodeError) -> None:
    """Print the error that ends a command; of storage also which configuration led there."""
    complain(error)
    if isinstance(error, StorageError) and _configuration is not None:
        progress_console.print(f"configuration: {located(_configuration)}", soft_wrap=True)


def print_json(value: Any) -> None:
    """Print one JSON object on one line."""
    typer.echo(json_text(value))


def when(seconds: float | None) -> str:
    """Return a time as ISO 8601 in local time, '' for None."""
    if not seconds:
        return ""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


def minute(seconds: float | None) -> str:
    """Return a time for a column of a table, local and to the minute, '' for None."""
    if not seconds:
        return ""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def check_folder(option: str, folder: Path) -> None:
    """Raise ConfigError when a command cannot write to a folder, or make it.

    Now rather than after an hour of work. What is made to see that is removed.
    """
    try:
        made = make_private(folder)
        with TemporaryFile(dir=folder):
            pass
        for one in made:
            one.rmdir()
    except OSError as error:
        raise ConfigError(
            f"{option} {folder}: expected a folder to write to: {error.strerror}"
        ) from error


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """Return the error for a name of which there is none, with the nearest and all there are."""
    names = list(known)
    there = ", ".join(names) or "none is configured"
    return ConfigError(f"no {kind} {name!r}{did_you_mean(name, names)}; there is: {there}")
