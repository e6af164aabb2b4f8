"""The result as a Secondary Capture, for viewers that do not show Structured Reports.

One grey image (PS3.3 A.8.1), compressed by run lengths without loss: it is mostly black. No name
and no identifier of the patient is burned in: the image is matched by its header, as every other
image of the study.
"""

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import RLELosslessEncoder
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from dicom_ai_node.dicom.classes import SECONDARY_CAPTURE
from dicom_ai_node.dicom.values import text_of
from dicom_ai_node.report import codes, text
from dicom_ai_node.report.document import (
    Frame,
    coded,
    common_attributes,
    encode_file,
    referenced,
)
from dicom_ai_node.report.sheet import draw_sheet
from dicom_ai_node.types import ImageRef, StudyResult


def secondary_capture(frame: Frame, result: StudyResult) -> bytes:
    """Return the Secondary Capture file of the report on ``result``."""
    ds = common_attributes(frame, sop_class_uid=SECONDARY_CAPTURE, kind="sc")
    ds.Modality = "OT"
    ds.ConversionType = "SYN"
    ds.SeriesNumber = frame.settings.series_number + 1
    ds.SeriesDescription = "Age and sex audit, not verified"
    ds.BodyPartExamined = "CHEST"  # without it, a chest would need Laterality (type 2C)
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.PatientOrientation = ""
    ds.BurnedInAnnotation = "YES"
    ds.DerivationDescription = "Drawing: result of a header audit and of a network, not verified"
    ds.SourceImageSequence = [source_image(one.image) for one in frame.images]
    ds.ImageComments = text.DISCLAIMER
    pixels = draw_sheet(result, study_date=text_of(frame.source, "StudyDate"))
    return encode_file(ds, frame.source, syntax=set_pixels(ds, pixels))


def source_image(image: ImageRef) -> Dataset:
    """Return an item of Source Image Sequence (PS3.3 C.7.6.1.1.4)."""
    item = referenced(image)
    item.PurposeOfReferenceCodeSequence = [coded(codes.SOURCE_IMAGE)]
    return item


def set_pixels(ds: Dataset, pixels: NDArray[np.uint8]) -> str:
    """Store a grey (rows, columns) or colour (rows, columns, 3) image (PS3.3 C.7.6.3).

    Returns the transfer syntax that they are stored in: RLE Lossless where that is smaller, as it
    is for drawings and hardly ever for radiographs.
    """
    colour = pixels.ndim == 3
    ds.SamplesPerPixel = 3 if colour else 1
    ds.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        ds.PlanarConfiguration = 0
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelRepresentation = 0
    native = pixels.tobytes()
    frame = RLELosslessEncoder.encode(
        native,
        rows=ds.Rows,
        columns=ds.Columns,
        number_of_frames=1,
        samples_per_pixel=ds.SamplesPerPixel,
        bits_allocated=8,
        bits_stored=8,
        pixel_representation=0,
        photometric_interpretation=ds.PhotometricInterpretation,
        planar_configuration=0,
        transfer_syntax_uid=RLELossless,
    )
    if len(frame) >= len(native):
        ds.add_new("PixelData", "OW", native)
        return ExplicitVRLittleEndian
    ds.add_new("PixelData", "OB", encapsulate([frame]))
    ds["PixelData"].is_undefined_length = True
    return RLELossless
