"""A CT series as one volume in Hounsfield units, on a grid of :data:`STEP` mm.

Headers come first and say where each image lies (:func:`plane_of`, :func:`arrange`); pixels come
afterwards, one image after the other, and each is averaged onto the grid before the next is read
(:func:`volume`). So a series of 1,000 images takes as much memory as its millimetres, whatever the
number of its images.

An image lies where Image Position and Orientation (Patient) put it (PS3.3 C.7.6.2.1.1): the order
of the files, InstanceNumber and SliceThickness decide nothing. The gantry may be tilted: images
that move sideways from one to the next are put where they lie.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset

from dicom_ai_node.pixels.lenient import integer, numbers
from dicom_ai_node.pixels.refusals import RefusalCode, refuse

STEP = 2.0
"""Side of a voxel, mm: bones are resolved, and thin and thick sections look alike."""
AIR = -1024
"""Hounsfield units of what no image shows; values below are padding."""
DENSEST = 3071
"""Hounsfield units of the most that 12 bits hold; metal is above."""
FEWEST = 8
"""Sections that make a volume."""
WIDEST_GAP = 15.0
"""Largest distance between two sections, mm; what lies between them is interpolated."""
SAME_PLACE = 0.05
"""Sections that are no further apart, in mm, show the same."""
SAME_DIRECTION = float(np.cos(np.radians(1.0)))
MOST_VOXELS = 120_000_000
"""Two metres of a field of view of 600 mm are 90 million."""

_UPRIGHT = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
"""Directions of a volume's axes in the patient's (x to the left, y to the back, z to the head)."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Plane:
    """Where one image lies in the patient, in mm."""

    position: tuple[float, ...]
    """Centre of the first pixel: to the left, to the back, to the head."""
    orientation: tuple[float, ...]
    """Direction of the rows (x, y, z), then of the columns."""
    spacing: tuple[float, float]
    """Between rows, between columns."""
    shape: tuple[int, int]
    """Rows and columns."""


def plane_of(header: Dataset) -> Plane:
    """Read where the image of ``header`` lies.

    Raises PixelsRefused: ``no_geometry``: it does not say so.
    """
    position, orientation, spacing = (
        tuple(each for each in numbers(header, keyword) if each is not None)
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    )
    shape = integer(header, "Rows") or 0, integer(header, "Columns") or 0
    for keyword, found, expected in (
        ("ImagePositionPatient", position, 3),
        ("ImageOrientationPatient", orientation, 6),
        ("PixelSpacing", spacing, 2),
    ):
        if len(found) != expected:
            raise refuse(RefusalCode.NO_GEOMETRY, f"{keyword}: {len(found)} of {expected} numbers")
    along, down = np.array(orientation[:3]), np.array(orientation[3:])
    lengths = np.linalg.norm(along), np.linalg.norm(down)
    if not np.allclose(lengths, 1, atol=0.01) or abs(along @ down) > 0.01:
        raise refuse(RefusalCode.NO_GEOMETRY, "ImageOrientationPatient: no right angle")
    if not 0.01 <= min(spacing) <= max(spacing) <= 10 or min(shape) < 1:
        raise refuse(RefusalCode.NO_GEOMETRY, "PixelSpacing, Rows or Columns: out of range")
    return Plane(position, orientation, (spacing[0], spacing[1]), shape)


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """The images of a series that make a volume, from one end to the other."""

    order: tuple[int, ...]
    """Position of each among the planes that were given."""
    planes: tuple[Plane, ...]
    """In this order."""
    depths: Floats
    """Along the normal of the images, mm; the first is 0, and they rise."""
    duplicates: int
    """How many were left out because another one lies at the same place."""

    def sampled(self, most: int) -> "Stack":
        """Return at most so many of the images, evenly spread, both ends among them; 0 is all."""
        if not 0 < most < len(self.order):
            return self
        wanted = np.linspace(0, self.depths[-1], most)
        nearest = np.abs(self.depths[None] - wanted[:, None]).argmin(axis=1)
        kept = np.unique(nearest).tolist()
        return Stack(
            tuple(self.order[i] for i in kept),
            tuple(self.planes[i] for i in kept),
            self.depths[kept],
            self.duplicates,
        )

    @property
    def axes(self) -> Floats:
        """Directions of the volume before it is turned upright: normal, columns, rows; (3, 3)."""
        return _axes(self.planes[0])

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Where on the grid the first pixel of each image lies, (N, 2): down and to the right."""
        positions = np.array([plane.position for plane in self.planes])
        sideways = (positions - positions[0]) @ self.axes[1:].T
        whole = np.rint(sideways / STEP).astype(np.int64)
        return np.asarray(whole - whole.min(axis=0))


def arrange(planes: Sequence[Plane]) -> Stack:
    """Put images in their order along the normal and leave out those at the same place.

    Of several at one place the first that is given counts.

    Raises PixelsRefused: ``inconsistent_series``: size, spacing or orientation differ, or they are
    no stack; ``incomplete_series``: too few, or a gap between them; ``too_large``.
    """
    if not planes:
        raise refuse(RefusalCode.INCOMPLETE_SERIES, f"0 sections, expected {FEWEST}")
    _refuse_unlike(planes)
    normal = _axes(planes[0])[0]
    depths = np.array([plane.position for plane in planes]) @ normal
    order = np.argsort(depths, kind="stable")
    kept = [int(order[0])]
    for at in order[1:].tolist():
        if depths[at] - depths[kept[-1]] > SAME_PLACE:
            kept.append(at)
        elif at < kept[-1]:
            kept[-1] = at
    stack = Stack(
        tuple(kept),
        tuple(planes[at] for at in kept),
        np.asarray(depths[kept] - depths[kept[0]]),
        len(planes) - len(kept),
    )
    if len(kept) < FEWEST:
        detail = f"{len(kept)} sections, expected {FEWEST}"
        raise refuse(RefusalCode.INCOMPLETE_SERIES, detail)
    gap = float(np.diff(stack.depths).max())
    if gap > WIDEST_GAP:
        detail = f"a gap of {gap:.0f} mm between sections, expected at most {WIDEST_GAP:.0f} mm"
        raise refuse(RefusalCode.INCOMPLETE_SERIES, detail)
    sideways = float(np.ptp(stack.offsets, axis=0).max()) * STEP
    if sideways > stack.depths[-1]:
        detail = f"they move {sideways:.0f} mm sideways and {stack.depths[-1]:.0f} mm along"
        raise refuse(RefusalCode.INCONSISTENT_SERIES, detail)
    voxels = int(np.prod(_grid(stack)))
    if voxels > MOST_VOXELS:
        detail = f"a volume of {voxels} voxels of {STEP:g} mm, expected at most {MOST_VOXELS}"
        raise refuse(RefusalCode.TOO_LARGE, detail)
    return stack


def _refuse_unlike(planes: Sequence[Plane]) -> None:
    first = planes[0]
    directions = np.array([plane.orientation for plane in planes]).reshape(-1, 2, 3)
    turned = (directions * directions[0]).sum(axis=2).min(axis=1) < SAME_DIRECTION
    spacings = np.array([plane.spacing for plane in planes])
    for what, differs in (
        ("Rows and Columns", np.array([plane.shape != first.shape for plane in planes])),
        ("PixelSpacing", ~np.isclose(spacings, spacings[0], rtol=0.01).all(axis=1)),
        ("ImageOrientationPatient", turned),
    ):
        if differs.any():
            detail = f"{what} of {int(differs.sum())} of {len(planes)} differ from the first's"
            raise refuse(RefusalCode.INCONSISTENT_SERIES, detail)


def _axes(plane: Plane) -> Floats:
    along, down = np.array(plane.orientation[:3]), np.array(plane.orientation[3:])
    return np.stack([np.cross(along, down), down, along])


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """Hounsfield units on a grid of :data:`STEP` mm, the patient upright."""

    values: NDArray[np.int16]
    """Shape (Z, Y, X): from head to feet, from front to back, from the patient's right to left."""

    @property
    def spacing(self) -> float:
        """Side of a voxel, mm."""
        return STEP


def volume(stack: Stack, images: Iterable[NDArray[Any] | None]) -> Volume:
    """Average ``images`` onto the grid, one after the other.

    One that is None is missing: what lies between its neighbours is interpolated, and the volume
    ends at the last that is there.

    Parameters
    ----------
    stack
        Where they lie.
    images
        Hounsfield units of each image of ``stack.order``, in that order, of its plane's shape.

    Raises ValueError: another number of images or another shape than the stack says, or none.
    """
    grid = _grid(stack)
    values = np.full(grid, AIR, np.int16)
    first = filled = -1
    for level, mean in _levels(stack, images, grid[1:]):
        values[level] = mean
        first = level if first < 0 else first
        for between in range(filled + 1, level) if filled >= 0 else ():
            share = (between - filled) / (level - filled)
            values[between] = np.rint(values[filled] * (1 - share) + mean * share)
        filled = level
    if first < 0:
        raise ValueError("expected an image, got none")
    return Volume(_upright(values[first : filled + 1], stack.axes))


def _grid(stack: Stack) -> tuple[int, int, int]:
    rows, columns = _reduced(stack.planes[0])
    down, across = stack.offsets.max(axis=0).tolist()
    return int(np.rint(stack.depths[-1] / STEP)) + 1, rows + down, columns + across


def _reduced(plane: Plane) -> tuple[int, int]:
    """Rows and columns of an image on the grid."""
    (down, across), (rows, columns) = plane.spacing, plane.shape
    return max(int(rows * down / STEP), 1), max(int(columns * across / STEP), 1)


def _levels(
    stack: Stack, images: Iterable[NDArray[Any] | None], shape: tuple[int, int]
) -> Iterator[tuple[int, NDArray[np.int16]]]:
    """Yield the mean of the images of each level of the grid that has any, from 0 on."""
    levels = np.rint(stack.depths / STEP).astype(int).tolist()
    total, count = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    held = False
    places = zip(levels, stack.planes, stack.offsets.tolist(), images, strict=True)
    for number, (level, plane, (down, across), image) in enumerate(places):
        if image is not None:
            small = _small(image, plane)
            here = slice(down, down + small.shape[0]), slice(across, across + small.shape[1])
            total[here] += small
            count[here] += 1
            held = True
        if held and (number + 1 == len(levels) or levels[number + 1] != level):
            mean = np.where(count > 0, total / np.maximum(count, 1), AIR)
            yield level, np.rint(mean).astype(np.int16)
            total[:], count[:] = 0, 0
            held = False


def _small(image: NDArray[Any], plane: Plane) -> NDArray[np.float32]:
    """Average one image over the voxels that it lies in, or interpolate where those are finer."""
    if image.shape != plane.shape:
        raise ValueError(f"expected an image of shape {plane.shape}, got {image.shape}")
    clipped = np.clip(image, AIR, DENSEST).astype(np.float32)
    rows, columns = _reduced(plane)
    (down, across), (most_rows, most_columns) = plane.spacing, plane.shape
    box = (0, 0, min(columns * STEP / across, most_columns), min(rows * STEP / down, most_rows))
    resized = Image.fromarray(clipped).resize((columns, rows), Image.Resampling.BILINEAR, box=box)
    return np.asarray(resized, dtype=np.float32)


def _upright(values: NDArray[np.int16], axes: Floats) -> NDArray[np.int16]:
    """Turn a volume by right angles so that its axes lie along :data:`_UPRIGHT`."""
    fit = _UPRIGHT @ axes.T
    turn = max(permutations(range(3)), key=lambda p: sum(abs(fit[i, at]) for i, at in enumerate(p)))
    turned = values.transpose(turn)
    signs = [1 if fit[i, at] >= 0 else -1 for i, at in enumerate(turn)]
    return np.ascontiguousarray(turned[tuple(slice(None, None, sign) for sign in signs)])
