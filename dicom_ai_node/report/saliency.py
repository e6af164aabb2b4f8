"""The saliency maps of one image as a Secondary Capture in colour (PS3.3 A.8.1).

Patient and study are copied as in every report, and nothing that was inferred enters them. The
picture itself names nobody and gives no estimate.
"""

from pydicom.dataset import Dataset

from dicom_ai_node.dicom.classes import SECONDARY_CAPTURE
from dicom_ai_node.dicom.encoding import tag_of
from dicom_ai_node.report import text
from dicom_ai_node.report.capture import set_pixels, source_image
from dicom_ai_node.report.document import Frame, common_attributes, encode_file
from dicom_ai_node.report.elements import verbatim
from dicom_ai_node.report.overlay import picture
from dicom_ai_node.types import ExplainedImage, ReportFile

_LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")


def saliency_capture(
    frame: Frame, explained: ExplainedImage, *, header: Dataset, number: int
) -> ReportFile:
    """Return the capture of one image's maps.

    ``header`` is that of the image, ``number`` its Instance Number in the series of captures.
    """
    ds = common_attributes(frame, sop_class_uid=SECONDARY_CAPTURE, kind="saliency")
    ds.SOPInstanceUID = frame.identity.saliency_instance_uid(
        explained.image.sop_instance_uid, method=frame.settings.saliency
    )
    ds.Modality = "OT"
    ds.ConversionType = "SYN"
    ds.SeriesNumber = frame.settings.series_number + 2
    ds.InstanceNumber = number
    ds.SeriesDescription = "Saliency maps, not verified"
    ds.BodyPartExamined = "CHEST"  # without it, a chest would need Laterality (type 2C)
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.PatientOrientation = ""
    ds.BurnedInAnnotation = "YES"
    ds.DerivationDescription = _derivation(explained)
    ds.SourceImageSequence = [source_image(explained.image)]
    ds.ImageComments = text.DISCLAIMER
    syntax = set_pixels(ds, picture(explained))
    # What was once compressed with loss stays so (PS3.3 C.7.6.1.1.5).
    lossy = [copy for word in _LOSSY if (copy := verbatim(header, tag_of(word))) is not None]
    content = encode_file(ds, frame.source, extra=lossy, syntax=syntax)
    return ReportFile(SECONDARY_CAPTURE, str(ds.SOPInstanceUID), content)


def _derivation(explained: ExplainedImage) -> str:
    heads = " and ".join(one.head for one in explained.maps)
    return (
        f"Reduced as a network saw it, under a map of what its answer to {heads} rests on"
        f" ({explained.maps[0].method.value}); not verified"
    )
