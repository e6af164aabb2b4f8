"""Reads the free text and the decimal strings of a header."""

import math
import re

DESCRIPTIONS = (
    "StudyDescription",
    "SeriesDescription",
    "ProtocolName",
    "RequestedProcedureDescription",
    "PerformedProcedureStepDescription",
    "AdmittingDiagnosesDescription",
    "BodyPartExamined",
)
"""What was done to whom in words. Histories and comments are left out: they tell of relatives."""

_DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_DENIED_BEFORE = re.compile(
    r"\b(no|not|non|without|exclude\w*|if|kein\w*|nicht|ohne|ausschlu\w*)\W+(\w+\W+)?$",
    re.IGNORECASE,
)
_DENIED_AFTER = re.compile(r"^\W*(no|none|n/a|na|nein|negative|excluded)\b", re.IGNORECASE)


def read_decimal(text: str) -> float | None:
    """The number that a value of VR DS states (PS3.5 6.2), None when it is none or not finite."""
    if not _DECIMAL.fullmatch(text):
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def stated(pattern: re.Pattern[str], text: str) -> str:
    """The first match of ``pattern`` in ``text`` that is not denied ('not pregnant'), else ''."""
    # 'PAED_CHEST' is two words, though \w takes the underscore for a letter.
    text = text.replace("_", " ")
    for match in pattern.finditer(text):
        before, after = text[: match.start()], text[match.end() :]
        if not _DENIED_BEFORE.search(before[-40:]) and not _DENIED_AFTER.search(after[:20]):
            return match[0]
    return ""
