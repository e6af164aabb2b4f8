"""What the commands share: the configuration, the database, folders, and who decides."""

import os
import pwd
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryFile

from dicom_ai_node.cli.commands import PLACES
from dicom_ai_node.config import Config, load_config, located
from dicom_ai_node.errors import ConfigError, NodeError, StorageError, did_you_mean
from dicom_ai_node.output import make_private
from dicom_ai_node.store import Database
from dicom_ai_node.terminal import complain, progress_console

_LONGEST_NAME = 128
_LOGIN = Path("/proc/self/loginuid")
_NO_LOGIN = 2**32 - 1

_configuration: Path | None = None


def find_config(path: Path | None) -> Path:
    """Return the configuration file to use.

    Raises ConfigError: when none is given and none lies in the usual places.
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


def explain(error: NodeError) -> None:
    """Print the error that ends a command; of storage also which configuration led there."""
    complain(error)
    if isinstance(error, StorageError) and _configuration is not None:
        progress_console.print(f"configuration: {located(_configuration)}", soft_wrap=True)


def check_folder(option: str, folder: Path) -> None:
    """Raise ConfigError when a command cannot write to a folder, or make it.

    Now rather than after an hour of work. What is made to see that is removed.
    """
    try:
        made = make_private(folder)
        with TemporaryFile(dir=folder):
            pass
        for parent in made:
            parent.rmdir()
    except OSError as error:
        raise ConfigError(
            f"{option} {folder}: expected a folder to write to: {error.strerror}"
        ) from error


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """Return the error for a name of which there is none, with the nearest and all there are."""
    names = list(known)
    there = ", ".join(names) or "none is configured"
    return ConfigError(f"no {kind} {name!r}{did_you_mean(name, names)}; there is: {there}")


def account() -> str:
    """Return the account that this command runs under, with who logged in where Linux knows it.

    From the process and the kernel: variables such as LOGNAME are whatever the caller sets.
    """
    uid = os.getuid()
    try:
        login = int(_LOGIN.read_text())
    except (OSError, ValueError):  # not Linux, or a kernel without audit
        login = uid
    name = _user_name(uid)
    return name if login in (uid, _NO_LOGIN) else f"{name} (logged in as {_user_name(login)})"


def person(by: str) -> str:
    """Return the name to write down: ``by``, else the user of this process.

    Raises ConfigError: it is no name of a person, or the user has none.
    """
    from dicom_ai_node.store.decisions import ANALYSER
    from dicom_ai_node.store.forwards import GATEWAY
    from dicom_ai_node.study.proposals import POLICY

    name = by.strip() or _user_name(os.getuid())
    if not by.strip() and name.startswith("uid "):
        raise ConfigError("the user of this session has no name: say who decides with --by")
    if name in (POLICY, ANALYSER, GATEWAY) or len(name) > _LONGEST_NAME or not name.isprintable():
        raise ConfigError(
            f"--by {name[:40]!r}: the name of a person was expected, of at most {_LONGEST_NAME} "
            f"characters and not '{POLICY}', '{ANALYSER}' or '{GATEWAY}'"
        )
    return name


def signed(name: str, user: str) -> str:
    """Return a name with the account that it was said from, for a table."""
    return name if not user or user == name else f"{name} ({user})"


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # as in a container
        return f"uid {uid}"
