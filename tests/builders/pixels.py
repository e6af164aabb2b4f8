"""Builds single-frame images and writes them in any transfer syntax."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)

from dicom_ai_node.demo.images import ENCODERS, Image, rle, set_codestream, set_pixels

__all__ = [
    "ENCODERS",
    "UID",
    "quantised",
    "radiograph",
    "rle",
    "scene",
    "set_codestream",
    "set_pixels",
    "write",
    "write_as",
]


def scene(rows: int = 96, columns: int = 80, *, seed: int = 0) -> NDArray[np.float64]:
    """A smooth picture in [0, 1] without symmetry, with some full black and full white."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : 1j * rows, 0 : 1 : 1j * columns]
    field = sum(
        weight * np.sin(9 * (fx * x + fy * y) + phase)
        for weight, fx, fy, phase in rng.uniform(0.3, 1.0, (4, 4))
    )
    field = (field - field.min()) / (field.max() - field.min())
    clipped: NDArray[np.float64] = np.clip(1.3 * field - 0.15, 0.0, 1.0)
    return clipped


def quantised(picture: NDArray[np.float64], bits: int) -> Image:
    """``picture`` in whole numbers of ``bits`` bits."""
    return np.round(picture * ((1 << bits) - 1)).astype(np.uint8 if bits <= 8 else np.uint16)


def radiograph(values: Image, bits: int = 0, **changes: object) -> Dataset:
    """A DX image of ``values``, shape (rows, columns) or (rows, columns, 3); None removes."""
    allocated = 8 * values.dtype.itemsize
    stored = bits or allocated
    ds = Dataset()
    ds.SOPClassUID = DigitalXRayImageStorageForPresentation
    ds.SOPInstanceUID = generate_uid()
    ds.Modality = "DX"
    ds.Rows, ds.Columns = values.shape[:2]
    ds.SamplesPerPixel = 1 if values.ndim == 2 else values.shape[2]
    ds.PhotometricInterpretation = "MONOCHROME2" if values.ndim == 2 else "RGB"
    if values.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = allocated, stored, stored - 1
    ds.PixelRepresentation = int(values.dtype.kind == "i")
    ds.PixelData = values.tobytes()
    ds["PixelData"].VR = "OW" if allocated == 16 else "OB"
    for keyword, value in changes.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def write(path: Path, ds: Dataset, syntax: UID = ExplicitVRLittleEndian) -> Path:
    """Write ``ds``, whose pixel data are in the form of ``syntax`` already."""
    if not hasattr(ds, "file_meta"):
        ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(path, enforce_file_format=True)
    return path


def write_as(path: Path, values: Image, syntax: UID, bits: int = 0, **changes: object) -> Path:
    """Write ``values`` encoded by ``syntax``."""
    ds = radiograph(values, bits, **changes)
    set_pixels(ds, values, syntax)
    return write(path, ds, syntax)
