"""Tables of the Modality and VOI LUT modules (PS3.3 C.11.1.1, C.11.2.1.1).

Devices and converters damage them: entries are missing, in the other byte order, packed against
what the descriptor says, or placed by a first value of the wrong sign. So a table is a list of
readings, the declared one first, and the image decides which of them can be meant for it.

A table or window that belongs to another image, or was damaged on the way, shows nearly all of this
one as black or as white; and a curve whose bytes are in the wrong order jumps up and down.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_ai_node.pixels.lenient import items, values, whole_value

MIN_ENTRIES = 2
MAX_TABLES = 4
"""Tables of a sequence that are looked at; more are alternatives that nobody needs."""
MONOTONIC = 0.9
"""Part of all ups and downs of a curve that has to lead from its start to its end."""

DISTINGUISHED = 0.5
"""Part of the pixels between the image's own black and white that must stay between them."""

_ENDS = (0.5, 99.5)
_MARGIN = 0.02

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Lookup:
    """A table over consecutive whole numbers."""

    first: int
    """Input value of the first entry."""
    entries: NDArray[np.float64]
    whole: bool = True
    """Whether every declared entry is there."""

    @property
    def direction(self) -> int:
        """1 where the entries rise, -1 where they fall, 0 where they do neither."""
        return int(np.sign(self.entries[-1] - self.entries[0])) if monotonic(self.entries) else 0

    def apply(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Look ``values`` up, between entries by interpolation (averaged values are fractional).

        Values outside the table take its nearest end.
        """
        place = np.clip(values - self.first, 0.0, len(self.entries) - 1.0)
        below = np.minimum(place.astype(np.int64), len(self.entries) - 2)
        lower = self.entries[below]
        result: NDArray[np.float64] = lower + (self.entries[below + 1] - lower) * (place - below)
        return result

    def fits(self, values: NDArray[np.float64]) -> bool:
        """Whether this is a curve for an image of ``values``.

        It is whole, rises or falls over the values that the image has, and does not show most of
        them as its darkest or its brightest.
        """
        if not self.whole:
            return False
        low, high = np.clip(np.subtract(reach(values), self.first), 0, len(self.entries) - 1)
        if not monotonic(self.entries[int(low) : int(np.ceil(high)) + 1]):
            return False
        darkest, brightest = self.entries.min(), self.entries.max()

        def between(some: NDArray[np.float64]) -> NDArray[np.bool_]:
            shown = self.apply(some)
            result: NDArray[np.bool_] = (shown > darkest) & (shown < brightest)
            return result

        return distinguishes(values, between)


def lookups_of(header: Dataset, keyword: str, *, signed: bool) -> tuple[Lookup, ...]:
    """Return every reading of every table of the sequence ``keyword``, best first.

    ``signed`` says that the first mapped value is an SS where its VR was ambiguous.
    """
    order = "<u2" if header.original_encoding[1] is not False else ">u2"
    return tuple(
        reading
        for item in items(header, keyword)[:MAX_TABLES]
        for reading in _readings(item, np.dtype(order), signed=signed)
        if len(reading.entries) >= MIN_ENTRIES
    )


def _readings(item: Dataset, order: np.dtype[Any], *, signed: bool) -> Iterator[Lookup]:
    descriptor = _numbers(item, "LUTDescriptor", order)
    if len(descriptor) != 3:
        return
    count = descriptor[0] & 0xFFFF or 0x10000  # 0 stands for 65536
    stated = descriptor[1]
    other = stated - 0x10000 if stated > 0x7FFF else stated + 0x10000 if stated < 0 else stated
    firsts = dict.fromkeys((other, stated) if signed and stated > 0x7FFF else (stated, other))
    data = _data(item, order)
    for entries in _whole(data, count, order):
        for first in firsts:
            yield Lookup(first, entries.astype(np.float64))
    if len(data) < 2 * count:
        for entries in _words(data, order):
            yield Lookup(stated, entries.astype(np.float64), whole=False)


def _whole(data: bytes, count: int, order: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    """Yield ``count`` entries, or more where there are more, in every way that has so many."""
    if len(data) >= 2 * count:
        yield from (words[:count] for words in _words(data, order))
        if len(data) > 2 * count + 1:
            yield from _words(data, order)
    elif len(data) >= count:
        # Entries of 8 bits that fill bytes; the words that they lie in may be turned round.
        straight = np.frombuffer(data + bytes(len(data) % 2), np.uint8)
        turned = straight.reshape(-1, 2)[:, ::-1].ravel()
        yield from (packed[:count] for packed in (straight, turned))


def _words(data: bytes, order: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    words = np.frombuffer(data[: len(data) // 2 * 2], order)
    yield words
    yield words.byteswap()


def _data(item: Dataset, order: np.dtype[Any]) -> bytes:
    """Return LUTData as it stands in the file: of VR OW as bytes, of VR US as numbers."""
    found = whole_value(item, "LUTData")
    if isinstance(found, bytes):
        return found
    entries = [number & 0xFFFF for number in _numbers(item, "LUTData", order)]
    return np.asarray(entries, np.uint16).astype(order).tobytes()


def _numbers(item: Dataset, keyword: str, order: np.dtype[Any]) -> list[int]:
    found = values(item, keyword)
    if len(found) == 1 and isinstance(found[0], bytes):  # VR UN or OW
        found = tuple(np.frombuffer(found[0][: len(found[0]) // 2 * 2], order).tolist())
    if not all(isinstance(part, int) for part in found):
        return []
    return [int(part) for part in found if isinstance(part, int)]


def monotonic(entries: Floats) -> bool:
    """Whether ``entries`` nearly always rise, or nearly always fall."""
    steps = np.diff(entries)
    way = float(np.abs(steps).sum())
    return way > 0 and abs(float(steps.sum())) >= MONOTONIC * way


def reach(values: Floats) -> tuple[float, float]:
    """Return the lowest and the highest of ``values``, less a few of which one cannot be sure."""
    low, high = np.percentile(values, _ENDS)
    return float(low), float(high)


def distinguishes(values: Floats, between: Callable[[Floats], NDArray[np.bool_]]) -> bool:
    """Whether a transformation leaves most of ``values`` neither black nor white.

    Collimated borders and air are black or white already and may cover more than half of an image;
    they do not count. ``between`` says for each value whether it stays between black and white.
    """
    low, high = reach(values)
    margin = _MARGIN * (high - low)
    inside = values[(values > low + margin) & (values < high - margin)]
    return float(between(inside if inside.size else values.ravel()).mean()) >= DISTINGUISHED
