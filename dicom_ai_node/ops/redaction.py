"""What may not stand in a log, and what stands there instead.

UIDs become a keyed hash, so that the lines of one study can be joined without naming it. Text
that other libraries wrote is never trusted: their messages quote header values.
"""

import hashlib
import hmac
import os
import re
import secrets
import traceback
from collections.abc import Iterator
from numbers import Real
from pathlib import Path
from typing import Any

from dicom_ai_node.errors import NodeError

HASHED_KEYS = frozenset({"study", "series", "instance", "patient"})
KEY_FILE = "log.key"
_DIGITS = 16
_FRAMES = 12
_CHAIN = 5
# Five dots at least: neither addresses nor versions. DICOM's own UIDs (classes, transfer
# syntaxes) name nobody and are what one looks for in a log.
_UID = re.compile(r"(?<![\d.])(?!1\.2\.840\.10008\.)\d+(?:\.\d+){5,}")


class Redactor:
    """Replaces what must not be read; one key for the whole node."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def hashed(self, value: object) -> str:
        """Return the 16 hexadecimal digits that stand for ``value``, '' for nothing."""
        text = "" if value is None else str(value)
        if not text:
            return ""
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()[:_DIGITS]

    def text(self, text: str) -> str:
        """Return ``text`` with every UID in it hashed."""
        return _UID.sub(lambda found: self.hashed(found[0]), text)

    def value(self, value: Any) -> Any:
        """Return a log value with every UID in it hashed, however deep."""
        if isinstance(value, dict):
            return self.event(value)
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value(item) for item in value]
        if value is None or isinstance(value, Real):
            return value
        if isinstance(value, BaseException):
            return self.text(summary(value))
        if isinstance(value, str | Path):
            return self.text(str(value))
        return type(value).__name__  # a data set would print its content

    def event(self, fields: dict[Any, Any]) -> dict[str, Any]:
        """Return the fields of a log line as they may be written."""
        return {
            self.text(str(key)): self._named(value) if key in HASHED_KEYS else self.value(value)
            for key, value in fields.items()
        }

    def _named(self, value: Any) -> Any:
        if isinstance(value, list | tuple | set | frozenset):
            return [self.hashed(item) for item in value]
        return self.hashed(value)


def load_key(configured: str, spool: Path) -> tuple[bytes, bool]:
    """Return the key of the hashes, and whether it will be the same next time.

    The configured one, else the one in the spool, which is made when it is missing. Where it
    cannot be kept, a key of this process alone is better than none.
    """
    if configured:
        return configured.encode(), True
    try:
        return _kept_key(spool / KEY_FILE), True
    except OSError:
        return secrets.token_bytes(32), False


def summary(error: BaseException) -> str:
    """Return the type of an error, and what it says where that is known to be harmless."""
    kind = type(error).__name__
    if isinstance(error, NodeError):
        return f"{kind}: {error}"
    if isinstance(error, OSError) and error.strerror:
        return f"{kind}: {error.strerror}"  # without the file name, which may be a UID
    return kind


def describe(error: BaseException) -> list[dict[str, Any]]:
    """Return an error and what caused it, outermost first: type, message if ours, places.

    No local values, no source lines, no foreign messages.
    """
    return [{"error": summary(link), "at": _places(link)} for link in _chain(error)]


def _chain(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    for _ in range(_CHAIN):
        if current is None:
            return
        yield current
        hidden = current.__suppress_context__
        current = current.__cause__ or (None if hidden else current.__context__)


def _places(error: BaseException) -> list[str]:
    # walk_tb, not extract_tb: that one looks up source lines and may hold local values.
    frames = list(traceback.walk_tb(error.__traceback__))[-_FRAMES:]
    places = []
    for frame, line in reversed(frames):
        short = "/".join(Path(frame.f_code.co_filename).parts[-3:])
        places.append(f"{short}:{line} {frame.f_code.co_name}")
    return places


def _kept_key(path: Path) -> bytes:
    """Read the key, or make it; of two processes that make it at once, one wins."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        fresh = path.with_name(f"{KEY_FILE}.{os.getpid()}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, secrets.token_hex(32).encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_bytes().strip()
