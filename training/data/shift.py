"""Images as another hospital, archive or screen might have left them. Numpy and Pillow.

Used only to see how errors grow with the distance from what the network knows
(``training.fit.calibrate``), so the changes are stronger than, and not the code of, those that it
is trained with (``training.data.augment``). Left and right stay, as there.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from dicom_ai_node.pixels.normalise import stretch

Floats = NDArray[np.float32]
Change = Callable[[Floats, np.random.Generator], Floats]


def shifted(images: Floats, rng: np.random.Generator) -> Floats:
    """Change each of ``images`` (N, S, S), in [0, 1], in one to three ways drawn from ``rng``.

    Returns the same shape, float32 in [0, 1], stretched as the input contract says.
    """
    return np.stack([_shift(image, rng) for image in images])


def shifted_channels(images: Floats, rng: np.random.Generator) -> Floats:
    """The same of (N, C, S, S): each channel in the same ways, and without a stretch.

    Channels that are alike, as those of a picture are, stay alike, and are stretched.
    """
    return np.stack([_shift_channels(image, rng) for image in images])


def _shift_channels(image: Floats, rng: np.random.Generator) -> Floats:
    seed = rng.integers(2**31)
    if (image == image[:1]).all():
        changed = _shift(image[0], np.random.default_rng(seed))
        return np.repeat(changed[np.newaxis], len(image), axis=0)
    return np.stack([_change(channel, np.random.default_rng(seed)) for channel in image])


def _shift(image: Floats, rng: np.random.Generator) -> Floats:
    return stretch(_change(image, rng))


def _change(image: Floats, rng: np.random.Generator) -> Floats:
    for number in rng.choice(len(CHANGES), size=rng.integers(1, 4), replace=False):
        image = np.clip(CHANGES[number](image, rng), 0, 1, dtype=np.float32)
    return image


def equalise(image: Floats, rng: np.random.Generator) -> Floats:
    """Histogram equalisation, wholly or in part."""
    levels = np.rint(image * 255).astype(np.intp)
    ranks = np.cumsum(np.bincount(levels.ravel(), minlength=256)) / levels.size
    share = np.float32(rng.uniform(0.4, 1.0))
    return (1 - share) * image + share * ranks[levels].astype(np.float32)


def local_contrast(image: Floats, rng: np.random.Generator) -> Floats:
    """Unsharp mask with a wide radius, as processing that lifts the lungs' detail."""
    radius = rng.uniform(0.04, 0.12) * image.shape[0]
    picture = Image.fromarray(np.rint(image * 255).astype(np.uint8))
    blurred = np.asarray(picture.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32) / 255
    detail, rest = np.float32(rng.uniform(1.0, 2.5)), np.float32(rng.uniform(0.2, 0.8))
    half = np.float32(0.5)
    return np.asarray(half + (image - blurred) * detail + (blurred - half) * rest, dtype=np.float32)


def gamma(image: Floats, rng: np.random.Generator) -> Floats:
    """Much brighter or much darker in the middle of the scale."""
    strength = rng.choice([-1.0, 1.0]) * rng.uniform(0.35, 0.9)
    return np.asarray(np.maximum(image, 1e-4) ** np.float32(np.exp(strength)), dtype=np.float32)


def window(image: Floats, rng: np.random.Generator) -> Floats:
    """A narrow window: what lies outside is lost."""
    low, high = np.quantile(image, [rng.uniform(0.0, 0.2), rng.uniform(0.75, 0.98)])
    return np.asarray((image - low) / max(high - low, 1e-3), dtype=np.float32)


def low_contrast(image: Floats, rng: np.random.Generator) -> Floats:
    """A faint image stored in few grey levels, with the noise of a photograph."""
    levels = rng.integers(12, 48)
    faint = np.rint(image * levels) / levels
    noise = rng.uniform(0.01, 0.08) * rng.standard_normal(image.shape, dtype=np.float32)
    return np.asarray(faint + noise, dtype=np.float32)


def frame(image: Floats, rng: np.random.Generator) -> Floats:
    """A white, grey or black frame around a smaller image."""
    side = image.shape[0]
    wide, high = (int(side * rng.uniform(0.7, 0.95)) for _ in range(2))
    left, top = rng.integers(0, side - wide + 1), rng.integers(0, side - high + 1)
    out = np.full_like(image, rng.choice([0.0, 0.0, 0.5, 1.0]))
    out[top : top + high, left : left + wide] = _resized(image, wide, high)
    return out


def aspect(image: Floats, rng: np.random.Generator) -> Floats:
    """Another aspect ratio, and up to a fifth of a side cut away."""
    side = image.shape[0]
    cut = rng.uniform(0, 0.12, 4) * rng.integers(0, 2, 4) * side
    top, bottom, left, right = cut.astype(int)
    return _resized(image[top : side - bottom, left : side - right], side, side)


def text(image: Floats, rng: np.random.Generator) -> Floats:
    """Burnt-in writing and markers."""
    side = image.shape[0]
    picture = Image.fromarray(image)  # mode F
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.integers(1, 5)):
        at = (int(rng.uniform(0, 0.7) * side), int(rng.choice([0.02, 0.06, 0.85, 0.92]) * side))
        word = "".join(chr(c) for c in rng.integers(65, 91, rng.integers(1, 14)))
        draw.text(at, word, fill=float(rng.integers(0, 2)))
    return np.array(picture, dtype=np.float32)


def soft(image: Floats, rng: np.random.Generator) -> Floats:
    """A copy of a copy: few pixels, enlarged again."""
    few = int(image.shape[0] * rng.uniform(0.2, 0.5))
    return _resized(_resized(image, few, few), image.shape[1], image.shape[0])


def tilt(image: Floats, rng: np.random.Generator) -> Floats:
    """Photographed askew."""
    degrees = float(rng.choice([-1.0, 1.0]) * rng.uniform(6, 18))
    turned = Image.fromarray(image).rotate(degrees, Image.Resampling.BILINEAR)
    return np.asarray(turned, dtype=np.float32)


def _resized(image: Floats, wide: int, high: int) -> Floats:
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize((wide, high), Image.Resampling.BILINEAR), dtype=np.float32)


CHANGES: tuple[Change, ...] = (
    equalise, local_contrast, gamma, window, low_contrast, frame, aspect, text, soft, tilt,
)  # fmt: skip
