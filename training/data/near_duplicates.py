"""Find the same image twice, within a data set and over several, and what that does to splits.

    python -m training duplicates a/index.csv b/index.csv --out duplicates.json

Public sets are made of one another (RSNA's and SIIM's challenges of NIH's images), under other
names, sizes and compressions. A training image with a near-duplicate in a test set makes the test
worthless, so near-duplicates are found by perceptual hash; :mod:`training.data.folds` puts them
into one fold, and training refuses folds that part them.

The hash is 256 bits that stay nearly the same when an image is resized or recompressed: the signs
of low frequencies of a cosine transform (Zauner 2010, the pHash family), of an image whose greys
were replaced by their ranks, since a gamma, a window or a histogram equalisation changes greys and
not their order. All chests look alike, therefore 256 bits and not the usual 64. Mirrored, turned,
inverted or cropped copies are not found.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from dicom_ai_node.errors import PixelsRefused, UnreadableInstance
from training.data.cache import tensor
from training.data.images import Images
from training.data.index import IndexRow, files, read_indexes
from training.data.options import Indexes
from training.data.tables import DataError

DISTANCE = 26
"""Bits of 256 that near-duplicates may differ in.

Measured on chest radiographs: copies reduced to 128 pixels, compressed at JPEG quality 20,
equalised or changed by a gamma of 0.6 to 1.7 are at most 27 apart, 99 % of them at most 19. The
nearest two images of 17,084 that are no copies are 28 apart, and of two patients 43.
"""

SIDE = 64
"""Side of the image that is hashed."""

FREQUENCIES = 16
"""Cosines each way: the lowest quarter of those in 64 pixels, which small copies still have."""

BITS = FREQUENCIES * FREQUENCIES

FARTHEST = 31
"""Largest distance that is sure to be found: one of 16 bands then differs in one bit or none."""

_LEVELS = 64
_BANDS = 16
_FLIPS = (0, *(1 << bit for bit in range(BITS // _BANDS)))
_AT_ONCE = 1 << 21
Digests = NDArray[np.uint64]

Link = tuple[int, int]
"""Positions of two things that belong together."""


def digest(image: NDArray[np.float32]) -> Digests:
    """The hash of ``image``, shape (64, 64) in [0, 1]: four words of 64 bits."""
    if image.shape != (SIDE, SIDE):
        raise ValueError(f"expected shape ({SIDE}, {SIDE}), got {image.shape}")
    cosines = _cosines()
    spectrum = cosines @ _ranks(image) @ cosines.T
    # Neighbouring frequencies of chests agree, so they are dealt out to different bands.
    order = np.random.default_rng(0).permutation(BITS)
    return np.packbits((spectrum > 0).ravel()[order]).view(np.uint64)


def _ranks(image: NDArray[np.float32]) -> NDArray[np.float64]:
    """Greys by the share of pixels that are darker, 0 in the mean; noise stays within a level."""
    levels = np.rint(image * (_LEVELS - 1)).astype(np.int64)
    counts = np.bincount(levels.ravel(), minlength=_LEVELS)
    middle = (counts.cumsum() - counts / 2) / levels.size
    ranks: NDArray[np.float64] = middle[levels] - 0.5
    return ranks


def _cosines() -> NDArray[np.float64]:
    """Rows of the cosine transform (DCT-II) from the lowest frequency on, shape (16, 64)."""
    k, x = np.mgrid[0:FREQUENCIES, 0:SIDE]
    return np.asarray(np.cos(np.pi * k * (2 * x + 1) / (2 * SIDE)), dtype=np.float64)


def near(digests: Digests, distance: int) -> NDArray[np.int64]:
    """Every pair of hashes that differ in at most ``distance`` bits, without comparing all.

    Two hashes within 31 bits differ by at most one bit in at least one of 16 bands, so it is enough
    to compare those that agree in a band, with or without a bit flipped (Norouzi 2012).

    Returns
    -------
    Array of shape (pairs, 3): two positions, the lower one first, and their distance; sorted.
    """
    if not 0 <= distance <= FARTHEST:
        raise ValueError(f"expected a distance from 0 to {FARTHEST} bits, got {distance}")
    parts = [np.empty((0, 3), np.int64)]
    for band in digests.view(np.uint16).T:
        order = np.argsort(band, kind="stable")
        for left, right in _agreeing(band, order):
            differing = np.bitwise_count(digests[left] ^ digests[right]).sum(axis=1, dtype=np.int64)
            close = differing <= distance
            parts.append(np.stack([left[close], right[close], differing[close]], axis=1))
    found: NDArray[np.int64] = np.unique(np.concatenate(parts), axis=0)
    return found


def _agreeing(
    band: NDArray[np.uint16], order: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Positions, the lower one first, of values of ``band`` within a bit; some come twice."""
    ranked = band[order]
    for flip in _FLIPS:
        sought = band ^ np.uint16(flip)
        begin = np.searchsorted(ranked, sought, side="left")
        counts = np.searchsorted(ranked, sought, side="right") - begin
        ends = counts.cumsum()
        start = 0
        while start < len(band):
            before = ends[start - 1] if start else 0
            stop = max(int(np.searchsorted(ends, before + _AT_ONCE)), start + 1)
            size = counts[start:stop]
            left = np.repeat(np.arange(start, stop), size)
            within = np.arange(size.sum()) - np.repeat(size.cumsum() - size, size)
            right = order[np.repeat(begin[start:stop], size) + within]
            once = left < right
            yield left[once], right[once]
            start = stop


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


def have_near_duplicates(measured: Images, trained: Images, distance: int) -> NDArray[np.bool_]:
    """Which of ``measured`` are within ``distance`` bits of one of ``trained``, shape (N,).

    Both with pixels of :data:`training.data.near_duplicates.SIDE`.
    """
    every = np.concatenate([_digests(measured), _digests(trained)])
    pairs = near(every, distance)
    across = (pairs[:, 0] < len(measured)) & (pairs[:, 1] >= len(measured))
    found = np.zeros(len(measured), dtype=np.bool_)
    found[pairs[across, 0]] = True
    return found


def _digests(images: Images) -> Digests:
    hashes = [digest(image) for batch in images.floats() for image in batch]
    return np.array(hashes, dtype=np.uint64).reshape(len(hashes), 4)


def components(count: int, links: Iterable[Link]) -> list[int]:
    """For each of ``count`` things the first of all that it is linked to, directly or not."""
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for left, right in links:
        first, second = sorted((root(left), root(right)))
        parent[second] = first
    return [root(i) for i in range(count)]


def groups(rows: Sequence[IndexRow], duplicates: Iterable[Link] = ()) -> list[int]:
    """The group of each row: the position of its first member.

    A group holds all images of a patient, and of every patient who shares a near-duplicate with
    that one. A row without a patient is only held by its duplicates.
    """
    first: dict[str, int] = {}
    same = [(first.setdefault(row.patient, i), i) for i, row in enumerate(rows) if row.patient]
    return components(len(rows), [*same, *duplicates])


def crossing(rows: Sequence[IndexRow], links: Sequence[Link]) -> dict[tuple[str, str], int]:
    """For each two splits the number of groups of near-duplicates that have members in both."""
    members: dict[int, set[str]] = defaultdict(set)
    for position, group in enumerate(components(len(rows), links)):
        members[group].add(rows[position].split)
    found: Counter[tuple[str, str]] = Counter()
    for splits in members.values():
        found.update(combinations(sorted(splits), 2))
    return dict(sorted(found.items()))


def report(rows: Sequence[IndexRow], found: Hashed, distance: int) -> dict[str, Any]:
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


def _member(row: IndexRow) -> dict[str, str]:
    return {
        "image": row.image,
        "dataset": row.dataset,
        "patient": row.patient,
        "split": row.split,
    }


def read_links(path: Path, images: Sequence[Path]) -> list[Link]:
    """The pairs of a report at ``path`` as positions in ``images``; others are left out.

    Raises DataError: the file is not such a report.
    """
    try:
        pairs = json.loads(path.read_text())["pairs"]
        named = [(path.parent / left, path.parent / right) for left, right, _ in pairs]
    except OSError as error:
        raise DataError(f"{path}: expected a readable file: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: pairs: expected the report of python -m training duplicates"
        ) from error
    position = {image.resolve(): number for number, image in enumerate(images)}
    at = ((position.get(a.resolve()), position.get(b.resolve())) for a, b in named)
    return [(left, right) for left, right in at if left is not None and right is not None]


def main(
    indexes: Indexes,
    out: Annotated[Path, typer.Option(help="Report, JSON.")],
    distance: Annotated[int, typer.Option(help="Bits of 256, at most 31.")] = DISTANCE,
) -> None:
    """Hash every image of the indexes and write what is there twice."""
    rows = read_indexes(out.parent, indexes)
    out.parent.mkdir(parents=True, exist_ok=True)  # images are named from there
    found = hashed(track(files(out, rows), "images", console=Console(stderr=True)))
    written = report(rows, found, distance)
    out.write_text(json.dumps(written, indent=1) + "\n")
    table = Table("Splits", "Groups in both", box=None)
    for entry in written["crossing"]:
        splits = " and ".join(split or "none" for split in entry["splits"])
        table.add_row(splits, f"{entry['groups']:,}")
    Console().print(table, "", highlight=False)
    print(f"{out}: {written['groups']:,} groups in {len(rows):,} images")
