"""H and I: the image against the header, and what the header says of the image.

Most of it is found where the pixels are decoded or the estimate is had, and only listed here.
"""

from collections.abc import Iterator, Mapping

from dicom_ai_node.dicom.syntaxes import is_lossy
from dicom_ai_node.rules.reading import Reading, read_decimal, shown
from dicom_ai_node.rules.rule import INFORMATION, WARNING, Entry, Hit, each, rule

# PS3.3 C.8.11.1: the shape that the photometric interpretation of a DX image asks for.
_SHAPES = {"MONOCHROME1": "INVERSE", "MONOCHROME2": "IDENTITY"}


@rule("I1", WARNING, "image", "BurnedInAnnotation is YES: age and sex may be written in the pixels")
@each
def _burned_in(reading: Reading) -> Iterator[Hit]:
    if reading.header.says_yes("BurnedInAnnotation"):
        yield Hit()


@rule("I2", WARNING, "image", "Window or rescale values that cannot be applied")
@each
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


@rule("I3", WARNING, "image", "PhotometricInterpretation contradicts PresentationLUTShape")
@each
def _polarity(reading: Reading) -> Iterator[Hit]:
    photometric = reading.header.clean("PhotometricInterpretation")
    shape = reading.header.clean("PresentationLUTShape")
    expected = _SHAPES.get(photometric)
    if shape and expected and shape != expected:
        yield Hit(f"{photometric} with a PresentationLUTShape of {shown(shape)}")


@rule("I4", INFORMATION, "image", "The image was compressed lossily (warning: without saying so)")
@each
def _lossy(reading: Reading) -> Iterator[Hit]:
    flag = reading.header.clean("LossyImageCompression")
    if flag == "01":
        yield Hit("LossyImageCompression is 01")
    elif is_lossy(reading.header.transfer_syntax_uid):
        yield Hit(
            f"The transfer syntax is lossy and LossyImageCompression is {shown(flag)}",
            severity=WARNING,
        )


IMAGE_RULES: Mapping[str, Entry] = {
    entry.id: entry
    for entry in (
        Entry("I5", WARNING, "image", "Pixels contradict BitsStored or HighBit"),
        Entry(
            "I6",
            WARNING,
            "image",
            "A table or window is damaged or not meant for the image, and was not applied",
        ),
        Entry("H1", WARNING, "age", "The recorded age is improbable for the image"),
        Entry("H2", WARNING, "sex", "The recorded sex is improbable for the image"),
        Entry(
            "H3",
            INFORMATION,
            "identity",
            "Possible mix-up: age and sex, or one of them and the patient's other studies"
            " (warning: the chest is not like theirs)",
        ),
        Entry("H4", INFORMATION, "image", "The image could not be assessed"),
        Entry("J6", WARNING, "body_part", "The images show another part of the body than recorded"),
    )
}
"""What needs the pixels or the estimate: it is found by ``pixels`` and ``decide``."""
