"""Images on disk that are indexed as if they were an array in memory. Pure but for the reading."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Mapped:
    """Images of several caches in one row, read from disk when they are asked for.

    Indexed along its first axis as an array of shape (N, side, side) would be.
    """

    def __init__(self, parts: Sequence[tuple[NDArray[np.uint16], NDArray[np.int64]]]) -> None:
        """Of each cache its images, and the positions of those to be drawn from."""
        self.dtype = np.dtype(np.uint16)
        self._stored = [stored for stored, _ in parts]
        self._part = np.repeat(np.arange(len(parts)), [len(at) for _, at in parts])
        self._row = np.concatenate([np.empty(0, np.int64), *(at for _, at in parts)])

    def __len__(self) -> int:
        """How many images."""
        return len(self._row)

    def __getitem__(self, key: Any) -> NDArray[np.uint16]:
        """One image for a number, else those of a slice, positions or a mask; never a view."""
        one = np.ndim(key) == 0 and not isinstance(key, slice)
        part, row = np.atleast_1d(self._part[key]), np.atleast_1d(self._row[key])
        side = self._stored[0].shape[1] if self._stored else 0
        found = np.empty((len(row), side, side), np.uint16)
        for number in np.unique(part):
            found[part == number] = self._stored[number][row[part == number]]
        return found[0] if one else found
