"""DICOM objects around pictures: Computed Radiography for the demo's studies."""

import hashlib
from datetime import date
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
)

STUDY_DATE = date(2026, 3, 14)


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
    _set_pixels(dataset, pixels, compressed=compressed)
    return dataset


def _set_pixels(dataset: Dataset, pixels: NDArray[np.uint16], *, compressed: bool) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    if compressed:
        meta.TransferSyntaxUID = JPEG2000Lossless
        stream = imagecodecs.jpeg2k_encode(
            pixels, codecformat="j2k", reversible=True, bitspersample=int(dataset.BitsStored)
        )
        dataset.PixelData = encapsulate([bytes(stream)])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    else:
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.PixelData = pixels.astype("<u2").tobytes()
        dataset["PixelData"].VR = "OW"
    dataset.file_meta = meta
