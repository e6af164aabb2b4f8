"""Statuses of responses: what each is, and in words (PS3.7 annex C; PS3.4 B.2.3, C.4, K.4)."""

from collections.abc import Mapping
from typing import Final

SUCCESS: Final = 0x0000
PROCESSING_FAILURE: Final = 0x0110
DUPLICATE_SOP_INSTANCE: Final = 0x0111
NO_SUCH_SOP_CLASS: Final = 0x0118
SOP_CLASS_NOT_SUPPORTED: Final = 0x0122
NOT_AUTHORISED: Final = 0x0124
UNRECOGNISED_OPERATION: Final = 0x0211
RESOURCE_LIMITATION: Final = 0x0213
OUT_OF_RESOURCES: Final = 0xA700
DOES_NOT_MATCH_CLASS: Final = 0xA900
CANNOT_UNDERSTAND: Final = 0xC000
FAILED_HERE: Final = 0xC001
"""Cannot understand, by a fault of this program: told apart from what the sender did wrong."""
ATTRIBUTE_ERRORS: Final = range(0x0105, 0x0111)
"""An attribute is not known, or its value is wrong."""
CANCELLED: Final = 0xFE00
PENDING: Final = frozenset({0xFF00, 0xFF01})

# Warnings outside of Bxxx.
_WARNINGS = frozenset({0x0001, 0x0107, 0x0116})
_ANY_SERVICE = {
    SUCCESS: "success",
    PROCESSING_FAILURE: "processing failure",
    DUPLICATE_SOP_INSTANCE: "duplicate SOP instance",
    0x0117: "invalid SOP instance",
    NO_SUCH_SOP_CLASS: "no such SOP class",
    SOP_CLASS_NOT_SUPPORTED: "SOP class not supported",
    NOT_AUTHORISED: "not authorised",
    0x0210: "duplicate invocation",
    UNRECOGNISED_OPERATION: "unrecognised operation",
    0x0212: "mistyped argument",
    RESOURCE_LIMITATION: "resource limitation",
}
_STORE = _ANY_SERVICE | {
    0xB000: "coercion of data elements",
    0xB006: "elements discarded",
    0xB007: "data set does not match SOP class, stored",
}
_QUERY = _ANY_SERVICE | {
    OUT_OF_RESOURCES: "out of resources",
    0xA701: "out of resources: cannot count the matches",
    0xA702: "out of resources: cannot send",
    0xA801: "unknown move destination",
    DOES_NOT_MATCH_CLASS: "identifier does not match SOP class",
    0xB000: "one or more instances could not be sent",
    CANCELLED: "cancelled",
}
_STORE_CLASSES = {
    "A7": "out of resources",
    "A9": "data set does not match SOP class",
    "B": "warning",
    "C": "cannot understand",
}
_QUERY_CLASSES = {"C": "unable to process"}


def is_warning(status: int) -> bool:
    """Whether what was asked for is done, but not quite as it was asked."""
    return status >> 12 == 0xB or status in _WARNINGS


def is_out_of_resources(status: int) -> bool:
    """Whether it is one of A7xx: there is no room now."""
    return status >> 8 == 0xA7


def does_not_match_class(status: int) -> bool:
    """Whether it is one of A9xx: data set or identifier is not one of the SOP class."""
    return status >> 8 == 0xA9


def cannot_process(status: int) -> bool:
    """Whether it is one of Cxxx: cannot understand, unable to process."""
    return status >> 12 == 0xC


def describe_store(status: int) -> str:
    """Return a status of C-STORE or C-ECHO in words, such as ``0xA700 (out of resources)``."""
    return _described(status, _STORE, _STORE_CLASSES)


def describe_query(status: int) -> str:
    """Return a status of C-FIND, C-GET or C-MOVE in words."""
    return _described(status, _QUERY, _QUERY_CLASSES)


def _described(status: int, meanings: Mapping[int, str], classes: Mapping[str, str]) -> str:
    code = f"{status:04X}"
    by_class = classes.get(code[:2]) or classes.get(code[:1]) or "failure"
    return f"0x{code} ({meanings.get(status, by_class)})"
