"""What the status of a C-STORE response means (PS3.4 B.2.3, PS3.7 9.1.1.1.9 and Annex C)."""

from enum import StrEnum

SOP_CLASS_NOT_SUPPORTED = 0x0122


class Verdict(StrEnum):
    """What to do with a delivery after an answer."""

    STORED = "stored"
    """The destination has the object."""
    OTHER_CLASS = "other_class"
    """It may take the same report in another SOP class."""
    BUSY = "busy"
    """It has no room now: wait, however often."""
    REFUSED = "refused"
    """It does not want this object: wait, and give up after some attempts."""


# Warnings say that the object is stored, in part or changed: PS3.7 Annex C.
_WARNINGS = frozenset({0x0001, 0x0107, 0x0116})
_DUPLICATE_SOP_INSTANCE = 0x0111
_OTHER_CLASS = frozenset({0x0118, SOP_CLASS_NOT_SUPPORTED})
_RESOURCE_LIMITATION = 0x0213

_MEANINGS = {
    0x0000: "success",
    0x0110: "processing failure",
    _DUPLICATE_SOP_INSTANCE: "duplicate SOP instance",
    0x0117: "invalid SOP instance",
    0x0118: "no such SOP class",
    SOP_CLASS_NOT_SUPPORTED: "SOP class not supported",
    0x0124: "not authorised",
    0x0210: "duplicate invocation",
    0x0211: "unrecognised operation",
    0x0212: "mistyped argument",
    _RESOURCE_LIMITATION: "resource limitation",
    0xB000: "coercion of data elements",
    0xB006: "elements discarded",
    0xB007: "data set does not match SOP class, stored",
}
_MEANINGS_BY_HIGH_BYTE = {0xA7: "out of resources", 0xA9: "data set does not match SOP class"}


def judge(status: int) -> Verdict:
    """Return what ``status`` means; defined for every status, an unknown one is a refusal.

    0x0111 (duplicate SOP instance) is success: our UIDs stand for their content, so the object
    arrived with an attempt whose answer was lost.
    """
    if status in {0x0000, _DUPLICATE_SOP_INSTANCE} or is_warning(status):
        return Verdict.STORED
    if status in _OTHER_CLASS or status >> 8 == 0xA9:
        return Verdict.OTHER_CLASS
    if status == _RESOURCE_LIMITATION or status >> 8 == 0xA7:
        return Verdict.BUSY
    return Verdict.REFUSED


def is_warning(status: int) -> bool:
    """Return whether the object is stored, but not as it was sent."""
    return status >> 12 == 0xB or status in _WARNINGS


def describe(status: int) -> str:
    """Return ``status`` in words, such as ``0xA700 (out of resources)``."""
    meaning = _MEANINGS.get(status) or _MEANINGS_BY_HIGH_BYTE.get(status >> 8)
    if meaning is None:
        meaning = {0xC: "cannot understand", 0xB: "warning"}.get(status >> 12, "failure")
    return f"0x{status:04X} ({meaning})"
