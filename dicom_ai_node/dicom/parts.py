"""The elements and items of a data set as ranges of bytes."""

from typing import Final, NamedTuple

from pydicom._dicom_dict import DicomDictionary

from dicom_ai_node.dicom.encoding import Encoding

PIXELS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
"""Float, Double Float and integer Pixel Data."""
SEQUENCES: Final = frozenset(tag for tag, entry in DicomDictionary.items() if entry[0] == "SQ") | {
    *(0x00100011, 0x00100014, 0x00100015, 0x00100041, 0x00100043, 0x00100044, 0x00100046)
}
"""What is a sequence where no VR says so. The last are of 2024, and not in pydicom's dictionary."""


class Item(NamedTuple):
    """One item of a sequence as a range of bytes, without its tag and delimiter."""

    start: int
    end: int
    parts: "list[Part]"


class Part(NamedTuple):
    """One element as a range of bytes."""

    tag: int
    vr: str
    """'' in Implicit VR."""
    start: int
    value: int
    """Offset of the value."""
    end: int
    """Offset behind the element, its delimiter included."""
    undefined: bool
    """Whether its length is undefined: then a delimiter of 8 bytes ends it."""
    encoding: Encoding
    """How it is encoded; of a sequence, how its items are."""
    items: tuple[Item, ...] | None = None
    """Of a sequence its items, None of everything else."""

    @property
    def value_end(self) -> int:
        """Offset behind the value."""
        return self.end - 8 if self.undefined else self.end


def is_pixel_data(tag: int) -> bool:
    """Whether the element holds the pixels; everything before it is the header."""
    return tag in PIXELS
