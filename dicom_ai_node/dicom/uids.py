"""Unique identifiers (PS3.5 9.1): read leniently where the world is, and made."""

import re
import uuid
from typing import Final

UUID_ROOT: Final = "2.25."
"""How every UID that is made here begins (PS3.5 B.2)."""
PROGRAM_UID: Final = "2.25.172188818890467612689921221615605219599"
"""Instance Creator UID (0008,0014) of every object that this program makes (PS3.3 C.12.1.1), and
Implementation Class UID (0002,0012) of every file that it writes."""
APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
"""The DICOM application context name (PS3.7 annex A)."""
_NAMESPACE = uuid.UUID("6f0d6a52-8d0b-5f0e-9a6b-2a3c8f1f7c11")

_COMPONENTS = re.compile(r"[0-9]+(\.[0-9]+)*")
_PADDING = re.compile(r"\A[\0\s]+|[\0\s]+\Z")
_LONGEST = 64


def is_uid(text: str) -> bool:
    """Whether it is digits in components between single dots, at most 64 characters.

    Leading zeros in a component are forbidden, and common.
    """
    return len(text) <= _LONGEST and _COMPONENTS.fullmatch(text) is not None


def unpadded(text: str) -> str:
    """Return a UID without the NUL that PS3.5 9.1 pads with, and the blanks that others do."""
    return _PADDING.sub("", text)


def clean_uid(text: str) -> str:
    """Return a UID without its padding, '' for what is none."""
    bare = unpadded(text)
    return bare if is_uid(bare) else ""


def uid_of(*parts: str) -> str:
    """Return the UID that these strings determine."""
    return f"{UUID_ROOT}{uuid.uuid5(_NAMESPACE, chr(0).join(parts)).int}"
