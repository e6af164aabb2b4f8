"""What belongs together: the images of a patient, and images that are near-duplicates. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from training.index import Row
from training.tables import DataError

Link = tuple[int, int]
"""Positions of two things that belong together."""


def components(count: int, links: Iterable[Link]) -> list[int]:
    """For each of ``count`` things the first of all that it is linked to, directly or not."""
    parent = list(range(count))

    def root(one: int) -> int:
        while parent[one] != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        return one

    for left, right in links:
        first, second = sorted((root(left), root(right)))
        parent[second] = first
    return [root(one) for one in range(count)]


def groups(rows: Sequence[Row], duplicates: Iterable[Link] = ()) -> list[int]:
    """The group of each row: the position of its first member.

    A group holds all images of a patient, and of every patient who shares a near-duplicate with
    that one. A row without a patient is only held by its duplicates.
    """
    first: dict[str, int] = {}
    same = [(first.setdefault(row.patient, i), i) for i, row in enumerate(rows) if row.patient]
    return components(len(rows), [*same, *duplicates])


def one_split(
    rows: Sequence[Row], order: Sequence[str], duplicates: Iterable[Link] = ()
) -> list[Row]:
    """``rows`` with every group in one split: that of its members which comes first in ``order``.

    Put what must stay clean first (``("test", "val", "train")``): a training image whose twin, or
    whose patient, is in the test set then leaves the training.

    Raises
    ------
    DataError
        A row's split is not in ``order``.
    """
    rank = {split: number for number, split in enumerate(order)}
    of = groups(rows, duplicates)
    best: dict[int, int] = {}
    for row, group in zip(rows, of, strict=True):
        if row.split not in rank:
            expected = ", ".join(map(repr, order))
            raise DataError(f"{row.image}: split: expected one of {expected}, got {row.split!r}")
        best[group] = min(best.get(group, len(order)), rank[row.split])
    return [replace(row, split=order[best[group]]) for row, group in zip(rows, of, strict=True)]
