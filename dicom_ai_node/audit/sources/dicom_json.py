"""DICOM JSON (PS3.18 annex F) as headers. Bulk data are never asked for."""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from dicom_ai_node.dicom.values import CODES, ITEMS, SCHEME, says_something
from dicom_ai_node.rules import TextHeader
from dicom_ai_node.rules.text_header import ELEMENTS

_LONGEST = 4096  # as in TextHeader.from_dataset
_AVAILABLE_TRANSFER_SYNTAX = 0x00083002
_SCHEME = frozenset(f"{tag:08X}" for tag in SCHEME)
_NAMES = ("Alphabetic", "Ideographic", "Phonetic")


def header_of(answer: Mapping[str, Any]) -> TextHeader:
    """Return what the rules read of a JSON object; no value in it makes this raise.

    Text is Unicode already: it has no padding left, and nothing of it is undecodable. A "?" takes
    the place of what is no character.
    """
    values = {}
    for keyword, (tag, vr) in ELEMENTS.items():
        text = text_of(answer, tag, vr)
        if text is not None:
            values[keyword] = text
    return TextHeader(values, transfer_syntax_uid=text_of(answer, _AVAILABLE_TRANSFER_SYNTAX) or "")


def text_of(answer: Mapping[str, Any], tag: int, vr: str = "") -> str | None:
    """Return an attribute as text, its values joined by a backslash; None when it is absent."""
    element = answer.get(f"{tag:08X}")
    if not isinstance(element, Mapping) or "BulkDataURI" in element:
        return None
    if "InlineBinary" in element:
        return _inline(element["InlineBinary"])
    found = element.get("Value", [])
    parts = found if isinstance(found, list) else [found]
    if vr == "SQ" or element.get("vr") == "SQ":
        codes = [
            text_of(item, code) for item in parts if isinstance(item, Mapping) for code in CODES
        ]
        found = "\\".join(filter(None, codes)) or (ITEMS if _has_content(parts) else "")
        return found[:_LONGEST]
    return "\\".join(_value(part) for part in parts)[:_LONGEST]


def texts_of(answer: Mapping[str, Any], tag: int) -> list[str]:
    """Return the values of an attribute of text; none where any of them is something else."""
    element = answer.get(f"{tag:08X}")
    if not isinstance(element, Mapping):
        return []
    if "InlineBinary" in element:
        return [_inline(element["InlineBinary"])]
    found = element.get("Value", [])
    parts = [part for part in (found if isinstance(found, list) else [found]) if part is not None]
    return parts if all(isinstance(part, str) for part in parts) else []


def _has_content(part: Any) -> bool:
    """Whether a value says anything, as :func:`dicom_ai_node.dicom.values.has_content`."""
    if isinstance(part, list):
        return any(map(_has_content, part))
    if not isinstance(part, Mapping):
        return part is not None and says_something(str(part))
    if "Value" in part or "vr" in part or "InlineBinary" in part:
        return _has_content(part.get("Value")) or _has_content(part.get("InlineBinary"))
    return any(_has_content(element) for tag, element in part.items() if tag not in _SCHEME)


def canonical(answer: Mapping[str, Any]) -> bytes:
    """Return the object as bytes that do not depend on the order of its keys."""
    return json.dumps(answer, sort_keys=True, default=str).encode()


def _value(part: Any) -> str:
    if part is None:
        return ""
    if isinstance(part, Mapping):
        return "=".join(_plain(part.get(group) or "") for group in _NAMES).rstrip("=")
    return _plain(part)


def _plain(part: Any) -> str:
    """Return text that can be written: JSON may escape half of a surrogate pair."""
    return str(part).encode("utf-8", "replace").decode()


def _inline(text: Any) -> str:
    try:
        return base64.b64decode(str(text))[:_LONGEST].decode("latin_1")
    except (binascii.Error, ValueError):
        return ""
