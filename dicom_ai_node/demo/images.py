"""Synthetic DICOM objects around pictures, and pixels in every transfer syntax that is accepted."""

import hashlib
from collections.abc import Callable
from datetime import date
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
    ComputedRadiographyImageStorage,
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from dicom_ai_node.dicom.syntaxes import NATIVE_SYNTAXES

STUDY_DATE = date(2026, 3, 14)
Image = NDArray[Any]
"""Integers of shape (rows, columns), or (rows, columns, 3)."""


def uid(*parts: object) -> str:
    """Return a UID that depends on ``parts`` alone (PS3.5 B.2: 2.25 and a 128-bit integer)."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def radiograph(
    pixels: NDArray[np.uint16],
    *,
    study: str,
    number: int = 1,
    bits: int = 12,
    compressed: bool = False,
    **values: Any,
) -> Dataset:
    """Return a CR image (PS3.3 A.2) of ``study`` around grey ``pixels``, MONOCHROME2.

    ``values`` are further attributes by keyword; None leaves a default out.
    """
    dataset = Dataset()
    study_uid = uid("demo", study)
    header: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 192",
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "SOPClassUID": ComputedRadiographyImageStorage,
        "SOPInstanceUID": uid("demo", study, number),
        "StudyDate": STUDY_DATE.strftime("%Y%m%d"),
        "StudyTime": "101500",
        "AccessionNumber": f"DEMO{study[:8].upper()}",
        "Modality": "CR",
        "Manufacturer": "dicom_ai_node",
        "ReferringPhysicianName": "",
        "StudyDescription": "Synthetic image, not a patient",
        "SeriesDescription": "Synthetic",
        "PatientName": f"Demo^{study}",
        "PatientID": f"DEMO-{study}",
        "PatientBirthDate": "",
        "PatientSex": "",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "StudyInstanceUID": study_uid,
        "SeriesInstanceUID": uid("demo", study, "series"),
        "StudyID": "1",
        "SeriesNumber": 1,
        "InstanceNumber": number,
        "PatientOrientation": "",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": 16,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
    }
    for keyword, value in (header | values).items():
        if value is not None:
            setattr(dataset, keyword, value)
    meta = dataset.file_meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    syntax = JPEG2000Lossless if compressed else ExplicitVRLittleEndian
    set_pixels(dataset, pixels.astype(np.uint16), syntax)
    return dataset


def section(
    values: NDArray[np.int16],
    *,
    study: str,
    number: int = 1,
    spacing: tuple[float, float] = (1.5, 5.0),
    **attributes: Any,
) -> Dataset:
    """Return an axial CT image (PS3.3 A.3) around Hounsfield units of shape (rows, columns).

    ``spacing`` is that of pixels and of sections, mm; ``number`` counts from the head downward.
    ``attributes`` are as of :func:`radiograph`.
    """
    pixel, between = spacing
    across = -pixel * values.shape[1] / 2
    plane: dict[str, Any] = {
        "SOPClassUID": CTImageStorage,
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "Modality": "CT",
        "ViewPosition": None,
        "FrameOfReferenceUID": uid("demo", study, "frame"),
        "PositionReferenceIndicator": "",
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [across, across, -between * number],
        "PixelSpacing": [pixel, pixel],
        "SliceThickness": between,
        "PatientOrientation": None,
        "PatientPosition": "HFS",
        "AcquisitionNumber": 1,
        "KVP": 120,
        "RescaleIntercept": -1024,
        "RescaleSlope": 1,
        "RescaleType": "HU",
    }
    stored = np.clip(values + 1024, 0, 4095).astype(np.uint16)
    return radiograph(stored, study=study, number=number, **plane | attributes)


def set_pixels(ds: Dataset, values: Image, syntax: UID) -> None:
    """Put ``values`` into ``ds``, whose header describes them, encoded by ``syntax``.

    Raises KeyError: ``syntax`` is neither of ``NATIVE_SYNTAXES`` nor of :data:`ENCODERS`.
    """
    if syntax in NATIVE_SYNTAXES:
        big = syntax == ExplicitVRBigEndian
        stored = values.dtype.newbyteorder(">") if big else values.dtype.newbyteorder("<")
        ds.PixelData = values.astype(stored).tobytes()
        ds["PixelData"].VR = "OW" if ds.BitsAllocated == 16 else "OB"
    else:
        set_codestream(ds, ENCODERS[syntax](values, int(ds.BitsStored)))
    if not hasattr(ds, "file_meta"):
        ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax


def set_codestream(ds: Dataset, codestream: bytes, *, fragments: int = 1, bot: bool = True) -> None:
    """Put ``codestream`` into the pixel data of ``ds``, in so many fragments.

    ``bot``: with a basic offset table (PS3.5 A.4).
    """
    ds.PixelData = encapsulate([codestream], fragments_per_frame=fragments, has_bot=bot)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True


def rle(values: Image, bits: int = 0) -> bytes:
    """One RLE frame (PS3.5 annex G), in literal runs; ``bits`` makes no difference."""
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
    return bytes(imagecodecs.jpeg8_encode(values, level=97, bitspersample=8 if bits <= 8 else 12))


def _jpeg_lossless(predictor: int) -> Callable[[Image, int], bytes]:
    return lambda values, bits: bytes(
        imagecodecs.jpeg8_encode(
            values.view(f"u{values.dtype.itemsize}"),
            lossless=True,
            predictor=predictor,
            bitspersample=8 * values.dtype.itemsize if values.dtype.kind == "i" else bits,
        )
    )


def _jpeg2000(values: Image, bits: int, *, reversible: bool, level: int) -> bytes:
    return bytes(
        imagecodecs.jpeg2k_encode(
            values, codecformat="j2k", bitspersample=bits, reversible=reversible, level=level
        )
    )


def _htj2k(values: Image, *, reversible: bool = True) -> bytes:
    return bytes(imagecodecs.htj2k_encode(values, reversible=reversible))


ENCODERS: dict[UID, Callable[[Image, int], bytes]] = {
    RLELossless: rle,
    JPEGBaseline8Bit: _jpeg,
    JPEGExtended12Bit: _jpeg,
    JPEGLossless: _jpeg_lossless(4),
    JPEGLosslessSV1: _jpeg_lossless(1),
    JPEGLSLossless: lambda values, _: bytes(
        imagecodecs.jpegls_encode(values.view(f"u{values.dtype.itemsize}"))
    ),
    JPEGLSNearLossless: lambda values, _: bytes(imagecodecs.jpegls_encode(values, level=2)),
    JPEG2000Lossless: lambda values, bits: _jpeg2000(values, bits, reversible=True, level=0),
    JPEG2000: lambda values, bits: _jpeg2000(values, bits, reversible=False, level=60),
    HTJ2KLossless: lambda values, _: _htj2k(values),
    # imagecodecs writes RPCL progression by default.
    HTJ2KLosslessRPCL: lambda values, _: _htj2k(values),
    HTJ2K: lambda values, _: _htj2k(values, reversible=False),
}
"""Codestream of (values, bits stored) for every encapsulated syntax."""
