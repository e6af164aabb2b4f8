"""The input contract of the networks: any grey image becomes one square float32 array.

Training and serving call :func:`normalise`, and nothing else reduces or scales pixels, so both see
the same numbers. The contract is called ``square-1`` in a bundle's manifest:

1. block mean by whole factors down to no less than twice the wanted side,
2. antialiased bilinear resize to ``size`` x ``size``; the aspect ratio is not kept, because the
   public images that the networks learn from were squashed to a square before publication,
3. linear stretch that puts the 0.5th and 99.5th percentile at 0 and 1, clipped.

Step 3 makes the result independent of bit depth, rescale slope and window width, and the two
percentiles are symmetric so that an inverted image gives the mirrored result.

DICOM images are reduced as stored; their rescale, VOI and polarity come between steps 2 and 3
(:mod:`dicom_ai_node.pixels.display`).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dicom_ai_node.pixels.contracts import SQUARE

CONTRACT = SQUARE
PERCENTILES = (0.5, 99.5)
BAND = 1 << 20
"""Bytes of an image that are reduced at a time: what a core's own cache holds, and the sums too."""


def normalise(image: NDArray[Any], size: int) -> NDArray[np.float32]:
    """Return a grey image as the networks see it: (size, size), float32, in [0, 1].

    ``image`` has the shape (rows, columns) and any real dtype; larger means brighter (MONOCHROME2).
    A constant image gives zeros.
    """
    if image.ndim != 2 or 0 in image.shape:
        raise ValueError(f"expected a grey image of shape (rows, columns), got {image.shape}")
    return stretch(reduce(image, size))


def reduce(image: NDArray[Any], size: int, *, largest: int | None = None) -> NDArray[np.float32]:
    """Area-average ``image`` to (size, size), float32, in the units of the input.

    ``largest`` is its largest value, where that is known: it need not be looked for again.
    """
    down, across = (block(side, size) for side in image.shape)
    small = block_mean(image, down, across, largest=largest)
    resized = Image.fromarray(small).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.float32)


def stretch(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale linearly so that the contract's percentiles fall on 0 and 1, and clip."""
    low, high = np.percentile(image, PERCENTILES)
    if high <= low:
        return np.zeros_like(image)
    scaled = (image - np.float32(low)) * np.float32(1.0 / (high - low))
    clipped: NDArray[np.float32] = np.clip(scaled, 0.0, 1.0, dtype=np.float32)
    return clipped


def block(side: int, size: int) -> int:
    """Return how many pixels of a side make a block of step 1; what is left over is cut off."""
    return max(1, side // (2 * size))


def block_mean(
    image: NDArray[Any], down: int, across: int, *, largest: int | None = None
) -> NDArray[np.float32]:
    """Mean over whole blocks of ``down`` x ``across`` pixels; what is left over is cut off.

    Strided adds are ten times faster than ``reshape().mean()``, and again by a third in bands of
    rows that stay in the processor's cache.
    """
    rows, columns = image.shape[0] // down, image.shape[1] // across
    image = image[: rows * down, : columns * across]
    total = _of_sums(image, down * across, largest)
    high = max(1, BAND // (down * across * columns * image.dtype.itemsize))
    means = np.empty((rows, columns), np.float32)
    for top in range(0, rows, high):
        band = image[top * down : (top + high) * down]
        # Else each of the adds would turn the bytes of a big endian image round.
        band = band.astype(band.dtype.newbyteorder("="), copy=False)
        sums = _sums(_sums(band, down, total).T, across, total).T
        np.divide(sums, np.float32(down * across), out=means[top : top + high])
    return means


def _of_sums(image: NDArray[Any], count: int, largest: int | None) -> np.dtype[Any]:
    """Return the type in which so many pixels are added; where 16 bits do, twice as many at once.

    Of whole numbers float32 makes exact sums up to 2^24: of 16 bits over blocks of 16 x 16.
    """
    if image.dtype.kind != "u" or image.dtype.itemsize > 2 or not image.size:
        return np.dtype(np.float32)
    most = int(image.max()) if largest is None else largest
    return np.dtype(np.uint16 if most * count < 1 << 16 else np.float32)


def _sums(image: NDArray[Any], count: int, total: np.dtype[Any]) -> NDArray[Any]:
    """Sum every ``count`` rows."""
    if count == 1:
        return image.astype(total, copy=False)
    sums: NDArray[Any] = np.add(image[::count], image[1::count], dtype=total)
    for offset in range(2, count):
        sums += image[offset::count]
    return sums
