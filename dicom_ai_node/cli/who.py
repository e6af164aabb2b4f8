"""Who decides: the name that is said, and the account that the command runs under."""

import os
import pwd
from pathlib import Path

from dicom_ai_node.errors import ConfigError
from dicom_ai_node.store.decisions import ANALYSER
from dicom_ai_node.store.forwards import GATEWAY
from dicom_ai_node.study.proposals import POLICY

_LONGEST_NAME = 128
_LOGIN = Path("/proc/self/loginuid")
_NO_LOGIN = 2**32 - 1


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

    Raises
    ------
    ConfigError
        It is no name of a person, or the user has none.
    """
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
