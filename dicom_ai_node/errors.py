"""Every error that this package raises on purpose.

NodeError
 +-- ConfigError        the configuration: names the key, the value and what is allowed
 +-- BundleError        a model bundle: names the file and what was expected
 +-- RecalibrationError a site's images cannot calibrate a bundle, or not where it was asked for
 +-- AuditError         an audit that cannot go on: its source cannot be listed
 +-- StorageError
 |    +-- StorageFull   too little space on the spool's file system, or in the database
 +-- InstanceTooLarge   a data set beyond receive.max_object_mb; nothing of it is kept
 +-- UnreadableInstance a file or data set that is not usable DICOM
 +-- PixelsRefused      an image that must not be shown to the network, with a coded reason
 +-- InvalidReport      a report that fails its own check; quarantined, never sent
 +-- FillError          a proposal cannot be decided on or applied; says why, nothing was done
 +-- DeliveryError
      +-- PeerUnavailable  no association: the destination as a whole has to wait
      +-- PeerRefused      this object was refused: only this delivery is concerned
"""

from collections.abc import Iterable
from difflib import get_close_matches
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """How a command ends; docs/formats.md has the table."""

    DONE = 0
    NO = 1
    """The answer is no, or something that was asked for is missing or cannot be read."""
    USAGE = 2
    """The command line or the configuration is wrong."""
    STORAGE = 3
    """The spool or the database cannot be used."""
    INTERRUPTED = 130
    """Ctrl-C: what was done until then is said."""
    CLOSED_PIPE = 141
    """Nobody read what was printed any more."""


class NodeError(Exception):
    """Base of all errors of this package. The message is meant for a person."""

    exit_code: ClassVar[ExitCode] = ExitCode.NO
    """How a command ends that this error ends."""


class ConfigError(NodeError):
    """The command line or the configuration cannot be used."""

    exit_code = ExitCode.USAGE


class BundleError(NodeError):
    """A model bundle is incomplete, altered or not understood."""


class RecalibrationError(NodeError):
    """No bundle was made; says how many images could have calibrated it and why others not."""


class AuditError(NodeError):
    """An audit cannot go on; says what has to be mended before it is resumed."""


class StorageError(NodeError):
    """The spool or the database failed."""

    exit_code = ExitCode.STORAGE


class StorageFull(StorageError):
    """Too little room is left; the sender is told 0xA700 and keeps its copy."""


class InstanceTooLarge(NodeError):
    """A data set is larger than receive.max_object_mb; nothing of it was kept."""


class UnreadableInstance(NodeError):
    """The bytes are not a DICOM instance that can be filed."""


class PixelsRefused(NodeError):
    """The image must not be shown to the network."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        from dicom_ai_node.answers import Reason  # a fifth of what help would import

        self.reason = Reason(code, text)


class InvalidReport(NodeError):
    """A report failed its own check."""


class FillError(NodeError):
    """A proposal cannot be decided on or applied."""


class DeliveryError(NodeError):
    """An object did not reach its destination."""


class PeerUnavailable(DeliveryError):
    """The destination cannot be reached or accepts no association."""


class PeerRefused(DeliveryError):
    """The destination refused this object; ``status`` is the DIMSE status.

    ``comment`` is what the peer said of it. It may name a patient, so it is no part of the message.
    """

    def __init__(self, status: int, text: str, comment: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.comment = comment


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``, did you mean 'x'?`` for the nearest known name, '' when none is near."""
    names = {name.casefold(): name for name in known}
    near = get_close_matches(word.casefold(), names, n=1)
    return f", did you mean {names[near[0]]!r}?" if near else ""
