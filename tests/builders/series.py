"""Series of CT and MR: classic ones of an image a section, and Enhanced ones of all in one object.

The patient is invented: an ellipse of soft tissue with lungs in its upper half and a spine, on a
table. Sections lie along the patient, the first at the head's end; ``reverse`` numbers them from
the other end.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmwrite
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
)

from dicom_ai_node.answers import ImageRef
from dicom_ai_node.demo.images import ENCODERS, radiograph, set_pixels, uid

UPRIGHT = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
"""ImageOrientationPatient of axial sections."""


def body(share: float, side: int = 64) -> NDArray[np.int16]:
    """Return Hounsfield units of the section at ``share`` of the way from head end to feet."""
    rows, columns = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    hu = np.full((side, side), -1000.0)
    hu[rows > 0.85] = 150  # the table
    hu[(rows / 0.6) ** 2 + (columns / 0.8) ** 2 < 1] = 40
    if share < 0.5:
        for middle in (-0.35, 0.35):
            hu[(rows / 0.35) ** 2 + ((columns - middle) / 0.22) ** 2 < 1] = -850
    hu[((rows - 0.4) / 0.12) ** 2 + (columns / 0.12) ** 2 < 1] = 400 + 300 * share
    return np.asarray(hu, np.int16)


def ct_series(
    count: int,
    *,
    study: str,
    series: str = "axial",
    side: int = 64,
    apart: float = 5.0,
    reverse: bool = False,
    **values: Any,
) -> list[Dataset]:
    """Return a CT series of ``count`` sections, ``apart`` mm from each other."""
    return [
        _image(number, count, side, apart, reverse, study, series, values)
        for number in range(count)
    ]


def section(number: int, *, study: str, **values: Any) -> Dataset:
    """Return one section of a CT or MR of the abdomen, of ten; no age and no sex are recorded."""
    header = {"BodyPartExamined": "ABDOMEN", "PatientAge": None, "PatientSex": ""}
    return ct_series(10, study=study, side=160, **header | values)[number]


def _image(
    number: int,
    count: int,
    side: int,
    apart: float,
    reverse: bool,
    study: str,
    series: str,
    values: dict[str, Any],
) -> Dataset:
    mr = values.get("Modality") == "MR"
    pixels = (body(number / max(1, count - 1), side) + 1024).astype(np.uint16)
    defaults: dict[str, Any] = {
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "SOPClassUID": MRImageStorage if mr else CTImageStorage,
        "SOPInstanceUID": uid("series", study, series, number),
        "SeriesInstanceUID": uid("series", study, series),
        "Modality": "CT",
        "InstanceNumber": count - number if reverse else number + 1,
        "ImagePositionPatient": [-200.0, -200.0, -apart * number],
        "ImageOrientationPatient": UPRIGHT,
        "FrameOfReferenceUID": uid("frame", study),
        "PixelSpacing": [400.0 / side, 400.0 / side],
        "SliceThickness": apart,
        "RescaleIntercept": None if mr else -1024,
        "RescaleSlope": None if mr else 1,
        "ViewPosition": None,
        "BodyPartExamined": None,
        "PatientAge": "050Y",
        "PatientSex": "F",
    }
    return radiograph(pixels, study=study, number=number, **defaults | values)


def enhanced(
    count: int,
    *,
    study: str,
    syntax: UID = ExplicitVRLittleEndian,
    table: str = "basic",
    fragments: int = 1,
    side: int = 64,
    shuffled: Sequence[int] | None = None,
    **values: Any,
) -> Dataset:
    """Return an Enhanced CT (with ``Modality`` MR an Enhanced MR) of ``count`` frames.

    ``table`` is the offset table of encapsulated frames: ``basic``, ``extended`` or ``none``.
    ``shuffled`` is the order in which the sections are stored, else from the head on.
    """
    order = list(shuffled or range(count))
    frames = np.stack(
        [(body(at / max(1, count - 1), side) + 1024).astype(np.uint16) for at in order]
    )
    mr = values.get("Modality") == "MR"
    defaults: dict[str, Any] = {
        "ImageType": ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
        "SOPClassUID": EnhancedMRImageStorage if mr else EnhancedCTImageStorage,
        "SOPInstanceUID": uid("enhanced", study),
        "SeriesInstanceUID": uid("enhanced", study, "series"),
        "Modality": "CT",
        "NumberOfFrames": count,
        "ViewPosition": None,
        "BodyPartExamined": None,
        "PatientAge": "050Y",
        "PatientSex": "F",
    }
    ds = radiograph(frames[0], study=study, **defaults | values)
    shared = Dataset()
    shared.PlaneOrientationSequence = [item(ImageOrientationPatient=UPRIGHT)]
    shared.PixelMeasuresSequence = [
        item(PixelSpacing=[400.0 / side, 400.0 / side], SliceThickness=5.0)
    ]
    if not mr:
        shared.PixelValueTransformationSequence = [
            item(RescaleIntercept=-1024, RescaleSlope=1, RescaleType="HU")
        ]
    ds.SharedFunctionalGroupsSequence = [shared]
    ds.PerFrameFunctionalGroupsSequence = [
        item(PlanePositionSequence=[item(ImagePositionPatient=[-200.0, -200.0, -5.0 * at])])
        for at in order
    ]
    if syntax in ENCODERS:
        streams = [ENCODERS[syntax](frame, 12) for frame in frames]
        if table == "extended":
            made = encapsulate_extended(streams)
            ds.PixelData, ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = made
        else:
            ds.PixelData = encapsulate(
                streams, fragments_per_frame=fragments, has_bot=table == "basic"
            )
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = syntax
    else:
        set_pixels(ds, frames, syntax)
    return ds


def item(**values: Any) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def filed(folder: Path, images: Sequence[Dataset]) -> list[tuple[ImageRef, Path]]:
    """Write ``images`` into ``folder``, as a study's files are handed to the pipeline."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for image in images:
        path = folder / f"{image.SOPInstanceUID}.dcm"
        dcmwrite(path, image, enforce_file_format=True)
        names = (image.SOPClassUID, image.SOPInstanceUID, image.SeriesInstanceUID)
        files.append((ImageRef(*map(str, names)), path))
    return files
