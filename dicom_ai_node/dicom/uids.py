"""Unique identifiers (PS3.5 9.1), leniently where the world is."""

import re

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
