"""Why an image is not shown to the network: every code, with the line that a person reads."""

from enum import StrEnum

from dicom_ai_node.errors import PixelsRefused


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
    LOCALISER = "localiser", "The image is a localiser"
    FOR_PROCESSING = "for_processing", "The image is meant FOR PROCESSING and is not displayable"
    MULTI_FRAME = "multi_frame", "The object holds more than one frame"
    NO_PIXELS = "no_pixels", "The object holds no pixels"
    TOO_LARGE = "too_large", "The image is larger than any radiograph"
    ONE_BIT = "one_bit", "The image has one bit a pixel"
    UNSUPPORTED_DEPTH = (
        "unsupported_depth",
        "The bits of a pixel are not those of a radiograph",
    )
    UNSUPPORTED_LAYOUT = "unsupported_layout", "The samples of a pixel cannot be understood as grey"
    UNSUPPORTED_SYNTAX = "unsupported_syntax", "The coding of the pixels is not supported"
    COLOUR = "colour", "The image is coloured"
    TRUNCATED = "truncated", "The pixel data end too early"
    SIZE_MISMATCH = "size_mismatch", "The compressed image and the header disagree about its size"
    UNDECODABLE = "undecodable", "The pixel data cannot be decoded"
    BLANK = "blank", "The image has the same brightness everywhere"


def refuse(code: RefusalCode, detail: str = "") -> PixelsRefused:
    """Return the error to raise for ``code``; ``detail`` holds no patient data."""
    return PixelsRefused(code.value, f"{code.text}: {detail}" if detail else code.text)
