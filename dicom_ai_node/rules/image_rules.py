"""H and I: the image against the header, and what the header says of the image.

Most of it is found where the pixels are decoded or the estimate is had, and only listed here.
"""

from collections.abc import Iterator

from dicom_ai_node.dicom.syntaxes import is_lossy
from dicom_ai_node.rules.reading import Reading, read_decimal
from dicom_ai_node.rules.rule import Entry, Hit, Rule, by_id, each, shown
from dicom_ai_node.types import Severity

# PS3.3 C.8.11.1: the shape that the photometric interpretation of a DX image asks for.
_SHAPES = {"MONOCHROME1": "INVERSE", "MONOCHROME2": "IDENTITY"}


def _burned_in(reading: Reading) -> Iterator[Hit]:
    if reading.header.clean("BurnedInAnnotation").upper() == "YES":
        yield Hit("BurnedInAnnotation is YES: age and sex may be written in the pixels")


def _grey_scale(reading: Reading) -> Iterator[Hit]:
    header = reading.header
    for keyword in ("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"):
        for part in header.parts(keyword):
            number = read_decimal(part)
            if number is None:
                yield Hit(f"{keyword} {shown(part)} is not a number")
            elif keyword == "RescaleSlope" and number == 0:
                yield Hit("RescaleSlope is 0: every pixel would be the same")
            elif keyword == "WindowWidth" and number <= 0:
                yield Hit(f"WindowWidth {shown(part)} is not positive")
    centers, widths = (len(header.parts(k)) for k in ("WindowCenter", "WindowWidth"))
    if centers != widths:
        yield Hit(f"WindowCenter has {centers} values and WindowWidth {widths}")


def _polarity(reading: Reading) -> Iterator[Hit]:
    photometric = reading.header.clean("PhotometricInterpretation")
    shape = reading.header.clean("PresentationLUTShape")
    expected = _SHAPES.get(photometric)
    if shape and expected and shape != expected:
        yield Hit(f"{photometric} with a PresentationLUTShape of {shown(shape)}")


def _lossy(reading: Reading) -> Iterator[Hit]:
    flag = reading.header.clean("LossyImageCompression")
    if flag == "01":
        yield Hit("LossyImageCompression is 01")
    elif is_lossy(reading.header.transfer_syntax_uid):
        yield Hit(
            f"The transfer syntax is lossy and LossyImageCompression is {shown(flag)}",
            severity=Severity.WARNING,
        )


RULES = by_id(
    Rule(
        "I1",
        Severity.WARNING,
        "image",
        "BurnedInAnnotation is YES: age and sex may be written in the pixels",
        each(_burned_in),
    ),
    Rule(
        "I2",
        Severity.WARNING,
        "image",
        "Window or rescale values that cannot be applied",
        each(_grey_scale),
    ),
    Rule(
        "I3",
        Severity.WARNING,
        "image",
        "PhotometricInterpretation contradicts PresentationLUTShape",
        each(_polarity),
    ),
    Rule(
        "I4",
        Severity.INFORMATION,
        "image",
        "The image was compressed lossily (warning: without saying so)",
        each(_lossy),
    ),
)

PIXEL_RULES = by_id(
    Entry("I5", Severity.WARNING, "image", "Pixels contradict BitsStored or HighBit"),
    Entry(
        "I6",
        Severity.WARNING,
        "image",
        "A table or window is damaged or not meant for the image, and was not applied",
    ),
)
"""What is found when the pixels are decoded, by ``dicom_ai_node.pixels``."""

ESTIMATE_RULES = by_id(
    Entry("H1", Severity.WARNING, "age", "The recorded age is improbable for the image"),
    Entry("H2", Severity.WARNING, "sex", "The recorded sex is improbable for the image"),
    Entry(
        "H3",
        Severity.INFORMATION,
        "identity",
        "Possible mix-up: age and sex, or one of them and the patient's other studies",
    ),
    Entry("H4", Severity.INFORMATION, "image", "The image could not be assessed"),
)
"""H: what is found when the estimate is held against the header, by ``dicom_ai_node.decide``."""
