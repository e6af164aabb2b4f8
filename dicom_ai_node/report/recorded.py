"""What the source headers say, in the form in which a report states it."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from dicom_ai_node.dicom.values import sop_class_of, text_of
from dicom_ai_node.errors import InvalidReport
from dicom_ai_node.report import codes
from dicom_ai_node.types import HeaderCheck, ImageRef, ImageResult


@dataclass(frozen=True, slots=True)
class NamedImage:
    """One image that a report names as evidence."""

    image: ImageRef
    modality: str
    """'' where the file could not be read."""


def recorded_age(check: HeaderCheck) -> tuple[int, Code] | None:
    """Return PatientAge as number and unit (CID 7456), None when it is empty or unusable."""
    row = check.attributes["PatientAge"]
    match = re.fullmatch(r"(\d{3})([DWMY])", row.recorded.strip())
    if match is None or row.value is None:
        return None
    return int(match[1]), codes.AGE_UNIT[match[2]]


def ordered(sources: Sequence[Dataset]) -> list[Dataset]:
    """Return the sources in an order that does not depend on when they came.

    Raises
    ------
    InvalidReport
        When there is none, or they are of more than one study.
    """
    if not sources:
        raise InvalidReport("a report needs the header of at least one image")
    studies = {text_of(ds, "StudyInstanceUID") for ds in sources}
    if len(studies) > 1:
        raise InvalidReport(f"the sources are of {len(studies)} studies")
    return sorted(
        sources, key=lambda ds: (text_of(ds, "SeriesInstanceUID"), text_of(ds, "SOPInstanceUID"))
    )


def named_images(sources: Iterable[Dataset], results: Iterable[ImageResult]) -> list[NamedImage]:
    """Return every image that was read, and those that could not be, each once."""
    images = {}
    for ds in sources:
        ref = _ref(ds)
        images[ref.sop_instance_uid] = NamedImage(ref, text_of(ds, "Modality"))
    for one in sorted(results, key=lambda one: one.image.sop_instance_uid):
        images.setdefault(one.image.sop_instance_uid, NamedImage(one.image, ""))
    return list(images.values())


def _ref(ds: Dataset) -> ImageRef:
    return ImageRef(
        sop_class_uid=sop_class_of(ds),
        sop_instance_uid=text_of(ds, "SOPInstanceUID"),
        series_instance_uid=text_of(ds, "SeriesInstanceUID"),
    )
