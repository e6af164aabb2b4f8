"""The result, and the saliency maps of one image, as Secondary Captures (PS3.3 A.8.1).

The result is one grey image for viewers that do not show Structured Reports, compressed by run
lengths without loss: it is mostly black. Maps are in colour: the image as the network saw it, with
the map over it, side by side for each answer. What a picture shows is said below it. No name, no
identifier of the patient and, beside maps, no estimate is burned in: the image is matched by its
header, as every other image of the study.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import RLELosslessEncoder
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from dicom_ai_node.answers import (
    BundleResult,
    Category,
    ImageRef,
    SaliencyMap,
    SaliencyMethod,
    StudyResult,
)
from dicom_ai_node.dicom.body_parts import BODY_PARTS
from dicom_ai_node.dicom.classes import SECONDARY_CAPTURE
from dicom_ai_node.dicom.encoding import tag_of
from dicom_ai_node.dicom.values import text_of
from dicom_ai_node.report import codes, text
from dicom_ai_node.report.document import (
    Frame,
    coded,
    common_attributes,
    encode_file,
    referenced,
)
from dicom_ai_node.report.elements import verbatim
from dicom_ai_node.report.identity import ReportFile
from dicom_ai_node.report.modules import told_images
from dicom_ai_node.report.sheet import draw_sheet
from dicom_ai_node.report.words import listed, spoken

_LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
PANEL = 512
"""Side of one image in a picture."""
BAND = 96
"""Height of the lines below the images ..."""
LINE = 24
"""... and of one more that names what is seen, where an image has several views."""
WARNING = "RESEARCH - NOT A MEDICAL DEVICE"
NOT_FOR_DIAGNOSIS = "RESEARCH - NOT FOR DIAGNOSIS"
"""Under findings, and under answers that are reported for research."""
_BAR = 12
_MARGIN = 12
_OPACITY = 0.6
_WHITE, _GREY = (255, 255, 255), (190, 190, 190)
_METHODS = {SaliencyMethod.GRAD_CAM: "Grad-CAM", SaliencyMethod.SCORE_CAM: "Score-CAM"}
_SHOWN = {"quantity": "what raises the estimate", "findings": "what speaks for it"}
"""By the kind of the head."""
_ANCHORS = "440154 472d7b 3b528b 2c728e 21908c 27ad81 5dc863 aadc32 fde725"
"""Nine points of viridis (van der Walt and Smith 2015, CC0)."""


@dataclass(frozen=True, slots=True, eq=False)
class ExplainedImage:
    """One image with the maps of its answers."""

    image: ImageRef
    views: "Mapping[str, NDArray[np.float32]]"
    """As the network saw it: each of shape (S, S), in [0, 1], by its name, '' of one alone."""
    maps: tuple[SaliencyMap, ...]
    """At least one, each of another head."""
    further: str = ""
    """Name of the network where it is a further one: it may have seen an image that the first saw,
    too."""
    research: bool = False
    """The answers are reported for research."""

    @property
    def warning(self) -> str:
        """What stands in the picture."""
        findings = any(one.kind == "findings" for one in self.maps)
        return NOT_FOR_DIAGNOSIS if findings or self.research else WARNING


def secondary_capture(frame: Frame, result: StudyResult) -> bytes:
    """Return the Secondary Capture file of the report on ``result``."""
    ds = common_attributes(frame, sop_class_uid=SECONDARY_CAPTURE, kind="sc")
    ds.Modality = "OT"
    ds.ConversionType = "SYN"
    ds.SeriesNumber = frame.settings.series_number + 1
    ds.SeriesDescription = f"{frame.subject}, not verified"
    ds.update(shown_part(frame.source, result.parts))
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.PatientOrientation = ""
    ds.BurnedInAnnotation = "YES"
    ds.DerivationDescription = "Drawing: result of a header audit and of a network, not verified"
    told = told_images(frame.images, result.images)
    ds.SourceImageSequence = [source_image(one.image) for one in told]
    ds.ImageComments = text.DISCLAIMER
    pixels = draw_sheet(result, study_date=text_of(frame.source, "StudyDate"))
    return encode_file(ds, frame.source, syntax=set_pixels(ds, pixels))


def shown_part(header: Dataset, parts: Sequence[BundleResult]) -> Dataset:
    """Return BodyPartExamined and Laterality of a capture (PS3.3 C.7.3.1).

    The part is that of ``header`` where it is a defined term, else the one that the image answers,
    else the chest where the networks are for chests. A part that may be one of a pair needs
    Laterality, empty where it is not known (type 2C).
    """
    term = text_of(header, "BodyPartExamined")
    if term not in BODY_PARTS:
        term = _answered_part(text_of(header, "SeriesInstanceUID"), parts)
    ds = Dataset()
    if term:
        ds.BodyPartExamined = term
    if not term or BODY_PARTS[term].paired:
        side = text_of(header, "Laterality") or text_of(header, "ImageLaterality")
        ds.Laterality = side if side in ("R", "L") else ""
    return ds


def _answered_part(series_uid: str, parts: Sequence[BundleResult]) -> str:
    for part in parts:
        own = {one.series_instance_uid: one.stated for one in part.series}
        for answer in own.get(series_uid, part.given).values():
            if isinstance(answer, Category) and answer.attribute == "BodyPartExamined":
                return answer.value if answer.value in BODY_PARTS else ""
    of_chests = all(codes.finding_sites({}, part.terms) == [codes.CHEST] for part in parts)
    return "CHEST" if of_chests else ""


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


def saliency_capture(
    frame: Frame,
    explained: ExplainedImage,
    parts: Sequence[BundleResult],
    *,
    header: Dataset,
    number: int,
) -> ReportFile:
    """Return the capture of one image's maps.

    ``parts`` are those of the result that speak of the image, ``header`` is its own, ``number`` its
    Instance Number in the series of captures.
    """
    ds = common_attributes(frame, sop_class_uid=SECONDARY_CAPTURE, kind="saliency")
    ds.SOPInstanceUID = frame.identity.saliency_instance_uid(
        explained.image.sop_instance_uid,
        method=frame.settings.saliency,
        further=explained.further,
    )
    ds.Modality = "OT"
    ds.ConversionType = "SYN"
    ds.SeriesNumber = frame.settings.series_number + 2
    ds.InstanceNumber = number
    ds.SeriesDescription = "Saliency maps, not verified"
    shown = shown_part(header, parts)
    ds.update(shown)
    # Part and side are a series' own (PS3.3 C.7.3.1): captures of others are a series of theirs.
    named = (text_of(shown, "BodyPartExamined"), text_of(shown, "Laterality"))
    ds.SeriesInstanceUID = frame.identity.series_instance_uid("/".join(("saliency", *named)))
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
    heads = listed([_of(one) for one in explained.maps])
    seen = f" ({listed(list(explained.views))})" if any(explained.views) else ""
    return (
        f"Reduced as a network saw it{seen}, under a map of what its answer to {heads} rests on"
        f" ({explained.maps[0].method.value}); not verified"
    )


@cache
def colours() -> NDArray[np.uint8]:
    """Return the colour of each value 0 to 255, shape (256, 3): viridis between nine points.

    Its lightness rises evenly, also to eyes that lack the red or the green cones, and in grey.
    """
    anchors = np.array([list(bytes.fromhex(each)) for each in _ANCHORS.split()])
    places = np.linspace(0, 255, len(anchors))
    channels = [np.interp(np.arange(256), places, anchors[:, i]) for i in range(3)]
    table: NDArray[np.uint8] = np.stack(channels, axis=1).round().astype(np.uint8)
    return table


def overlay(pixels: NDArray[np.float32], values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return (S, S) ``pixels`` under the map ``values``, both in [0, 1]: shape (S, S, 3).

    The opacity of the colour rises with the map from nothing, so that what counts for nothing is
    the plain image.
    """
    grey = np.clip(pixels, 0, 1)[..., None] * 255
    colour = colours()[np.clip(values * 255, 0, 255).round().astype(np.uint8)]
    opacity = np.clip(values, 0, 1)[..., None] * _OPACITY
    mixed: NDArray[np.uint8] = (grey * (1 - opacity) + colour * opacity).round().astype(np.uint8)
    return mixed


def picture(explained: ExplainedImage) -> NDArray[np.uint8]:
    """Return the maps of one image side by side, each over each view of it.

    The shape is (PANEL + BAND, PANEL * maps * views, 3), with :data:`LINE` more rows where views
    have names.
    """
    panels = [(one, view) for one in explained.maps for view in explained.views.items()]
    line = LINE if any(explained.views) else 0
    page = Image.new("RGB", (PANEL * len(panels), PANEL + BAND + line))
    draw = ImageDraw.Draw(page)
    for number, (one, (name, pixels)) in enumerate(panels):
        left = number * PANEL
        panel = Image.fromarray(overlay(pixels, one.values))
        page.paste(panel.resize((PANEL, PANEL), Image.Resampling.BILINEAR), (left, 0))
        page.paste(Image.fromarray(_bar()), (left, PANEL))
        at = (left + _MARGIN, PANEL + _BAR + 4)
        draw.text(at, _caption(one), _GREY, ImageFont.load_default(20))
        if not one.flat:  # below the bar's yellow end
            end = (left + PANEL - _MARGIN, PANEL + _BAR + 4)
            draw.text(end, "most", _GREY, ImageFont.load_default(20), anchor="ra")
        draw.text((at[0], at[1] + LINE), name, _GREY, ImageFont.load_default(20))
    draw.text(
        (_MARGIN, PANEL + BAND + line - 40), explained.warning, _WHITE, ImageFont.load_default(24)
    )
    return np.asarray(page, dtype=np.uint8)


def _caption(one: SaliencyMap) -> str:
    shown = _SHOWN.get(one.kind, "what speaks for the answer")
    if one.flat:
        shown = "flat: nothing stands out"
    return f"{_of(one)}, {_METHODS[one.method]}: {shown}"


def _of(one: SaliencyMap) -> str:
    """Return what a map is of: the label of findings, else its head."""
    return spoken(one.label or one.head)


def _bar() -> NDArray[np.uint8]:
    """Return the scale of colours from 0 to 1, shape (_BAR, PANEL, 3)."""
    row = colours()[np.linspace(0, 255, PANEL).round().astype(np.uint8)]
    return np.repeat(row[None], _BAR, axis=0)
