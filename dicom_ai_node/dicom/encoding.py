"""How data elements are encoded (PS3.5 7.1, 7.5), and where each stands, as a range of bytes."""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.tag import BaseTag, Tag

UNDEFINED: Final = 0xFFFFFFFF
ITEM: Final = 0xFFFEE000
ITEM_END: Final = 0xFFFEE00D
SEQUENCE_END: Final = 0xFFFEE0DD

PIXELS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
"""Float, Double Float and integer Pixel Data."""
SEQUENCES: Final = frozenset(tag for tag, entry in DicomDictionary.items() if entry[0] == "SQ") | {
    *(0x00100011, 0x00100014, 0x00100015, 0x00100041, 0x00100043, 0x00100044, 0x00100046)
}
"""What is a sequence where no VR says so. The last are of 2024, and not in pydicom's dictionary."""

_LONG = "OB OD OF OL OV OW SQ SV UC UN UR UT UV"
_SHORT = "AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US"
LONG_VRS: Final = frozenset(_LONG.split())
"""VRs with a length of 32 bit in Explicit VR (PS3.5 table 7.1-1)."""
SHORT_VRS: Final = frozenset(_SHORT.split())
_PADDED_WITH_NULL = frozenset({"UI", "OB", "UN"})


@dataclass(frozen=True, slots=True)
class Encoding:
    """Implicit or Explicit VR, little or big endian."""

    implicit: bool
    little: bool

    @property
    def order(self) -> str:
        """The byte order, as ``struct`` has it."""
        return "<" if self.little else ">"

    def header(self, tag: int, vr: str, length: int) -> bytes:
        """Return the tag, VR and length of an element.

        Raises ValueError for a length that the VR cannot hold.
        """
        group, element = tag >> 16, tag & 0xFFFF
        if self.implicit:
            return struct.pack(f"{self.order}HHL", group, element, length)
        if vr in LONG_VRS:
            return struct.pack(f"{self.order}HH2s2xL", group, element, vr.encode(), length)
        if length > 0xFFFF:
            raise ValueError(f"({group:04X},{element:04X}): {length} bytes are too many for {vr}")
        return struct.pack(f"{self.order}HH2sH", group, element, vr.encode(), length)

    def element(self, tag: int, vr: str, value: bytes) -> bytes:
        """Return a whole element, its value padded to even length (PS3.5 6.2)."""
        if len(value) % 2:
            value += b"\0" if vr in _PADDED_WITH_NULL else b" "
        return self.header(tag, vr, len(value)) + value

    def texts(self, values: Mapping[str, str]) -> dict[int, bytes]:
        """Return elements of ASCII text, which every character set can hold, by tag."""
        tags = {tag_of(keyword): value for keyword, value in values.items()}
        return {
            tag: self.element(tag, dictionary_VR(tag), value.encode("ascii"))
            for tag, value in tags.items()
        }

    def pointer(self, keyword: str, tag: int) -> bytes:
        """Return an element of VR AT."""
        value = struct.pack(f"{self.order}HH", tag >> 16, tag & 0xFFFF)
        return self.element(tag_of(keyword), "AT", value)

    def item(self, elements: Mapping[int, bytes]) -> bytes:
        """Return a sequence item of whole elements, by tag, with a defined length."""
        content = b"".join(elements[tag] for tag in sorted(elements))
        return struct.pack(f"{self.order}HHL", ITEM >> 16, ITEM & 0xFFFF, len(content)) + content

    def sequence(self, tag: int, items: Iterable[bytes]) -> bytes:
        """Return a sequence of defined length from whole items."""
        return self.element(tag, "SQ", b"".join(items))

    def tag_at(self, data: bytes | memoryview, offset: int) -> int:
        """Return the tag of the element that starts at ``offset``."""
        group, element = struct.unpack_from(f"{self.order}HH", data, offset)
        return int(group << 16 | element)


IMPLICIT: Final = Encoding(implicit=True, little=True)
EXPLICIT: Final = Encoding(implicit=False, little=True)
BIG_ENDIAN: Final = Encoding(implicit=False, little=False)


class Item(NamedTuple):
    """One item of a sequence as a range of bytes, without its tag and delimiter."""

    start: int
    end: int
    parts: "list[ElementSpan]"


class ElementSpan(NamedTuple):
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


def tag_of(keyword: str) -> BaseTag:
    """Return the tag of a DICOM keyword."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"not a DICOM keyword: {keyword}")
    return Tag(tag)


def tag_name(tag: int) -> str:
    """Return a tag as (gggg,eeee)."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def described(tag: int) -> str:
    """Return a tag with its keyword, where it has one."""
    return f"{tag_name(tag)} {keyword_for_tag(tag)}".rstrip()
