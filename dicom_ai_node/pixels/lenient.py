"""Attributes as plain Python values, whatever a header holds in their place.

Real headers put text where numbers belong, empty values where PS3.3 wants one and several where it
wants one. Decoding must not fail on an attribute that it can do without, so these functions answer
None or '' and never raise.
"""

import math
import re
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from dicom_ai_node.dicom.encoding import tag_of
from dicom_ai_node.dicom.values import text_of

_UNUSABLE = (
    BytesLengthException,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    NotImplementedError,
    EOFError,
    struct.error,
)
_CODE = re.compile(r"[A-Z0-9_ ]{1,16}")
_lock = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence pydicom's warnings: what it warns of is the check's to report.

    The filters of :mod:`warnings` belong to the process, and two threads that save and restore them
    in turn can leave the wrong ones behind; the lock costs little, since parsing holds the GIL.
    """
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def whole_value(header: Dataset, attribute: str | int) -> object:
    """Return the attribute's value as pydicom has it, None when absent, empty or unreadable.

    ``attribute`` is a keyword or a tag.
    """
    tag = tag_of(attribute) if isinstance(attribute, str) else BaseTag(attribute)
    if tag not in header:
        return None
    try:
        with quiet():
            return header[tag].value
    except _UNUSABLE:
        return None


def values(header: Dataset, attribute: str | int) -> tuple[object, ...]:
    """Return every value of the attribute, none when absent, empty or unreadable."""
    found = whole_value(header, attribute)
    if isinstance(found, MultiValue | list | tuple):
        return tuple(found)
    return () if found is None else (found,)


def texts(header: Dataset, keyword: str) -> tuple[str, ...]:
    """Return every value of the attribute as upper-case text; one '' when it has none."""
    return tuple(part.strip().upper() for part in text_of(header, keyword).split("\\"))


def text(header: Dataset, keyword: str) -> str:
    """Return the attribute's first value as :func:`texts` does."""
    return texts(header, keyword)[0]


def quotable(value: str) -> str:
    """Return ``value`` if it looks like a code string, and may stand in a message.

    In a damaged header an attribute can hold anything, also a piece of the patient's name.
    """
    return value if _CODE.fullmatch(value) else "malformed" if value else "absent"


def numbers(header: Dataset, attribute: str | int) -> tuple[float | None, ...]:
    """Return every value of the attribute as a finite number, None where it is none."""
    return tuple(_finite(found) for found in values(header, attribute))


def number(header: Dataset, attribute: str | int) -> float | None:
    """Return the attribute's first value as a finite number, None when it is none."""
    return next(iter(numbers(header, attribute)), None)


def integer(header: Dataset, attribute: str | int) -> int | None:
    """Return the attribute's first value as a whole number, None when it is none."""
    result = number(header, attribute)
    return None if result is None else int(result)


def items(header: Dataset, keyword: str) -> tuple[Dataset, ...]:
    """Return the items of a sequence, none when it is absent or no sequence."""
    found = whole_value(header, keyword)
    return tuple(found) if isinstance(found, Sequence) else ()


def _finite(found: object) -> float | None:
    if not isinstance(found, str | int | float):
        return None
    try:
        result = float(found)
    except (ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None
