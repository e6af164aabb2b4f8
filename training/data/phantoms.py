"""Images that were made and show no part of a body: what the gate of slices is to refuse.

A phantom is a body of water or plastic with inserts; a test image, empty air and noise are none of
a body either. Nothing here is an image of a scanner. :data:`KINDS` train the gate; those of
:data:`HELD_OUT` have other shapes and train nothing, so that what the gate says of them tells how
it does with shapes that it has never seen. Densities are HU, half of the images are a picture
through a drawn window instead.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from dicom_ai_node.pixels.normalise import stretch
from dicom_ai_node.pixels.windows import WINDOWS

Floats = NDArray[np.float32]
Draw = ImageDraw.ImageDraw
Kind = Callable[[Draw, int, np.random.Generator], None]
"""Draws densities in HU into a square of a side, of air."""

AIR = -1000.0
MATERIALS = (-200.0, -100.0, -35.0, 0.0, 20.0, 60.0, 120.0, 340.0, 900.0)
"""HU of foam, polyethylene, polystyrene, water, tissue-like plastics, acrylic, teflon and more."""
FAINT = 0.5
"""Share with hardly any contrast between body and inserts, as phantoms for low contrast have."""


def phantoms(kinds: Sequence[Kind], count: int, side: int, rng: np.random.Generator) -> Floats:
    """``count`` images as ``windows-1`` makes them, (count, 3, side, side) in [0, 1]."""
    return np.stack([phantom(kinds, side, rng) for _ in range(count)])


def phantom(kinds: Sequence[Kind], side: int, rng: np.random.Generator) -> Floats:
    """One of ``kinds``, (3, side, side) in [0, 1]; blurred, shaded and noisy by chance."""
    picture = Image.new("F", (side, side), AIR)
    kinds[int(rng.integers(len(kinds)))](ImageDraw.Draw(picture), side, rng)
    hu = _blurred(np.array(picture), rng.uniform(0, 1.5))
    hu += rng.choice([0.0, 1.0]) * rng.uniform(1, 120) * rng.standard_normal(hu.shape)
    if rng.random() < 0.5:
        return np.stack([window.of(hu.astype(np.float32)) for window in WINDOWS])
    shaded = (hu - AIR) * (shading(side, rng) if rng.random() < 0.5 else 1)
    seen = stretch(np.asarray(shaded, np.float32))
    grey = seen ** np.float32(np.exp(rng.uniform(-0.6, 0.6)))
    return np.repeat(grey[np.newaxis], len(WINDOWS), axis=0)


def shading(side: int, rng: np.random.Generator, strength: float = 0.6) -> Floats:
    """A smooth factor around 1, as the field of a receiver coil is, (side, side)."""
    coarse = Image.fromarray(rng.uniform(-strength, strength, (3, 3)).astype(np.float32))
    return np.exp(np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.float32))


def _blurred(hu: Floats, radius: float) -> Floats:
    low, high = float(hu.min()), float(hu.max())
    if high <= low:
        return hu
    grey = Image.fromarray(np.rint((hu - low) / (high - low) * 255).astype(np.uint8))
    soft = np.asarray(grey.filter(ImageFilter.GaussianBlur(radius)), np.float32)
    return np.asarray(soft / 255 * (high - low) + low, np.float32)


def _density(rng: np.random.Generator, near: float | None = None) -> float:
    """Of a material; or hardly another than ``near``."""
    if near is not None and rng.random() < FAINT:
        return near + float(rng.choice([-1, 1]) * rng.uniform(5, 60))
    return float(rng.choice(MATERIALS) + rng.uniform(-20, 20))


def _middle(side: int, rng: np.random.Generator) -> tuple[float, float, float]:
    """Centre and radius of what fills much of the image."""
    x, y = side * (0.5 + rng.uniform(-0.08, 0.08, 2))
    return float(x), float(y), float(side * rng.uniform(0.2, 0.49))


def _around(x: float, y: float, wide: float, high: float) -> tuple[float, float, float, float]:
    return x - wide, y - high, x + wide, y + high


def disc(draw: Draw, side: int, rng: np.random.Generator) -> None:
    """A cylinder or an ellipse of one density, with or without a wall."""
    x, y, r = _middle(side, rng)
    flat = rng.choice([1.0, rng.uniform(0.55, 1)])
    body = _density(rng)
    if rng.random() < 0.5:
        draw.ellipse(_around(x, y, r, r * flat), fill=_density(rng))
        r *= rng.uniform(0.8, 0.97)
    draw.ellipse(_around(x, y, r, r * flat), fill=body)


def inserts(draw: Draw, side: int, rng: np.random.Generator) -> None:
    """A cylinder with rods on one or two circles, of different size or density."""
    x, y, r = _middle(side, rng)
    body = _density(rng)
    draw.ellipse(_around(x, y, r, r), fill=body)
    for circle in rng.uniform(0.25, 0.8, rng.integers(1, 3)):
        rods, start = int(rng.integers(3, 13)), rng.uniform(0, 6.3)
        size = r * rng.uniform(0.04, 0.16)
        for number in range(rods):
            angle = start + 2 * np.pi * number / rods
            at = x + r * circle * np.cos(angle), y + r * circle * np.sin(angle)
            rod = size * rng.uniform(0.5, 1)
            draw.ellipse(_around(*at, rod, rod), fill=_density(rng, body))


def ring(draw: Draw, side: int, rng: np.random.Generator) -> None:
    """Rings within each other, or a hollow tube."""
    x, y, r = _middle(side, rng)
    for share in sorted(rng.uniform(0.2, 1, rng.integers(2, 5)), reverse=True):
        draw.ellipse(_around(x, y, r * share, r * share), fill=float(rng.choice([AIR, 0, 0, 100])))


def box(draw: Draw, side: int, rng: np.random.Generator) -> None:
    """A box, filled, walled, or with a smaller one within."""
    x, y, r = _middle(side, rng)
    wide, high = r, r * rng.uniform(0.3, 1)
    body = _density(rng)
    draw.rectangle(_around(x, y, wide, high), fill=_density(rng))
    share = rng.uniform(0.5, 0.95)
    draw.rectangle(_around(x, y, wide * share, high * share), fill=body)


def bars(draw: Draw, side: int, rng: np.random.Generator) -> None:
    """Groups of bars for resolution, or a grid, in a disc or without one."""
    x, y, r = _middle(side, rng)
    if rng.random() < 0.7:
        draw.ellipse(_around(x, y, r, r), fill=_density(rng))
    step, density = float(rng.uniform(3, side / 6)), _density(rng)
    reach = r * rng.uniform(0.4, 0.95)
    across = rng.random() < 0.5
    both = rng.random() < 0.4
    for at in np.arange(-reach, reach, step):
        if across or both:
            draw.rectangle((x - reach, y + at, x + reach, y + at + step / 3), fill=density)
        if not across or both:
            draw.rectangle((x + at, y - reach, x + at + step / 3, y + reach), fill=density)


def spheres(draw: Draw, side: int, rng: np.random.Generator) -> None:
    """Bottles and balls, apart from each other, as small coils and water bottles are tested."""
    for _ in range(rng.integers(1, 7)):
        x, y = side * rng.uniform(0.15, 0.85, 2)
        r = side * rng.uniform(0.03, 0.15)
        draw.ellipse(_around(x, y, r, r * rng.uniform(0.8, 1.2)), fill=_density(rng))


def empty(draw: Draw, side: int, rng: np.random.Generator) -> None:
    """Air, or nothing but a grey; what noise is added makes of it an image of noise."""
    if rng.random() < 0.5:
        draw.rectangle((0, 0, side, side), fill=_density(rng))


def noise(draw: Draw, side: int, rng: np.random.Generator) -> None:
    """Blots of all sizes."""
    for _ in range(rng.integers(30, 200)):
        x, y = side * rng.uniform(0, 1, 2)
        r = side * rng.uniform(0.01, 0.12)
        draw.ellipse(_around(x, y, r, r), fill=float(rng.uniform(AIR, 400)))


def wedge(draw: Draw, side: int, rng: np.random.Generator) -> None:
    """Steps of rising density."""
    x, y, r = _middle(side, rng)
    steps = int(rng.integers(4, 12))
    first, last = rng.uniform(AIR, 900, 2)
    for number, density in enumerate(np.linspace(first, last, steps)):
        left = x - r + 2 * r * number / steps
        draw.rectangle((left, y - r / 2, left + 2 * r / steps, y + r / 2), fill=float(density))


def star(draw: Draw, side: int, rng: np.random.Generator) -> None:
    """Siemens star: sectors around a point."""
    x, y, r = _middle(side, rng)
    sectors = int(rng.integers(6, 25))
    body, other = _density(rng), _density(rng)
    for number in range(2 * sectors):
        start = 180 * number / sectors
        fill = body if number % 2 else other
        draw.pieslice(_around(x, y, r, r), start, start + 180 / sectors, fill=fill)


def polygon(draw: Draw, side: int, rng: np.random.Generator) -> None:
    """A body of three to eight corners, with square holes."""
    x, y, r = _middle(side, rng)
    corners, turn, body = int(rng.integers(3, 9)), int(rng.integers(0, 90)), _density(rng)
    draw.regular_polygon((x, y, r), corners, turn, fill=body)
    for _ in range(rng.integers(0, 7)):
        a, b = rng.uniform(-0.4, 0.4, 2) * r
        hole = r * rng.uniform(0.03, 0.12)
        draw.rectangle(_around(x + a, y + b, hole, hole), fill=_density(rng, body))


def checks(draw: Draw, side: int, rng: np.random.Generator) -> None:
    """A chessboard."""
    cells = int(rng.integers(3, 12))
    size, one, other = side / cells, _density(rng), _density(rng)
    for row in range(cells):
        for column in range(cells):
            corner = (column * size, row * size)
            end = (corner[0] + size, corner[1] + size)
            draw.rectangle((*corner, *end), fill=one if (row + column) % 2 else other)


def crosses(draw: Draw, side: int, rng: np.random.Generator) -> None:
    """A disc with a cross and a slot, as those for geometry have them."""
    x, y, r = _middle(side, rng)
    body = _density(rng)
    draw.ellipse(_around(x, y, r, r), fill=body)
    thick, line = r * rng.uniform(0.02, 0.12), _density(rng)
    draw.rectangle(_around(x, y, r * 0.8, thick), fill=line)
    draw.rectangle(_around(x, y, thick, r * 0.8), fill=line)
    draw.rectangle(_around(x + r * 0.4, y + r * 0.4, r * 0.2, r * 0.1), fill=_density(rng, body))


KINDS: tuple[Kind, ...] = (disc, disc, inserts, inserts, ring, box, bars, spheres, empty, noise)
"""Those that train."""
HELD_OUT: tuple[Kind, ...] = (wedge, star, polygon, checks, crosses)
"""Those that never do."""
