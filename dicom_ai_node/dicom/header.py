"""The header of a DICOM file or data set: everything before its pixel data, followed and bounded.

A header ends at the pixel data, or where the data set does. An image that ends before it names its
series, or within its Image Pixel module (PS3.3 C.7.6.3), was cut off between two elements. One that
was freed of its pixels, or of that module as a whole, is a header all the same.
"""

import mmap
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from pydicom.charset import python_encoding
from pydicom.dataelem import DataElement, RawDataElement, empty_value_for_VR
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.tag import BaseTag

from dicom_ai_node.dicom.classes import IMAGES
from dicom_ai_node.dicom.encoding import (
    BIG_ENDIAN,
    EXPLICIT,
    IMPLICIT,
    UNDEFINED,
    ElementSpan,
    Encoding,
    is_pixel_data,
)
from dicom_ai_node.dicom.limits import DEFAULT, Limits
from dicom_ai_node.dicom.odd import first_element_fits
from dicom_ai_node.dicom.part10 import PREFIX_END, is_part10
from dicom_ai_node.dicom.syntaxes import encoding_of, is_deflated
from dicom_ai_node.dicom.uids import unpadded
from dicom_ai_node.dicom.walk import ends_at, items_of, walk
from dicom_ai_node.errors import UnreadableInstance

_SOP_CLASS: Final = 0x00080016
_CHARACTER_SET: Final = 0x00080005
_MEDIA_SOP_CLASS: Final = 0x00020002
_TRANSFER_SYNTAX: Final = 0x00020010
_SERIES: Final = 0x0020000E
_SAMPLES_PER_PIXEL: Final = 0x00280002
_PIXEL_REPRESENTATION: Final = 0x00280103
"""First and last attribute of group 0028 that each Image Pixel module has."""
_FIRST_INFLATED: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class RawHeader:
    """The elements of a header, found and not converted."""

    data: bytes | memoryview
    """The file; of a deflated data set, as much as was inflated to read its header."""
    encoding: Encoding
    """How the data set is really encoded, whatever its transfer syntax says."""
    parts: Sequence[ElementSpan]
    end: int
    """Offset of the pixel data element in :attr:`data`; of its end when there is none."""

    def value(self, tag: int) -> bytes | None:
        """Return the value of an element as it stands, None where there is none."""
        # Of two elements with one tag the last counts, as it does to pydicom.
        for part in reversed(self.parts):
            if part.tag == tag:
                return bytes(self.data[part.value : part.value_end])
        return None

    def uid(self, tag: int) -> str:
        """Return a UID without its padding, '' where there is none; it may be malformed."""
        return unpadded((self.value(tag) or b"").decode("ascii", "replace"))

    def dataset(self) -> Dataset:
        """Return the header as pydicom has it, elements still raw."""
        return _dataset(self.data, self.parts, self.encoding, "iso8859")


@dataclass(frozen=True, slots=True)
class FileHeader:
    """The header of a file, with its File Meta Information."""

    meta: RawHeader | None
    """None where the file has none."""
    header: RawHeader
    deflated: memoryview | None
    """The deflated data set, None of all others."""

    @property
    def transfer_syntax_uid(self) -> str:
        """What the File Meta Information says, '' where it does not."""
        return self.meta.uid(_TRANSFER_SYNTAX) if self.meta else ""

    def dataset(self) -> Dataset:
        """Return the header as pydicom has it, ``file_meta`` included."""
        found = self.header.dataset()
        found.file_meta = FileMetaDataset(self.meta.dataset() if self.meta else Dataset())
        return found


def mapped(path: Path) -> memoryview:
    """Return the content of a file without reading it.

    Raises UnreadableInstance: it is empty; OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        if not file.read(1):  # and cannot be mapped
            raise UnreadableInstance("expected a DICOM data set, got an empty file")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def header_of_file(data: memoryview, limits: Limits) -> FileHeader:
    """Follow the header of a PS3.10 file, or of a bare data set.

    Raises UnreadableInstance: these are no DICOM data, or the header is cut off, cannot be
    followed, or goes beyond ``limits``.
    """
    meta = file_meta(data, limits)
    if meta is None and _encoding(data, 0, None) is None:
        raise UnreadableInstance("expected a DICOM file, got none of its marks")
    syntax = meta.uid(_TRANSFER_SYNTAX) if meta else ""
    start = meta.end if meta else 0
    sop_class = meta.uid(_MEDIA_SOP_CLASS) if meta else ""
    header = header_at(data, start, syntax, limits, sop_class=sop_class)
    return FileHeader(meta, header, data[start:] if is_deflated(syntax) else None)


def header_at(
    data: memoryview, start: int, transfer_syntax_uid: str, limits: Limits, *, sop_class: str = ""
) -> RawHeader:
    """Follow the header of the data set at ``start``; errors of :func:`header_of_file`.

    The transfer syntax says how it should be encoded, '' says nothing. The first element may say
    otherwise, and is right. ``sop_class`` counts where the data set names none.
    """
    if is_deflated(transfer_syntax_uid):
        return _deflated_header(data[start:], limits, sop_class)
    stated = encoding_of(transfer_syntax_uid) if transfer_syntax_uid else None
    return _header(data, start, stated, limits, sop_class)


def _header(
    data: bytes | memoryview, start: int, stated: Encoding | None, limits: Limits, sop_class: str
) -> RawHeader:
    encoding = _encoding(data, start, stated) or stated or EXPLICIT
    parts, end = walk(data, encoding, start=start, stop=is_pixel_data, limits=limits)
    header = RawHeader(data, encoding, parts, end)
    if _is_cut_image(header, sop_class):
        raise ends_at(parts[-1].tag, behind=True)
    return header


def _deflated_header(data: memoryview, limits: Limits, sop_class: str) -> RawHeader:
    """Follow the header of a deflated data set (PS3.5 A.5), and inflate little more than it."""
    for size in (_FIRST_INFLATED, limits.header_bytes + _FIRST_INFLATED):
        inflated = inflate(data, size)
        try:
            found = _header(inflated.data, 0, EXPLICIT, limits, sop_class)
        except UnreadableInstance:
            if not inflated.is_cut:
                raise
        else:
            if not inflated.is_cut or found.end < len(inflated.data):
                return found
    raise UnreadableInstance(
        "cannot be read: its header has more bytes before its pixel data than"
        f" limits.header_bytes = {limits.header_bytes}, when inflated"
    )


class Inflated(NamedTuple):
    """What came of a deflated data set."""

    data: bytes
    is_cut: bool
    """Whether there is more than was asked for."""
    has_end: bool
    """Whether the end of the deflated data was reached."""


def inflate(packed: bytes | memoryview, most: int) -> Inflated:
    """Inflate a data set (PS3.5 A.5) to ``most`` bytes; pydicom has no bound.

    Raises UnreadableInstance: it cannot be inflated.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(packed, most)
    except zlib.error as error:
        raise UnreadableInstance(f"expected a deflated data set, got: {error}") from error
    return Inflated(data, bool(inflater.unconsumed_tail), inflater.eof)


def sequence_of(raw: RawDataElement) -> Items | None:
    """Return the items of a sequence that pydicom has not converted yet, None where none can be.

    Items of undefined length are there; a delimiter of the sequence itself is not.
    """
    value = raw.value or b""
    encoding = Encoding(implicit=raw.is_implicit_VR, little=raw.is_little_endian)
    try:
        items, inner = items_of(value, encoding, tag=int(raw.tag), vr=raw.VR or "", limits=DEFAULT)
    except UnreadableInstance:
        return None
    return Items([_dataset(value, item.parts, inner, "iso8859") for item in items])


def file_meta(data: memoryview, limits: Limits) -> RawHeader | None:
    """Follow the File Meta Information (PS3.10 7.1) by its group: its length is often wrong."""
    start = PREFIX_END if is_part10(data) else 0
    if bytes(data[start : start + 2]) != b"\x02\x00":
        return RawHeader(data, EXPLICIT, (), start) if start else None
    parts, end = walk(
        data, EXPLICIT, start=start, stop=lambda tag: tag >> 16 != 0x0002, limits=limits
    )
    return RawHeader(data, EXPLICIT, parts, end)


def _encoding(data: bytes | memoryview, start: int, stated: Encoding | None) -> Encoding | None:
    """Return the encoding in which the first two elements can be read, the stated one first."""
    likely = (stated, EXPLICIT, IMPLICIT, BIG_ENDIAN)
    fitting = (one for one in likely if one and first_element_fits(data, start, one))
    return next(fitting, None)


def _is_cut_image(header: RawHeader, sop_class: str) -> bool:
    at_end = len(header.data) - header.end < 4
    if not at_end and is_pixel_data(header.encoding.tag_at(header.data, header.end)):
        return False
    if (header.uid(_SOP_CLASS) or sop_class) not in IMAGES or not header.parts:
        return False
    last = max(part.tag for part in header.parts)
    return last < _SERIES or _SAMPLES_PER_PIXEL <= last < _PIXEL_REPRESENTATION


def _dataset(
    data: bytes | memoryview, parts: Sequence[ElementSpan], encoding: Encoding, charset: object
) -> Dataset:
    own = _charset(data, parts, charset)
    elements: dict[BaseTag, DataElement | RawDataElement] = {}
    for part in parts:
        tag = BaseTag(part.tag)
        if part.items is None:
            elements[tag] = _raw(data, part, tag)
        else:
            items = Items([_dataset(data, item.parts, part.encoding, own) for item in part.items])
            elements[tag] = DataElement(tag, "SQ", items, already_converted=True)
    dataset = Dataset(elements)
    dataset.set_original_encoding(encoding.implicit, encoding.little, own)  # type: ignore[arg-type]
    return dataset


def _raw(data: bytes | memoryview, part: ElementSpan, tag: BaseTag) -> RawDataElement:
    vr, encoding = part.vr or None, part.encoding
    value: bytes | None = bytes(data[part.value : part.value_end])
    length = UNDEFINED if part.undefined else len(value or b"")
    if not value and empty_value_for_VR(vr, raw=True) != b"":
        value = None  # as pydicom has it
    return RawDataElement(tag, vr, length, value, part.value, encoding.implicit, encoding.little)


def _charset(data: bytes | memoryview, parts: Sequence[ElementSpan], inherited: object) -> object:
    """Return pydicom's codecs of the Specific Character Set; of an item, those of what holds it."""
    for part in parts:
        if part.tag == _CHARACTER_SET:
            terms = bytes(data[part.value : part.end]).decode("ascii", "replace").strip("\0 ")
            # pydicom would warn of an unknown one, which is the rules' to report
            return [python_encoding.get(term.strip(), "iso8859") for term in terms.split("\\")]
    return inherited
