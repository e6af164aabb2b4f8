"""The projections of series, as the node makes them: from folders of DICOM files, or from NIfTI.

Made once: each is kept as 16 bits in a file of its own, named by the series, its contract and size,
and made again when the file, or what lies in the folder, has changed.
A NIfTI file of a CT is in Hounsfield units, and its affine says where each voxel lies (RAS+).
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
)
from rich.console import Console
from rich.progress import track

from dicom_ai_node import pixels
from dicom_ai_node.dicom.values import text_of
from dicom_ai_node.errors import PixelsRefused, UnreadableInstance
from dicom_ai_node.pixels.contracts import PROJECTIONS
from dicom_ai_node.pixels.projections import project
from dicom_ai_node.pixels.refusals import Accepted
from dicom_ai_node.pixels.volume import Plane, Volume, arrange, volume
from training.data.ages import Aged
from training.data.cache import WHITE
from training.data.tables import DataError
from training.readers.layout import files_below

SERIES = Accepted(
    (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage), ("CT",)
)
"""What a network of projections looks at."""
NIFTI = (".nii", ".nii.gz")


def projections(
    rows: Sequence[Aged], cache: Path, size: int, sample: int
) -> tuple[NDArray[np.uint16], dict[str, str]]:
    """Projections of the series that can be had, and why the others cannot.

    Parameters
    ----------
    rows
        Series; those that are refused are left out of the first result, which keeps their order.
    cache
        Folder of what is made once.
    size, sample
        Side in pixels, and most images of a series that are read (0: all).

    Returns
    -------
    Arrays of shape (N, 2, size, size), 0 to 65535; reasons by name.
    """
    cache.mkdir(parents=True, exist_ok=True)
    found, refused = [], {}
    for row in track(rows, "series", console=Console(stderr=True)):
        changed = row.file.stat().st_mtime_ns if row.file.exists() else 0
        key = f"{PROJECTIONS} {size} {sample} {row.file.resolve()} {changed}"
        kept = cache / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npy"
        if not kept.exists():
            try:
                made = projection(row.file, size, sample)
            except (PixelsRefused, UnreadableInstance, DataError) as error:
                refused[row.name] = str(error)
                continue
            partial = kept.with_suffix(".partial.npy")
            np.save(partial, np.rint(made * WHITE).astype(np.uint16))
            partial.rename(kept)
        found.append(np.load(kept))
    none = np.empty((0, 2, size, size), np.uint16)
    return (np.stack(found) if found else none), refused


def projection(series: Path, size: int, sample: int) -> NDArray[np.float32]:
    """Return what the network sees of a series: (2, size, size), float32, in [0, 1].

    Raises
    ------
    DataError
        It is neither a folder with DICOM files of one CT series nor a NIfTI file of three axes.
    PixelsRefused
        It makes no volume, or shows no body.
    UnreadableInstance
        A file is damaged.
    """
    if series.is_dir():
        files = _of_one_series(series)
        return pixels.show_series(files, size=size, sample=sample).tensor
    if series.name.endswith(NIFTI) and series.is_file():
        return project(nifti(series, sample), size)
    raise DataError(f"{series}: expected a folder of DICOM files, or a NIfTI file")


def _of_one_series(folder: Path) -> list[tuple[Dataset, Path]]:
    """The images of a folder that a network may see, in the order of their names."""
    found = []
    for name in files_below(folder):
        try:
            header = pixels.read_header(folder / name)
            pixels.refuse_unfit(header, SERIES)
        except (UnreadableInstance, PixelsRefused):
            continue  # notes, scouts and reports lie beside the sections
        found.append((header, folder / name))
    series = {text_of(header, "SeriesInstanceUID") for header, _ in found}
    if len(series) != 1:
        raise DataError(f"{folder}: expected one series of CT, got {len(series)}")
    return found


def nifti(file: Path, sample: int = 0) -> Volume:
    """Read the volume of a NIfTI file; at most ``sample`` sections, 0 is all.

    Raises DataError: it is damaged, has no three axes, or these are not at right angles.
    """
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    try:
        image = nibabel.load(file)
        values = np.asanyarray(image.dataobj, dtype=np.float32)
    except (ImageFileError, OSError, EOFError, ValueError) as error:
        raise DataError(f"{file}: expected a NIfTI file: {error}") from error
    if values.ndim != 3:
        raise DataError(f"{file}: expected three axes, got {values.ndim}")
    stack = arrange(_planes(file, np.asarray(image.affine, np.float64), values.shape))
    stack = stack.sampled(sample)
    return volume(stack, (np.nan_to_num(values[:, :, at], nan=-1024).T for at in stack.order))


def _planes(file: Path, affine: NDArray[np.float64], shape: tuple[int, ...]) -> list[Plane]:
    """The sections along the third axis, in DICOM's directions: left and back, not right and front.

    The rows of a section are the second axis, its columns the first.
    """
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    lengths = np.linalg.norm(lps[:3, :3], axis=0)
    if not (lengths > 0).all():
        raise DataError(f"{file}: expected an affine of three directions")
    axes = lps[:3, :3] / lengths
    if np.abs(axes.T @ axes - np.eye(3)).max() > 0.01:
        raise DataError(f"{file}: expected axes at right angles")
    orientation = (*axes[:, 0].tolist(), *axes[:, 1].tolist())
    return [
        Plane(
            tuple((lps @ [0, 0, number, 1])[:3].tolist()),
            orientation,
            (float(lengths[1]), float(lengths[0])),
            (shape[1], shape[0]),
        )
        for number in range(shape[2])
    ]
