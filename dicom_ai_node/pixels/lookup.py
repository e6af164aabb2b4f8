"""Tables of the Modality and VOI LUT modules (PS3.3 C.11.1.1, C.11.2.1.1)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicom_ai_node.pixels.header import first_item, values, whole_value

MIN_ENTRIES = 2


@dataclass(frozen=True, slots=True)
class Lookup:
    """A table over consecutive whole numbers."""

    first: int
    """Input value of the first entry."""
    entries: NDArray[np.float64]

    def apply(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Look ``values`` up, between entries by interpolation (averaged values are fractional).

        Values outside the table take its nearest end.
        """
        place = np.clip(values - self.first, 0.0, len(self.entries) - 1.0)
        below = np.minimum(place.astype(np.int64), len(self.entries) - 2)
        lower = self.entries[below]
        result: NDArray[np.float64] = lower + (self.entries[below + 1] - lower) * (place - below)
        return result


def lookup_of(header: Dataset, keyword: str, *, signed: bool) -> Lookup | None:
    """Read the first table of the sequence ``keyword``; None when there is no usable one.

    ``signed`` says that the first mapped value is an SS where its VR was ambiguous.
    """
    item = first_item(header, keyword)
    if item is None:
        return None
    descriptor = [part for part in values(item, "LUTDescriptor") if isinstance(part, int)]
    if len(descriptor) != 3:
        return None
    count, first, bits = descriptor
    count = count & 0xFFFF or 0x10000  # 0 stands for 65536
    if signed and first > 0x7FFF:
        first -= 0x10000
    little_endian = header.original_encoding[1] is not False
    entries = _entries(whole_value(item, "LUTData"), count, bits, little_endian=little_endian)
    if len(entries) < MIN_ENTRIES:
        return None
    return Lookup(first, entries[:count].astype(np.float64))


def _entries(data: object, count: int, bits: int, *, little_endian: bool) -> NDArray[Any]:
    if isinstance(data, bytes):
        # Entries of 8 bits fill bytes or, against the standard, words: the length tells.
        if bits <= 8 and len(data) < 2 * count:
            return np.frombuffer(data, np.uint8)
        order = "<u2" if little_endian else ">u2"
        return np.frombuffer(data[: len(data) // 2 * 2], order)
    if isinstance(data, MultiValue | list | tuple):
        try:
            return np.asarray([int(entry) & 0xFFFF for entry in data], np.uint16)
        except (ValueError, TypeError):
            return np.empty(0, np.uint16)
    return np.empty(0, np.uint16)
