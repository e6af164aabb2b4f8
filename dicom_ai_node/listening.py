"""Listening sockets whose port nobody else has."""

import errno
import socket

from dicom_ai_node.errors import ConfigError

_BACKLOG = 128
"""Connections that wait to be accepted; a burst of modalities is not refused."""


def listen(bind: str, port: int, *, key: str) -> socket.socket:
    """Listen on one address of this machine; ``key`` is the table of the configuration.

    Without SO_REUSEPORT, by which two nodes would share a port, each with half of the images.

    Raises ConfigError: names the keys; the port is taken, or the address is not one of this
    machine.
    """
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    try:
        return socket.create_server((bind, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigError(f"{key}.bind = {bind!r}, {key}.port = {port}: {reason(error)}") from error


def reason(error: OSError) -> str:
    """Say why nothing can listen there."""
    if error.errno == errno.EADDRINUSE:
        return "the port is taken, by another node or another program"
    return error.strerror or str(error)
