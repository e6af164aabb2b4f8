"""What belongs together: the images of a patient, and images that are near-duplicates. Pure."""

from collections.abc import Iterable, Sequence

from training.data.index import Row

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
