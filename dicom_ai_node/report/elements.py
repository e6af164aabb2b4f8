"""Data elements as bytes: verbatim copies out of a header, and their way into a file.

A header may hold a PatientAge of '64', a name that its character set cannot decode, or a character
set that does not exist. Decoding such a value and encoding it again changes it, so values travel as
the bytes that stand in the source. Everything here is encoded in Explicit VR Little Endian.
"""

import struct
from collections.abc import Iterable, Sequence

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.tag import Tag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32
from pydicom.values import convert_SQ

from dicom_ai_node.dicom.encoding import SEQUENCES
from dicom_ai_node.dicom.values import encodings

Element = DataElement | RawDataElement

_NUMBER_SIZE = {"US": 2, "SS": 2, "UL": 4, "SL": 4, "FL": 4, "FD": 8, "AT": 2}


def raw_element(tag: int, vr: str, value: bytes) -> RawDataElement:
    """Return an element of these bytes, padded to even length."""
    if len(value) % 2:
        value += b"\0" if vr in ("UI", "UN", "OB") else b" "
    return RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)


def verbatim(source: Dataset, tag: int) -> RawDataElement | None:
    """Return the element as it stands in ``source``, None where it is absent or cannot be copied.

    ``source`` stays as it was. An element that somebody has read since the file was is re-encoded
    from its decoded value, which equals the bytes of the file unless they were malformed.
    """
    if tag not in source:
        return None
    element = source.get_item(tag)
    if element is None:
        return None
    if isinstance(element, RawDataElement):
        return _from_raw(element)
    if element.VR == "SQ":
        return sequence(tag, [_items(item) for item in element.value or ()])
    return raw_element(
        tag, str(element.VR), _encoded_value(element, encodings(source) or ("iso8859",))
    )


def sequence(tag: int, items: Iterable[Iterable[Element]]) -> RawDataElement:
    """Return a sequence element of defined length (PS3.5 7.5)."""
    value = b""
    for item in items:
        content = encode(item)
        value += struct.pack("<HHL", 0xFFFE, 0xE000, len(content)) + content
    return raw_element(tag, "SQ", value)


def encode(elements: Iterable[Element]) -> bytes:
    """Return the elements in order of their tags; decoded text must be ASCII."""
    fp = DicomBytesIO()
    fp.is_little_endian, fp.is_implicit_VR = True, False
    for element in sorted(elements, key=lambda each: each.tag):
        write_data_element(fp, element, "iso8859")
    return fp.getvalue()


def frozen(elements: Iterable[DataElement]) -> list[RawDataElement]:
    """Return the elements encoded, for use in several objects."""
    done = []
    for element in elements:
        header = 12 if element.VR in EXPLICIT_VR_LENGTH_32 else 8
        done.append(raw_element(element.tag, str(element.VR), encode([element])[header:]))
    return done


def _from_raw(raw: RawDataElement) -> RawDataElement | None:
    vr, value = _vr(raw), raw.value or b""
    if vr == "SQ":
        # an unknown VR hides implicit VR (PS3.5 6.2.2 note 2)
        implicit = raw.is_implicit_VR or raw.VR == "UN"
        try:
            items = convert_SQ(value, implicit, raw.is_little_endian) if value else ()
        except (ValueError, OSError, KeyError, AttributeError, struct.error, NotImplementedError):
            return None
        return sequence(raw.tag, [_items(item) for item in items])
    if not raw.is_little_endian and vr in _NUMBER_SIZE:
        value = _swapped(value, _NUMBER_SIZE[vr])
    return raw_element(raw.tag, vr, value)


def _vr(raw: RawDataElement) -> str:
    if int(raw.tag) in SEQUENCES:
        return "SQ"
    known = dictionary_VR(raw.tag) if dictionary_has_tag(raw.tag) else ""
    return known if len(known) == 2 else raw.VR or "UN"


def _items(item: Dataset) -> list[RawDataElement]:
    copies = (verbatim(item, tag) for tag in sorted(item.keys()) if tag.element != 0)
    return [copy for copy in copies if copy is not None]


def _swapped(value: bytes, size: int) -> bytes:
    whole = len(value) - len(value) % size
    return b"".join(value[i : i + size][::-1] for i in range(0, whole, size))


def _encoded_value(element: DataElement, codecs: Sequence[str]) -> bytes:
    fp = DicomBytesIO()
    fp.is_little_endian, fp.is_implicit_VR = True, True
    write_data_element(fp, element, list(codecs))
    return fp.getvalue()[8:]
