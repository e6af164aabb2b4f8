"""The result as a Secondary Capture, for viewers that do not show Structured Reports.

One grey image of text (PS3.3 A.8.1). No name and no identifier of the patient is burned in: the
image is matched by its header, as every other image of the study.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset

from dicom_ai_node.dicom.values import text_of
from dicom_ai_node.report import codes, text
from dicom_ai_node.report.document import (
    Frame,
    coded,
    common_attributes,
    encode_file,
    referenced,
)
from dicom_ai_node.report.identity import SC_CLASS
from dicom_ai_node.types import HeaderAudit, ImageRef, Outcome, StudyResult

COLUMNS, ROWS = 1024, 640
_MARGIN, _LINE, _GAP = 32, 30, 14
_WRAP = 62
"""Characters of a line."""
_WHITE, _GREY = 255, 170


def secondary_capture(frame: Frame, result: StudyResult) -> bytes:
    """Return the Secondary Capture file of the report on ``result``."""
    ds = common_attributes(frame, sop_class_uid=SC_CLASS, kind="sc")
    ds.Modality = "OT"
    ds.ConversionType = "SYN"
    ds.SeriesNumber = frame.settings.series_number + 1
    ds.SeriesDescription = "Age and sex audit, not verified"
    ds.BodyPartExamined = "CHEST"  # without it, a chest would need Laterality (type 2C)
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.PatientOrientation = ""
    ds.BurnedInAnnotation = "YES"
    ds.DerivationDescription = "Text: result of a header audit and of a network, not verified"
    ds.SourceImageSequence = [source_image(one.image) for one in frame.images]
    ds.ImageComments = text.DISCLAIMER
    set_pixels(ds, render(lines(result, study_date=text_of(frame.source, "StudyDate"))))
    return encode_file(ds, frame.source)


def lines(result: StudyResult, *, study_date: str) -> list[str]:
    """Return the lines of the image, headings marked by a leading '#'."""
    page = ["#RESEARCH - NOT A MEDICAL DEVICE", "#Inferred by a program, not verified", ""]
    page.append(f"Study {text.plain(study_date) or 'of unknown date'}")
    page.append(f"Study UID ...{result.study_instance_uid[-12:]}")
    page += ["", "#Inferred from the image", *_inferred(result), "", "#Recorded in the header"]
    page.append(text.recorded_line(result.audit))
    return page + _status_lines(result.audit)


def render(page: list[str]) -> NDArray[np.uint8]:
    """Return the lines as a grey image, shape (ROWS, COLUMNS); what does not fit is cut off."""
    image = Image.new("L", (COLUMNS, ROWS), 0)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(24)
    y = _MARGIN
    for line in page:
        shade = _WHITE if line.startswith("#") else _GREY
        for part in _wrapped(line.removeprefix("#")):
            last = y + 2 * _LINE > ROWS - _MARGIN
            draw.text((_MARGIN, y), "[continued in the report]" if last else part, shade, font)
            if last:
                return np.asarray(image, dtype=np.uint8)
            y += _LINE if part else _GAP
    return np.asarray(image, dtype=np.uint8)


def source_image(image: ImageRef) -> Dataset:
    """Return an item of Source Image Sequence (PS3.3 C.7.6.1.1.4)."""
    item = referenced(image)
    item.PurposeOfReferenceCodeSequence = [coded(codes.SOURCE_IMAGE)]
    return item


def set_pixels(ds: Dataset, pixels: NDArray[np.uint8]) -> None:
    """Store a grey (rows, columns) or colour (rows, columns, 3) image (PS3.3 C.7.6.3)."""
    colour = pixels.ndim == 3
    ds.SamplesPerPixel = 3 if colour else 1
    ds.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        ds.PlanarConfiguration = 0
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelRepresentation = 0
    ds.add_new("PixelData", "OW", pixels.tobytes())


def _inferred(result: StudyResult) -> list[str]:
    if result.outcome is not Outcome.ESTIMATED:
        return [f"No estimate: {text.reason_line(result.reason)}"]
    sex = text.reported_sex(result)
    model = f"{result.model.name} {result.model.version}" if result.model else "not named"
    return [
        f"Network: {text.plain(model)}",
        f"Age: {text.age_line(result.age)}" if result.age else "Age: not stated",
        f"Sex: {text.sex_line(sex)}" if sex else "Sex: not stated",
    ]


def _status_lines(audit: HeaderAudit) -> list[str]:
    page = [
        f"Age: {codes.STATUS[audit.age]}",
        f"Sex: {codes.STATUS[audit.sex]}",
    ]
    if text.differs(audit):
        page.append(text.DIFFERS)
    return [*page, f"Rules: {text.plain(', '.join(audit.rules)) or 'none fired'}"]


def _wrapped(line: str) -> list[str]:
    words, rows = line.split(" "), [""]
    for word in words:
        if rows[-1] and len(rows[-1]) + 1 + len(word) > _WRAP:
            rows.append("")
        rows[-1] = f"{rows[-1]} {word}".strip()
    return rows
