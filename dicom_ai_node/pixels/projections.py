"""The input contract ``projections-1``: a CT of the trunk as two projections of its body.

After Kerber et al. (PLoS One 18(11): e0292993, 2023):

1. the body without table, cushions and tubes: Sobel edges and a watershed (:func:`body_mask`),
2. maximum intensity projections from front to back (coronal) and from side to side (sagittal),
3. the bone window :data:`WINDOW`, from 0 to 1; what is not body is 0,
4. a square of :data:`FIELD` mm around the body's middle, of ``size`` pixels: one millimetre is the
   same in both directions and in every patient. What lies beyond is cut off.

scikit-image is imported when it is first needed. It comes with the extra ``ct``: a site of chest
radiographs does without.
"""

import importlib.util
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_ai_node.errors import ConfigError
from dicom_ai_node.pixels.contracts import PROJECTIONS
from dicom_ai_node.pixels.normalise import reduce
from dicom_ai_node.pixels.refusals import RefusalCode, refuse
from dicom_ai_node.pixels.volume import STEP, Volume

WINDOW = (-200.0, 1300.0)
"""Hounsfield units that become 0 and 1: fat is black, the densest cortical bone white."""
FIELD = 512.0
"""Side of a projection, mm."""
SHORTEST = 100.0
"""Length of body along the patient, mm, of which a projection is worth making."""

MASK_STEP = 4.0
"""Side of a voxel of the mask, mm: shells of tables are thinner, and ribs lie well within."""
CORE = 8.0
"""Tissue that lies so deep, in mm, is no shell of a table."""
THIN = 20.0
"""Half of what is too thin for a trunk, mm: tables, tubes and hands are cut off."""
TISSUE, OUTSIDE = -250.0, -650.0
"""Hounsfield units above which tissue, and below which air, foam or lung, begins."""
SMALLEST_BODY = 15.0
"""Mean area of the body's sections, cm2: of a forearm."""

Mask = NDArray[np.bool_]


def refuse_without_skimage() -> None:
    """Raise ConfigError where scikit-image is not installed."""
    if importlib.util.find_spec("skimage") is None:
        raise ConfigError(
            f"{PROJECTIONS} needs the package scikit-image: pip install 'dicom-ai-node[ct]'"
        )


def project(volume: Volume, size: int) -> NDArray[np.float32]:
    """Return coronal and sagittal projection of the body: (2, size, size), float32, in [0, 1].

    Rows run from the head to the feet; columns from the patient's right to left (coronal) and from
    front to back (sagittal).

    Raises
    ------
    PixelsRefused
        ``no_body``, or ``incomplete_series``: fewer than :data:`SHORTEST` mm of it are shown.
    ConfigError
        Where scikit-image is not installed.
    """
    mask = body_mask(volume.values, volume.spacing)
    rows, front, right = (_extent(mask, axis) for axis in range(3))
    length = (rows[1] - rows[0]) * volume.spacing
    if length < SHORTEST:
        detail = f"{length:.0f} mm of body along the patient, expected {SHORTEST:.0f} mm"
        raise refuse(RefusalCode.INCOMPLETE_SERIES, detail)
    low, high = WINDOW
    body = np.where(mask, volume.values, np.int16(low))
    planes = ((body.max(axis=1), right), (body.max(axis=2), front))
    return np.stack([_square((p - low) / (high - low), rows, across, size) for p, across in planes])


def body_mask(values: NDArray[Any], spacing: float) -> Mask:
    """Which voxels are the patient's body, lungs and bowel gas among it.

    Tissue that lies :data:`CORE` mm deep marks the inside; air, foam and lungs mark the outside.
    From these the watershed floods the Sobel edges, so that each voxel goes to the side of the edge
    that it lies on. Then lungs are filled, what is thinner than twice :data:`THIN` is cut off, and
    the largest part is the body.

    Parameters
    ----------
    values
        Hounsfield units, shape (Z, Y, X), sections of the body along the first axis. Of a single
        section Z is 1.
    spacing
        Side of a voxel in a section, mm.

    Raises
    ------
    PixelsRefused
        ``no_body``.
    ConfigError
        Where scikit-image is not installed.
    """
    refuse_without_skimage()
    from skimage.filters import sobel
    from skimage.segmentation import watershed

    factor = max(round(MASK_STEP / spacing), 1)
    factors = (1 if len(values) == 1 else factor, factor, factor)
    voxel = factor * spacing
    soft = np.clip(_block_mean(values, factors), -1000, 200)
    markers = np.zeros(soft.shape, np.int8)
    markers[soft < OUTSIDE] = _AIR
    markers[_eroded(soft > TISSUE, CORE / voxel)] = _TISSUE
    # Far from what is left open, the flood has nothing to decide.
    near = _dilated(markers == 0, 1)
    flooded = watershed(sobel(soft, axis=(1, 2)), np.where(near, markers, 0), mask=near) == _TISSUE
    whole = _filled(flooded | (markers == _TISSUE))
    parts = _labels(_eroded(whole, THIN / voxel))
    if not parts.any():
        raise refuse(RefusalCode.NO_BODY)
    body = _dilated(parts == _largest(parts), THIN / voxel) & whole
    if body.sum() / len(body) * voxel**2 / 100 < SMALLEST_BODY:
        raise refuse(RefusalCode.NO_BODY)
    for axis, times in enumerate(factors):
        body = np.repeat(body, times, axis=axis)
    return np.asarray(body[tuple(slice(side) for side in values.shape)])


_AIR, _TISSUE = 1, 2


def _block_mean(values: NDArray[Any], factors: tuple[int, ...]) -> NDArray[np.float32]:
    """Mean over blocks; the last ones repeat the edge."""
    pads = [(0, -side % times) for side, times in zip(values.shape, factors, strict=True)]
    whole = np.pad(values, pads, mode="edge")
    total: Any = np.float32(0)
    for down in range(factors[0]):
        for row in range(factors[1]):
            for column in range(factors[2]):
                part = whole[down :: factors[0], row :: factors[1], column :: factors[2]]
                total = total + part.astype(np.float32)
    return np.asarray(total / np.prod(factors), np.float32)


def _eroded(mask: Mask, radius: float) -> Mask:
    """Take off what lies within ``radius`` voxels of the edge, in each section by itself.

    What the field of view cuts off goes on beyond it.
    """
    return _depth(mask) > radius


def _dilated(mask: Mask, radius: float) -> Mask:
    """Add what lies within ``radius`` voxels, in each section by itself."""
    return _depth(~mask) <= radius


def _depth(mask: Mask) -> NDArray[np.float64]:
    """How far each voxel of ``mask`` lies from the nearest one of its section that is not in it."""
    from scipy import ndimage

    if mask.all():
        return np.full(mask.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(mask, sampling=(_APART, 1.0, 1.0)))


_APART = 1e4
"""Sections lie so many voxels apart where each is looked at by itself."""


def _labels(mask: Mask) -> NDArray[np.int64]:
    """Return the connected parts, numbered from 1 on."""
    from skimage.measure import label

    return np.asarray(label(mask, connectivity=1), np.int64)


def _largest(labels: NDArray[np.int64]) -> int:
    return int(np.bincount(labels.ravel())[1:].argmax()) + 1


def _filled(mask: Mask) -> Mask:
    """Fill the holes of each section: lungs are open to the air at a volume's ends."""
    from scipy import ndimage

    return np.stack([ndimage.binary_fill_holes(section) for section in mask])


def _extent(mask: Mask, axis: int) -> tuple[int, int]:
    """First and one past the last index along an axis that holds some of ``mask``."""
    others = tuple(other for other in range(3) if other != axis)
    found = np.flatnonzero(mask.any(axis=others))
    return int(found[0]), int(found[-1]) + 1


def _square(
    plane: NDArray[Any], rows: tuple[int, int], columns: tuple[int, int], size: int
) -> NDArray[np.float32]:
    """Cut the square of :data:`FIELD` mm around the middle of ``rows`` and ``columns``."""
    side = int(FIELD / STEP)
    square = np.zeros((side, side), np.float32)
    here, there = zip(
        *(
            _overlap(sum(extent) // 2 - side // 2, side, length)
            for extent, length in zip((rows, columns), plane.shape, strict=True)
        ),
        strict=True,
    )
    square[here] = np.clip(plane[there], 0, 1)
    return reduce(square, size) if size != side else square


def _overlap(first: int, side: int, length: int) -> tuple[slice, slice]:
    """Where ``side`` pixels from ``first`` on of a row of ``length`` lie: in the new row, in it."""
    low, high = max(first, 0), min(first + side, length)
    return slice(low - first, high - first), slice(low, high)
