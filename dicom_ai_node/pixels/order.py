"""In which order the images of a series lie along the body, and an even sample of them.

By ImagePositionPatient along the normal of ImageOrientationPatient (PS3.3 C.7.6.2.1.1) where all
images say so and lie parallel, else by InstanceNumber. Headers alone are read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_ai_node.pixels.lenient import integer, numbers

PARALLEL = float(np.cos(np.radians(5.0)))
"""Sections whose normals differ by no more lie along one line."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ordered:
    """Images from head to foot, from front to back or from right to left, as their planes lie."""

    indices: tuple[int, ...]
    """Position of each among those that were given."""
    places: Floats
    """Where each lies, rising: mm along the normal, or its number in the order."""

    def sample(self, most: int) -> list[int]:
        """Return at most ``most`` of the indices, spread evenly from end to end; 0: all.

        The length is cut into so many parts, and of each the image nearest to its middle is taken.
        """
        if not 0 < most < len(self.indices):
            return list(self.indices)
        first, last = self.places[0], self.places[-1]
        middles = first + (last - first) * (np.arange(most) + 0.5) / most
        nearest = np.abs(self.places[None] - middles[:, None]).argmin(axis=1)
        return [self.indices[at] for at in dict.fromkeys(nearest.tolist())]

    def neighbours(self, index: int) -> list[int]:
        """Return the other indices, the nearest to ``index`` first."""
        at = self.indices.index(index)
        far = np.abs(self.places - self.places[at])
        return [self.indices[i] for i in np.argsort(far, kind="stable").tolist() if i != at]


def read_sample(ordered: Ordered, most: int, read: Callable[[int], bool]) -> set[int]:
    """Hand ``read`` at most ``most`` indices, spread evenly (0: all); return those that it was.

    Where it says that it could not read one, the nearest is read in its place that was not tried;
    over the whole sample no more than as many again.
    """
    chosen = ordered.sample(most)
    tried = set(chosen)
    spare = len(chosen)
    for index in chosen:
        if read(index) or len(tried) == len(ordered.indices):
            continue
        for other in ordered.neighbours(index):
            if not spare:
                break
            if other not in tried:
                tried.add(other)
                spare -= 1
                if read(other):
                    break
    return tried


def in_order(headers: Sequence[Dataset]) -> Ordered:
    """Put the images of a series, or the frames of an object, in order; stable."""
    numbered = [integer(header, "InstanceNumber") or 0 for header in headers]
    depths = _depths(headers)
    if depths is None:
        order = sorted(range(len(headers)), key=lambda at: numbered[at])
        return Ordered(tuple(order), np.arange(len(order), dtype=np.float64))
    order = sorted(range(len(headers)), key=lambda at: (depths[at], numbered[at]))
    return Ordered(tuple(order), depths[order])


def _depths(headers: Sequence[Dataset]) -> Floats | None:
    """Return how far along the common normal each lies, mm; None where that is not stated."""
    positions = [_floats(header, "ImagePositionPatient", 3) for header in headers]
    directions = [_floats(header, "ImageOrientationPatient", 6) for header in headers]
    stated = [each for each in (*positions, *directions) if each is not None]
    if not headers or len(stated) < 2 * len(headers):
        return None
    sides = np.array(directions).reshape(-1, 2, 3)
    normals = np.cross(sides[:, 0], sides[:, 1])
    lengths = np.linalg.norm(normals, axis=1)
    apart = np.abs(normals @ normals[0]) < PARALLEL * lengths * lengths[0]
    if lengths.min() < 0.5 or apart.any():
        return None
    normal = normals[0] / lengths[0]
    # To the left, to the back and to the head are positive (PS3.3 C.7.6.2.1.1).
    main = int(np.abs(normal).argmax())
    if (normal[main] > 0) == (main == 2):
        normal = -normal
    depths: Floats = np.array(positions) @ normal
    return None if np.ptp(depths) < 1e-3 else depths


def _floats(header: Dataset, keyword: str, count: int) -> list[float] | None:
    found = [each for each in numbers(header, keyword) if each is not None]
    return found if len(found) == count else None
