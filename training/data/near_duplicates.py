"""Find the same image twice, within a data set and over several, and what that does to splits.

Public sets are made of one another (RSNA's and SIIM's challenges of NIH's images), under other
names, sizes and compressions. An image in training whose twin is in a test set makes the test
worthless, so near-duplicates are found by perceptual hash; ``training.folds`` keeps them in one
fold, and training refuses folds that part them.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from dicom_ai_node.errors import PixelsRefused, UnreadableInstance
from training.data.cache import tensor
from training.data.groups import Link, components
from training.data.index import Row
from training.data.perceptual import BITS, SIDE, Digests, digest, near
from training.data.tables import DataError

DISTANCE = 26
"""Bits of 256 that near-duplicates may differ in.

Measured on chest radiographs: copies reduced to 128 pixels, compressed at JPEG quality 20,
equalised or changed by a gamma of 0.6 to 1.7 are at most 27 apart, 99 % of them at most 19. The
nearest two images of 17,084 that are no copies are 28 apart, and of two patients 43.
"""


@dataclass(frozen=True, slots=True)
class Hashed:
    """Images with their hashes, and those that have none."""

    positions: list[int]
    """Which of the files the hashes belong to."""
    digests: Digests
    """Shape (images, 4)."""
    faults: dict[int, str]
    """Why a file could not be hashed."""


def hashed(paths: Iterable[Path]) -> Hashed:
    """Hash the images at ``paths``, seen as the networks see them."""
    positions, digests, faults = [], [np.empty((0, 4), np.uint64)], {}
    for position, path in enumerate(paths):
        try:
            digests.append(digest(tensor(path, SIDE))[None])
            positions.append(position)
        except (UnreadableInstance, PixelsRefused) as error:
            faults[position] = str(error)
    return Hashed(positions, np.concatenate(digests), faults)


def crossing(rows: Sequence[Row], links: Sequence[Link]) -> dict[tuple[str, str], int]:
    """For each two splits the number of groups of near-duplicates that have members in both."""
    members: dict[int, set[str]] = defaultdict(set)
    for position, group in enumerate(components(len(rows), links)):
        members[group].add(rows[position].split)
    found: Counter[tuple[str, str]] = Counter()
    for splits in members.values():
        found.update(combinations(sorted(splits), 2))
    return dict(sorted(found.items()))


def report(rows: Sequence[Row], found: Hashed, distance: int) -> dict[str, Any]:
    """Everything about the near-duplicates among ``rows``, for JSON."""
    at = np.array(found.positions, dtype=np.int64)
    pairs = [(int(at[i]), int(at[j]), int(d)) for i, j, d in near(found.digests, distance)]
    links = [(left, right) for left, right, _ in pairs]
    members: dict[int, list[int]] = defaultdict(list)
    for position, group in enumerate(components(len(rows), links)):
        members[group].append(position)
    several = [group for group in members.values() if len(group) > 1]
    return {
        "bits": BITS,
        "distance": distance,
        "images": len(rows),
        "unreadable": {rows[position].image: fault for position, fault in found.faults.items()},
        "pairs": [[rows[left].image, rows[right].image, bits] for left, right, bits in pairs],
        "groups": len(several),
        "largest_group": max(map(len, several), default=0),
        "crossing": [
            {"splits": list(splits), "groups": count}
            for splits, count in crossing(rows, links).items()
        ],
        "members": [[_member(rows[position]) for position in group] for group in several],
    }


def _member(row: Row) -> dict[str, str]:
    return {
        "image": row.image,
        "dataset": row.dataset,
        "patient": row.patient,
        "split": row.split,
    }


def read_links(path: Path, images: Sequence[Path]) -> list[Link]:
    """The pairs of a report at ``path`` as positions in ``images``; others are left out.

    Raises
    ------
    DataError
        The file is not such a report.
    """
    try:
        pairs = json.loads(path.read_text())["pairs"]
        named = [(path.parent / left, path.parent / right) for left, right, _ in pairs]
    except OSError as error:
        raise DataError(f"{path}: expected a readable file: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: pairs: expected the report of training.duplicates") from error
    position = {image.resolve(): number for number, image in enumerate(images)}
    at = ((position.get(a.resolve()), position.get(b.resolve())) for a, b in named)
    return [(left, right) for left, right in at if left is not None and right is not None]
