"""CT sections of nobody, drawn from ellipses: head, chest and abdomen, in Hounsfield units.

They look like a section through a mannequin. That is enough to show what becomes of a CT series;
what a network says of them is no evidence of its accuracy.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

AIR, LUNG, FAT, WATER, MUSCLE, LIVER, MARROW, CORTEX = -1000, -820, -100, 5, 50, 60, 250, 900
"""Hounsfield units at 120 kV, as textbooks have them."""
NOISE = 12.0
"""Standard deviation, Hounsfield units; of a head, which takes a narrow window, a quarter."""

Plane = NDArray[np.float64]
Ellipse = tuple[float, float, float, float, int]
"""Centre across and down, half axes across and down, in half widths of the field; its value."""


def head(level: float, seed: int = 1, size: int = 256) -> NDArray[np.int16]:
    """Section of a head; ``level`` from 0 at the base to 1 at the vertex. Shape (size, size)."""
    wide = 0.62 * (1 - 0.55 * level**2)
    skull: list[Ellipse] = [
        (0, 0, wide, wide * 1.25, MUSCLE),
        (0, 0, wide * 0.95, wide * 1.19, CORTEX),
        (0, 0, wide * 0.86, wide * 1.09, 36),
        (0, -wide * 0.15, wide * 0.8, wide * 0.9, 32),
    ]
    ventricles: list[Ellipse] = [
        (side * wide * 0.14, -wide * 0.1, wide * 0.07, wide * 0.34, WATER) for side in (-1, 1)
    ]
    return _drawn([*skull, *(ventricles if level < 0.7 else [])], seed, size, noise=NOISE / 4)


def chest(level: float, seed: int = 1, size: int = 256) -> NDArray[np.int16]:
    """Section of a chest; ``level`` from 0 at the apices to 1 at the diaphragm."""
    lungs = 0.55 + 0.45 * level
    return _drawn(
        [
            *_wall(),
            *((side * 0.4, 0.0, 0.31 * lungs, 0.48 * lungs, LUNG) for side in (-1, 1)),
            (0.1 * level, -0.12, 0.1 + 0.2 * level, 0.12 + 0.16 * level, MUSCLE),
            (0.07, 0.22, 0.06, 0.06, MUSCLE),
            (0, -0.05, 0.045, 0.05, AIR) if level < 0.5 else (0, 0.16, 0.03, 0.03, MUSCLE),
            *_ribs(0.78, 0.58),
            *_spine(),
        ],
        seed,
        size,
    )


def abdomen(level: float, seed: int = 1, size: int = 256) -> NDArray[np.int16]:
    """Section of an abdomen; ``level`` from 0 at the diaphragm to 1 at the iliac crests."""
    liver = 0.44 * (1 - 0.7 * level)
    return _drawn(
        [
            *_wall(),
            (0, 0, 0.74, 0.52, FAT),
            (-0.34, -0.04, liver, liver * 0.95, LIVER),
            (0.42, -0.02, 0.2 * (1 - 0.5 * level), 0.24, 52),
            *((side * 0.34, 0.24, 0.12, 0.13, 32) for side in (-1, 1)),
            *((x, -0.22 - 0.1 * abs(x), 0.11, 0.1, 38) for x in (-0.25, 0.0, 0.25)),
            (0.15, -0.3, 0.07, 0.05, AIR),
            (0.03, 0.14, 0.055, 0.055, MUSCLE),
            *((side * 0.2, 0.33, 0.13, 0.11, MUSCLE) for side in (-1, 1)),
            *(_ribs(0.8, 0.58) if level < 0.5 else ()),
            *_spine(),
        ],
        seed,
        size,
    )


SERIES: Sequence[tuple[Callable[[float, int], NDArray[np.int16]], int]] = ((chest, 8), (abdomen, 8))
"""What a series from the apices to the iliac crests is drawn with, and how many sections each."""


def _wall() -> list[Ellipse]:
    return [(0, 0, 0.9, 0.66, FAT), (0, 0, 0.85, 0.61, MUSCLE)]


def _ribs(across: float, down: float) -> list[Ellipse]:
    angles = np.array([0.0, 0.2, 0.8, 1.0, 1.25, 1.75]) * np.pi
    return [
        (float(across * np.cos(a)), float(down * np.sin(a)), 0.05, 0.028, CORTEX) for a in angles
    ]


def _spine() -> list[Ellipse]:
    return [
        (0, 0.36, 0.12, 0.1, CORTEX),
        (0, 0.36, 0.1, 0.08, MARROW),
        (0, 0.5, 0.05, 0.045, WATER),
        (0, 0.58, 0.03, 0.06, CORTEX),
    ]


def _drawn(
    ellipses: Sequence[Ellipse], seed: int, size: int, noise: float = NOISE
) -> NDArray[np.int16]:
    """Paint ellipses over each other, blur as a kernel does, and add noise."""
    down, across = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    image = np.full((size, size), float(AIR))
    for x, y, half_across, half_down, value in ellipses:
        image[((across - x) / half_across) ** 2 + ((down - y) / half_down) ** 2 <= 1] = value
    grain = np.random.default_rng(seed).standard_normal((size, size)) * noise * 2.6
    return np.clip(np.round(_blurred(image + grain)), -1024, 3071).astype(np.int16)


def _blurred(image: Plane) -> Plane:
    """Weigh each pixel and its neighbours 1 : 2 : 1, down and across."""
    for axis in (0, 1):
        image = (np.roll(image, 1, axis) + 2 * image + np.roll(image, -1, axis)) / 4
    return image
