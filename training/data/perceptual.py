"""Perceptual hashes: 256 bits that stay nearly the same when an image is resized or recompressed.

The hash is the signs of low frequencies of a cosine transform (Zauner 2010, the pHash family), of
an image whose greys were replaced by their ranks: a gamma, a window or a histogram equalisation
changes greys and not their order. All chests look alike, therefore 256 bits and not the usual 64.
Mirrored, turned, inverted or cropped copies are not found. Pure numpy.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

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
