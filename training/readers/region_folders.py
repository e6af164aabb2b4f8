"""A site's own slices of CT and MR, in folders that are named by what they show.

``<region>/<patient>/<series>/*.dcm`` below a folder, the region a defined term of BodyPartExamined
(PS3.16 table L-1), or several with a blank between. ``NONE`` holds what is no slice: scouts,
montages, screens. Patients are told apart by their folder, and named by a pseudonym.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from dicom_ai_node.dicom.body_parts import BODY_PARTS
from training.data.regions import Slice
from training.data.tables import DataError
from training.readers.layout import Tally, pseudonym

NONE = "NONE"
TAGS = [
    "Modality",
    "Manufacturer",
    "PatientAge",
    "PatientSex",
    "ImageOrientationPatient",
    "ConvolutionKernel",
    "ContrastBolusAgent",
    "ProtocolName",
    "BodyPartExamined",
]


def read(root: Path, folder: Path, tally: Tally) -> Iterator[Slice]:
    """Every file of the layout below ``root``, named from ``folder``.

    Raises DataError: a folder has another name than a region.
    """
    for region in sorted(path for path in root.iterdir() if path.is_dir()):
        terms = frozenset(region.name.split()) - {NONE}
        for term in terms:
            if term not in BODY_PARTS:
                raise DataError(f"{region}: expected a defined term of BodyPartExamined, or {NONE}")
        for file in sorted(region.glob("*/*/*.dcm")):
            found = _slice(file, terms, region, folder)
            if found is None:
                tally["not DICOM"] += 1
            else:
                yield found


def _slice(file: Path, terms: frozenset[str], region: Path, folder: Path) -> Slice | None:
    try:
        header = pydicom.dcmread(file, specific_tags=TAGS, stop_before_pixels=True)
    except InvalidDicomError:
        return None
    years = str(header.get("PatientAge", ""))
    stated = str(header.get("BodyPartExamined", ""))
    return Slice(
        name=os.path.relpath(file, folder),
        file=file,
        terms=terms,
        modality=str(header.get("Modality", "")),
        source=region.parent.name,
        patient=pseudonym(file.relative_to(region).parts[0]),
        age=str(int(years[:3])) if years.endswith("Y") and years[:3].isdigit() else "",
        sex=str(header.get("PatientSex", "")),
        plane=plane([float(x) for x in header.get("ImageOrientationPatient") or []]),
        protocol=str(header.get("ProtocolName", "")),
        manufacturer=str(header.get("Manufacturer", "")),
        contrast="1" if header.get("ContrastBolusAgent") else "0",
        kernel=str(header.get("ConvolutionKernel", "")),
        stated=stated if stated in BODY_PARTS else "",
        licence="the site's own",
    )


def plane(orientation: list[float]) -> str:
    """Axial, coronal or sagittal by the normal of a slice (PS3.3 C.7.6.2.1.1); '' if unknown."""
    if len(orientation) != 6:
        return ""
    (rx, ry, rz), (cx, cy, cz) = orientation[:3], orientation[3:]
    normal = [abs(ry * cz - rz * cy), abs(rz * cx - rx * cz), abs(rx * cy - ry * cx)]
    return ("sagittal", "coronal", "axial")[normal.index(max(normal))]
