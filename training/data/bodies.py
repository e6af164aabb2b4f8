"""Synthetic CT series of the trunk whose age is known, on a table: what proves the route.

Nothing is learnt from them about patients. A body is a soft ellipse with lungs, ribs, a spine and a
pelvis; its size, its place, its contrast medium, the density of its bones, the table below it and
the noise are drawn without regard to age. One density alone goes with age, on a line about which it
scatters: that of the lumbar vertebrae falls, or calcium in the wall of the aorta before them rises
(:data:`LOSS`, :data:`GAIN`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_ai_node.pixels.volume import Plane

YOUNGEST, OLDEST = 20.0, 90.0
LUMBAR = (0.55, 0.8)
"""Where they lie, and the calcium before them, as shares of the body's length from the head."""
SCATTER = 5.0
"""Standard deviation of the planted density about its line, in years: no network can do better."""


@dataclass(frozen=True, slots=True)
class Planted:
    """What is planted in the bodies."""

    where: str
    """In words."""
    at_20: float
    """Hounsfield units at the age of 20."""
    per_year: float
    """How many are gained a year."""


LOSS = Planted("lumbar vertebrae", 420.0, -4.0)
GAIN = Planted("wall of the aorta", 300.0, 10.0)
PLANTED = {"loss": LOSS, "gain": GAIN}
"""By name."""
SPINE_RADIUS, AORTA_RADIUS, WALL = 18.0, 11.0, 5.0
"""Of a vertebra and of the aorta, and how thick the wall is where it is calcified, mm."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """The sections of one synthetic patient, the first at the feet."""

    age: float
    planes: tuple[Plane, ...]
    images: NDArray[np.int16]
    """Hounsfield units, shape (N, rows, columns)."""
    body: NDArray[np.bool_]
    """What is body, of the same shape."""
    planted: NDArray[np.bool_]
    """Where the density goes with age."""


def series(
    seed: int,
    *,
    planted: Planted = LOSS,
    age: float | None = None,
    pixels: int = 128,
    sections: int = 80,
) -> Series:
    """One patient; ``age`` is drawn evenly where it is not given."""
    rng = np.random.default_rng(seed)
    years = float(rng.uniform(YOUNGEST, OLDEST)) if age is None else age
    scatter = abs(planted.per_year) * rng.normal(0, SCATTER)
    density = planted.at_20 + planted.per_year * (years - YOUNGEST) + scatter
    width, depth = rng.uniform(130, 200), rng.uniform(85, 130)
    spacing, thickness = rng.uniform(3.4, 4.0), rng.uniform(4.0, 6.0)
    middle = rng.uniform(-15, 15, 2)
    z, y, x = _grid(sections, pixels, spacing, middle)
    taper = 1 - 0.12 * np.cos(2 * np.pi * z)
    inside = _ellipse(x, y, width * taper, depth * taper)
    values = np.full((sections, pixels, pixels), -1000.0, np.float32)
    _table(values, rng, y * np.ones_like(z), x, depth * 1.12)
    values[inside] = -100
    values[_ellipse(x, y, width * taper - 18, depth * taper - 18)] = rng.uniform(30, 60)
    for side in (-1, 1):
        lung = _ellipse(x - side * width * 0.42, y, width * 0.3, depth * 0.55) & (z < 0.42)
        values[lung] = -850
    _ribs(values, rng, x, y, z, width * taper - 22, depth * taper - 22)
    lumen = _ellipse(x - 8, y - depth * 0.35, AORTA_RADIUS, AORTA_RADIUS) & (z < 0.9)
    values[lumen] = rng.uniform(50, 320)
    wall = lumen & ~_ellipse(x - 8, y - depth * 0.35, AORTA_RADIUS - WALL, AORTA_RADIUS - WALL)
    back = depth * 0.62
    spine = _ellipse(x, y - back, SPINE_RADIUS, SPINE_RADIUS) & (np.mod(z * 26, 1) > 0.15)
    values[spine] = rng.uniform(120, 420)
    place = (spine if planted is LOSS else wall) & (z > LUMBAR[0]) & (z < LUMBAR[1])
    values[place] = density
    for side in (-1, 1):
        hip = _ellipse(x - side * width * 0.5, y - depth * 0.2, width * 0.3, depth * 0.25)
        hip &= ~_ellipse(x - side * width * 0.5, y - depth * 0.2, width * 0.22, depth * 0.17)
        values[hip & (z > 0.84)] = rng.uniform(300, 700)
    values += rng.normal(0, rng.uniform(8, 20), values.shape)
    images = np.clip(np.rint(values), -1024, 3071).astype(np.int16)[::-1].copy()
    planes = _planes(sections, pixels, spacing, thickness)
    return Series(years, planes, images, inside[::-1].copy(), place[::-1].copy())


def _grid(
    sections: int, pixels: int, spacing: float, middle: NDArray[np.float64]
) -> tuple[Floats, Floats, Floats]:
    """Share of the length from the head (Z, 1, 1), mm to the back (1, Y, 1), to the left."""
    at = ((np.arange(pixels) - (pixels - 1) / 2) * spacing).astype(np.float32)
    z = ((np.arange(sections) + 0.5) / sections).astype(np.float32)
    down, across = at - np.float32(middle[0]), at - np.float32(middle[1])
    return z[:, None, None], down[None, :, None], across[None, None]


def _ellipse(
    x: Floats, y: Floats, half_width: Floats | float, half_depth: Floats | float
) -> NDArray[np.bool_]:
    return np.asarray((x / half_width) ** 2 + (y / half_depth) ** 2 < 1)


def _table(values: Floats, rng: np.random.Generator, y: Floats, x: Floats, below: float) -> None:
    """Put a curved table with a shell of carbon, foam and a rail below the body."""
    curve = below + rng.uniform(0, 0.0006) * -(x**2) + rng.uniform(-4, 4)
    broad = np.abs(x) < rng.uniform(190, 230)
    depth = (y - curve) * np.ones_like(x)
    inside = (depth > 0) & (depth < 40) & broad
    values[inside] = -920
    shell = inside & ((depth < 6) | (depth > 34))
    values[shell] = rng.uniform(-350, 250)
    rail = inside & (np.abs(np.abs(x) - 150) < 6)
    values[rail] = rng.uniform(400, 1500)


def _ribs(
    values: Floats,
    rng: np.random.Generator,
    x: Floats,
    y: Floats,
    z: Floats,
    half_width: Floats,
    half_depth: Floats,
) -> None:
    """Draw a shell around the chest, in bands that slope from the back to the front."""
    shell = _ellipse(x, y, half_width, half_depth)
    shell = shell & ~_ellipse(x, y, half_width - 9, half_depth - 9)
    bands = np.mod(z * 24 + y / 160, 1) < 0.45
    values[shell & bands & (z < 0.5)] = rng.uniform(350, 650)


def _planes(sections: int, pixels: int, spacing: float, thickness: float) -> tuple[Plane, ...]:
    """Axial sections from the feet up."""
    corner = -(pixels - 1) / 2 * spacing
    return tuple(
        Plane(
            (corner, corner, number * thickness),
            (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
            (spacing, spacing),
            (pixels, pixels),
        )
        for number in range(sections)
    )
