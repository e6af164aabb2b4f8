"""Why an image is not shown to the network: every code, and what is asked before any decoding.

Of a header only that is asked which it is trustworthy about: what kind of object it is, what it
is for, how large it is. BodyPartExamined is wrong in about one header of seven and decides nothing;
the network's gate on pixels does.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from pydicom import config
from pydicom.dataset import Dataset
from pydicom.uid import UID, DigitalXRayImageStorageForProcessing

from dicom_ai_node.dicom.classes import CAPTURES, ENHANCED, RADIOGRAPHS, SECTIONS
from dicom_ai_node.dicom.limits import Limits
from dicom_ai_node.dicom.values import sop_class_of
from dicom_ai_node.errors import PixelsRefused
from dicom_ai_node.pixels.lenient import integer, quotable, text, texts

MOST_FRAMES = 20_000
"""Frames of an Enhanced object; each is looked at for where it lies."""

_UID = re.compile(r"[0-9.]{1,64}")


@dataclass(frozen=True, slots=True)
class Accepted:
    """Which images a network is shown, by what their headers say of their kind."""

    sop_classes: Collection[str]
    modalities: Collection[str]
    """Values of Modality, '' for none."""

    @property
    def other_kind(self) -> "RefusalCode":
        """The code for what is of no such kind."""
        shows_radiographs = not RADIOGRAPHS.isdisjoint(self.sop_classes)
        return (
            RefusalCode.NOT_PROJECTION_RADIOGRAPH if shows_radiographs else RefusalCode.OTHER_KIND
        )

    def includes(self, header: Dataset) -> bool:
        """Whether the image of ``header`` is of such a kind; it may be unfit all the same."""
        is_class = sop_class_of(header) in self.sop_classes
        return is_class and text(header, "Modality") in self.modalities


RADIOGRAPHY = Accepted(RADIOGRAPHS | CAPTURES, ("CR", "DX", "RG", "OT", ""))
"""Projection radiographs (PS3.3 C.7.3.1.1.1); OT and '' name no modality and are let in."""


class RefusalCode(StrEnum):
    """Stable codes of :class:`~dicom_ai_node.errors.PixelsRefused`; :attr:`text` explains each."""

    text: str

    def __new__(cls, code: str, text: str) -> "RefusalCode":
        """Make a member that is its code and carries its sentence."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.text = text
        return member

    NOT_AN_IMAGE = "not_an_image", "The object is not an image"
    NOT_PROJECTION_RADIOGRAPH = (
        "not_projection_radiograph",
        "The object is not a projection radiograph of the body",
    )
    OTHER_KIND = "other_kind", "The object is of another kind than the network looks at"
    LOCALISER = "localiser", "The image is a localiser"
    MONTAGE = "montage", "The image holds several sections side by side"
    REFORMAT = "reformat", "The image is a reformat or projection of other images"
    COMPUTED = "computed", "The image shows a quantity that was computed"
    SCREEN = "screen", "The image is a screen or protocol"
    FOR_PROCESSING = "for_processing", "The image is meant FOR PROCESSING and is not displayable"
    MULTI_FRAME = "multi_frame", "The object holds more than one frame"
    NO_PIXELS = "no_pixels", "The object holds no pixels"
    TOO_LARGE = "too_large", "The image is larger than any that is read"
    ONE_BIT = "one_bit", "The image has one bit a pixel"
    UNSUPPORTED_DEPTH = (
        "unsupported_depth",
        "The bits of a pixel are not those of a grey image",
    )
    UNSUPPORTED_LAYOUT = "unsupported_layout", "The samples of a pixel cannot be understood as grey"
    UNSUPPORTED_SYNTAX = "unsupported_syntax", "The coding of the pixels is not supported"
    COLOUR = "colour", "The image is coloured"
    TRUNCATED = "truncated", "The pixel data end too early"
    SIZE_MISMATCH = "size_mismatch", "The compressed image and the header disagree about its size"
    UNDECODABLE = "undecodable", "The pixel data cannot be decoded"
    BLANK = "blank", "The image has the same brightness everywhere"
    NO_SCALE = "no_scale", "The pixels are not on the scale of Hounsfield units"
    NO_GEOMETRY = "no_geometry", "The image does not say where in the body it lies"
    INCONSISTENT_SERIES = "inconsistent_series", "The images of the series are no stack of sections"
    INCOMPLETE_SERIES = "incomplete_series", "The sections of the series make no volume"
    NO_BODY = "no_body", "No body is found in the volume"


_NO_SECTION: Mapping[str, RefusalCode] = {
    **dict.fromkeys(("MOSAIC", "MONTAGE"), RefusalCode.MONTAGE),
    **dict.fromkeys(
        (
            *("REFORMATTED", "MPR", "CSA MPR", "CPR", "CURVED", "RESAMPLED"),
            *("MIP", "CSA MIP", "MINIP", "MNIP", "MAXIMUM", "MINIMUM", "PROJECTION IMAGE"),
            *("VRT", "CSA SSD", "SURFACE RENDERING", "VOLUME RENDERING"),
        ),
        RefusalCode.REFORMAT,
    ),
    **dict.fromkeys(
        ("PERFUSION", "RCBF", "RCBV", "CBF", "CBV", "MTT", "TTP", "TMAX", "FMRI", "T_MAP"),
        RefusalCode.COMPUTED,
    ),
    **dict.fromkeys(
        ("SCREEN SAVE", "SCREENSAVE", "DOSE_INFO", "CT_SOM5 PROT", "CSA REPORT", "PROTOCOL"),
        RefusalCode.SCREEN,
    ),
}
"""Values of ImageType (PS3.3 C.7.6.1.1.2, C.8.16.1 and as makers extend it) of what is no section
as it was acquired."""


def refuse(code: RefusalCode, detail: str = "") -> PixelsRefused:
    """Return the error to raise for ``code``; ``detail`` holds no patient data."""
    return PixelsRefused(code.value, f"{code.text}: {detail}" if detail else code.text)


def refuse_unfit(header: Dataset, accepted: Accepted = RADIOGRAPHY) -> None:
    """Raise unless the image of ``header`` is of the kind that is accepted; reads no pixels.

    Raises PixelsRefused: ``not_an_image``, ``not_projection_radiograph``, ``other_kind``,
    ``localiser``, ``montage``, ``reformat``, ``computed``, ``screen``, ``for_processing`` or
    ``multi_frame``.
    """
    sop_class = sop_class_of(header)
    modality = text(header, "Modality")
    if sop_class not in accepted.sop_classes:
        is_image = not sop_class or "Rows" in header
        code = accepted.other_kind if is_image else RefusalCode.NOT_AN_IMAGE
        raise refuse(code, f"SOP class {_name(sop_class)}")
    if modality not in accepted.modalities:
        raise refuse(accepted.other_kind, f"Modality {quotable(modality)}")
    kinds = texts(header, "ImageType")
    if "LOCALIZER" in kinds:
        raise refuse(RefusalCode.LOCALISER)
    if sop_class in SECTIONS:
        for kind in kinds:
            if kind in _NO_SECTION:
                raise refuse(_NO_SECTION[kind], f"ImageType {kind}")
    if (
        sop_class == DigitalXRayImageStorageForProcessing
        or text(header, "PresentationIntentType") == "FOR PROCESSING"
    ):
        # Raw detector values are linear in dose, not in what a reader sees; which logarithm,
        # equalisation and polarity would make them a picture is the maker's secret.
        raise refuse(RefusalCode.FOR_PROCESSING)
    if sop_class not in ENHANCED:
        refuse_multi_frame(header)
    elif (frames := integer(header, "NumberOfFrames") or 1) > MOST_FRAMES:
        raise refuse(RefusalCode.TOO_LARGE, f"{frames} frames, expected at most {MOST_FRAMES}")


def refuse_multi_frame(header: Dataset) -> None:
    """Raise ``multi_frame`` when NumberOfFrames is over 1 (absent, empty and 0 mean one frame)."""
    frames = integer(header, "NumberOfFrames")
    if frames is not None and frames > 1:
        raise refuse(RefusalCode.MULTI_FRAME, f"NumberOfFrames {frames}")


def _name(sop_class: str) -> str:
    if not sop_class:
        return "absent"
    name = UID(sop_class, config.IGNORE).name
    return "unknown" if name == sop_class else name


def refuse_large(
    rows: int, columns: int, *, samples: int = 1, bits: int = 8, limits: Limits, whose: str
) -> None:
    """Raise ``too_large`` when the pixels would take more than ``limits`` once decoded.

    ``whose`` size it is, such as ``header``: a codestream has another of its own.
    """
    taken = rows * columns * samples * -(-bits // 8)
    if rows * columns <= limits.pixels and taken <= limits.decoded_bytes:
        return
    key = "pixels" if rows * columns > limits.pixels else "decoded_bytes"
    size = f"{rows} x {columns} x {samples} samples of {bits} bits in its {whose}"
    raise refuse(
        RefusalCode.TOO_LARGE,
        f"{size}, {taken} bytes when decoded; limits.{key} = {getattr(limits, key)}",
    )


def refuse_long(length: int, limits: Limits) -> None:
    """Raise ``too_large`` for a codestream twice as long as the pixels of any image may be."""
    if length > 2 * limits.decoded_bytes:
        detail = f"a codestream of {length} bytes; limits.decoded_bytes = {limits.decoded_bytes}"
        raise refuse(RefusalCode.TOO_LARGE, detail)


def refuse_private(syntax: str) -> None:
    """Raise for native pixels of a transfer syntax that the standard does not have.

    Such a syntax may order the bytes of its pixels as it likes: GE's 1.2.840.113619.5.2 has a
    little endian data set and big endian pixels. Codestreams say themselves what they are.

    Raises PixelsRefused: ``unsupported_syntax``.
    """
    # IGNORE because a damaged UID is no reason for a warning here.
    if not UID(syntax, config.IGNORE).is_transfer_syntax:
        named = syntax if _UID.fullmatch(syntax) else "malformed"
        detail = f"native pixels of the private or unknown transfer syntax {named}"
        raise refuse(RefusalCode.UNSUPPORTED_SYNTAX, detail)
