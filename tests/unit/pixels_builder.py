"""Builds single-frame images and writes them in any transfer syntax."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    generate_uid,
)

Image = NDArray[Any]

NATIVE = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)


def scene(rows: int = 96, columns: int = 80, *, seed: int = 0) -> NDArray[np.float64]:
    """A smooth picture in [0, 1] without symmetry, with some full black and full white."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : 1j * rows, 0 : 1 : 1j * columns]
    field = sum(
        weight * np.sin(9 * (fx * x + fy * y) + phase)
        for weight, fx, fy, phase in rng.uniform(0.3, 1.0, (4, 4))
    )
    field = (field - field.min()) / (field.max() - field.min())
    return np.clip(1.3 * field - 0.15, 0.0, 1.0)


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
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(path, enforce_file_format=True)
    return path


def write_as(path: Path, values: Image, syntax: UID, bits: int = 0, **changes: object) -> Path:
    """Write ``values`` encoded by ``syntax``."""
    ds = radiograph(values, bits, **changes)
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = values.astype(values.dtype.newbyteorder(">")).tobytes()
    elif syntax not in NATIVE:
        set_codestream(ds, ENCODERS[syntax](values, ds.BitsStored))
    return write(path, ds, syntax)


def set_codestream(ds: Dataset, codestream: bytes, *, fragments: int = 1, bot: bool = True) -> None:
    """Put ``codestream`` into the pixel data of ``ds``, in so many fragments."""
    ds.PixelData = encapsulate([codestream], fragments_per_frame=fragments, has_bot=bot)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True


def rle(values: Image, bits: int = 0) -> bytes:
    """One RLE frame (PS3.5 annex G), in literal runs."""
    planes = values[np.newaxis] if values.ndim == 2 else np.moveaxis(values, -1, 0)
    segments = []
    for plane in planes:
        cells = np.ascontiguousarray(plane).view(np.uint8).reshape(plane.size, -1)
        for byte in reversed(range(cells.shape[1])):  # the most significant first
            raw = cells[:, byte].tobytes()
            runs = [raw[i : i + 128] for i in range(0, len(raw), 128)]
            segment = b"".join(bytes([len(run) - 1]) + run for run in runs)
            segments.append(segment + b"\0" * (len(segment) % 2))
    header = np.zeros(16, "<u4")
    header[0] = len(segments)
    header[1 : len(segments) + 1] = 64 + np.cumsum([0, *map(len, segments[:-1])])
    return header.tobytes() + b"".join(segments)


def _jpeg(values: Image, bits: int) -> bytes:
    return imagecodecs.jpeg8_encode(values, level=97, bitspersample=8 if bits <= 8 else 12)


def _jpeg_lossless(predictor: int) -> Callable[[Image, int], bytes]:
    return lambda values, bits: imagecodecs.jpeg8_encode(
        values.view(f"u{values.dtype.itemsize}"),
        lossless=True,
        predictor=predictor,
        bitspersample=8 * values.dtype.itemsize if values.dtype.kind == "i" else bits,
    )


def _jpeg2000(values: Image, bits: int, **options: object) -> bytes:
    return imagecodecs.jpeg2k_encode(values, codecformat="j2k", bitspersample=bits, **options)


ENCODERS: dict[UID, Callable[[Image, int], bytes]] = {
    RLELossless: rle,
    JPEGBaseline8Bit: _jpeg,
    JPEGExtended12Bit: _jpeg,
    JPEGLossless: _jpeg_lossless(4),
    JPEGLosslessSV1: _jpeg_lossless(1),
    JPEGLSLossless: lambda values, _: imagecodecs.jpegls_encode(
        values.view(f"u{values.dtype.itemsize}")
    ),
    JPEGLSNearLossless: lambda values, _: imagecodecs.jpegls_encode(values, level=2),
    JPEG2000Lossless: lambda values, bits: _jpeg2000(values, bits, reversible=True, level=0),
    JPEG2000: lambda values, bits: _jpeg2000(values, bits, reversible=False, level=60),
    HTJ2KLossless: lambda values, _: imagecodecs.htj2k_encode(values),
    # imagecodecs writes RPCL progression by default.
    HTJ2KLosslessRPCL: lambda values, _: imagecodecs.htj2k_encode(values),
    HTJ2K: lambda values, _: imagecodecs.htj2k_encode(values, reversible=False),
}
"""Codestream of (values, bits stored) for every encapsulated syntax."""
