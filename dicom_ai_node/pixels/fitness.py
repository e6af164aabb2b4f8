"""Whether a header lets its image be a chest radiograph at all, before anything is decoded.

Only what a header is trustworthy about is asked here: what kind of object it is and what it is for.
BodyPartExamined is wrong in about one header of seven and decides nothing; the network's gate on
pixels does.
"""

from pydicom import config
from pydicom.dataset import Dataset
from pydicom.uid import UID, DigitalXRayImageStorageForProcessing

from dicom_ai_node.dicom.classes import CAPTURES, RADIOGRAPHS
from dicom_ai_node.dicom.values import sop_class_of
from dicom_ai_node.pixels.header import integer, quotable, text, texts
from dicom_ai_node.pixels.refusals import RefusalCode, refuse

MODALITIES = frozenset({"CR", "DX", "RG", "OT", ""})
"""Modalities of a projection radiograph (PS3.3 C.7.3.1.1.1); OT and '' name none and are let in."""


def refuse_unfit(header: Dataset) -> None:
    """Raise unless the image of ``header`` may be a chest radiograph; reads no pixels.

    Raises
    ------
    PixelsRefused
        ``not_an_image``, ``not_projection_radiograph``, ``localiser``, ``for_processing`` or
        ``multi_frame``.
    """
    sop_class = sop_class_of(header)
    modality = text(header, "Modality")
    if sop_class not in RADIOGRAPHS | CAPTURES:
        is_image = not sop_class or "Rows" in header
        code = RefusalCode.NOT_PROJECTION_RADIOGRAPH if is_image else RefusalCode.NOT_AN_IMAGE
        raise refuse(code, f"SOP class {_name(sop_class)}")
    if modality not in MODALITIES:
        raise refuse(RefusalCode.NOT_PROJECTION_RADIOGRAPH, f"Modality {quotable(modality)}")
    if "LOCALIZER" in texts(header, "ImageType"):
        raise refuse(RefusalCode.LOCALISER)
    if (
        sop_class == DigitalXRayImageStorageForProcessing
        or text(header, "PresentationIntentType") == "FOR PROCESSING"
    ):
        # Raw detector values are linear in dose, not in what a reader sees; which logarithm,
        # equalisation and polarity would make them a picture is the maker's secret.
        raise refuse(RefusalCode.FOR_PROCESSING)
    refuse_multi_frame(header)


def _name(sop_class: str) -> str:
    if not sop_class:
        return "absent"
    name = UID(sop_class, config.IGNORE).name
    return "unknown" if name == sop_class else name


def refuse_multi_frame(header: Dataset) -> None:
    """Raise ``multi_frame`` when NumberOfFrames is over 1 (absent, empty and 0 mean one frame)."""
    frames = integer(header, "NumberOfFrames")
    if frames is not None and frames > 1:
        raise refuse(RefusalCode.MULTI_FRAME, f"NumberOfFrames {frames}")
