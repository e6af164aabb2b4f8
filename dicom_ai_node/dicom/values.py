"""The one reader of values as text: raw, without a warning, without an exception, without loss.

pydicom validates what it converts, warns with the value, and puts a replacement character where
bytes are no text: then two names, or two patients, become one. So an element is read before it is
converted, in the Specific Character Set of its data set (PS3.3 C.12.1.1.2).
"""

import hashlib
import re
from collections.abc import Mapping, MutableSequence, Sequence
from typing import Final

from pydicom.charset import CODES_TO_ENCODINGS, python_encoding
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.tag import Tag

from dicom_ai_node.dicom.encoding import tag_of
from dicom_ai_node.dicom.header import sequence_of

Element = DataElement | RawDataElement

PADDING: Final = " \0"
ITEMS: Final = "(items)"
"""Stands for a sequence that says something, and no code."""
_ENCODED: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
"""VRs whose text is in the Specific Character Set (PS3.5 6.1.2.3)."""

_CHARACTER_SET: Final = 0x00080005
CODES: Final = (0x00080100, 0x00080119, 0x00080120, 0x00080104)
"""Code Value, Long Code Value, URN Code Value, Code Meaning (PS3.3 8.8)."""
SCHEME: Final = frozenset({0x00080102, 0x00080103})
"""Coding Scheme Designator and Version: alone they name no code."""

_ESCAPE = re.compile(rb"(\x1b(?:\$[()]?.|.{0,2}))", re.DOTALL)
# Python's codecs of these take the escape sequences as part of the text.
_KEEP_ESCAPES = frozenset({"iso2022_jp", "iso2022_jp_2"})
# pydicom takes the default repertoire for Latin-1; it is ISO_IR 6, which is ASCII.
_CODECS: Mapping[str, str] = {"iso_ir_58": "gb2312", "iso8859": "ascii"}


def raw_element(ds: Dataset, tag: int) -> Element | None:
    """Return an element as it stands in ``ds``, unconverted where it still is."""
    found: Element | None = ds.get_item(Tag(tag), keep_deferred=True)
    return found


def encodings(ds: Dataset) -> tuple[str, ...]:
    """Return Python's codecs of the Specific Character Set; of unknown terms none."""
    element = raw_element(ds, _CHARACTER_SET)
    terms = sent(element.value).split("\\") if element is not None else [""]
    return encodings_of([term.strip(PADDING) for term in terms])[0]


def text_of(ds: Dataset, attribute: str | int) -> str:
    """Return a value as text whatever the header holds, '' when it is absent.

    Padding and NUL, which is no text to PostgreSQL, are left out; several values are joined by a
    backslash. ``attribute`` is a keyword or a tag.
    """
    return decoded(ds, attribute)[0]


def decoded(ds: Dataset, attribute: str | int) -> tuple[str, bool]:
    """Return :func:`text_of`, and whether all of it is text in the Specific Character Set.

    Bytes that are not are Latin-1 characters: other bytes never become the same text.
    """
    tag = tag_of(attribute) if isinstance(attribute, str) else Tag(attribute)
    element = raw_element(ds, tag)
    if element is None:
        return "", True
    vr = _known_vr(tag)
    text, good = as_sent(element, vr, encodings(ds) if vr in _ENCODED else ())
    return text.replace("\0", "").strip(), good


def patient_key(source: Dataset) -> str:
    """Return a hash of PatientID and its issuer, '' without a PatientID: nothing is linked then.

    The same text is the same patient in every character set. What is no text in the character set
    that is stated is told apart by its bytes, and from all that is text.
    """
    patient, readable = decoded(source, "PatientID")
    if not patient:
        return ""
    issuer, known = decoded(source, "IssuerOfPatientID")
    mark = "" if readable and known else f"\0{readable:d}{known:d}"
    return hashlib.sha256(f"{issuer}\0{patient}{mark}".encode()).hexdigest()


def as_sent(
    element: Element, vr: str, codecs: Sequence[str], *, longest: int | None = None
) -> tuple[str, bool]:
    """Return a value with its padding, and whether all of it is text in its character set.

    Of a sequence it is :func:`codes`, of a 16-bit number its digits. ``vr`` is that of the
    attribute: a file in Implicit VR names none and a bad one names a wrong one. ``codecs`` are the
    :func:`encodings` of the data set; ``longest`` cuts what is longer than any such value may be.
    """
    value = element.value
    if vr == "SQ":
        return codes(element)[:longest], True
    if isinstance(value, bytes):
        if vr == "US" and len(value) == 2:
            little = element.is_little_endian if isinstance(element, RawDataElement) else True
            return str(int.from_bytes(value, "little" if little else "big")), True
        value = value[:longest]
        if vr in _ENCODED:
            return decode(value, codecs)
    return sent(value)[:longest], True


def sop_class_of(header: Dataset) -> str:
    """Return the SOP class; where the data set has none, the one that its file meta names for it.

    PS3.10 7.1 has both say the same. Anonymisers that keep a list of attributes lose the first.
    """
    meta: object = getattr(header, "file_meta", None)
    stated = text_of(header, "SOPClassUID")
    return stated or (text_of(meta, "MediaStorageSOPClassUID") if isinstance(meta, Dataset) else "")


def sent(value: object) -> str:
    """Return a value of a VR of the default repertoire as text, byte for byte, with its padding."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("latin_1")
    if isinstance(value, Items | Dataset):  # a sequence where text belongs
        return ITEMS if has_content(value) else ""
    if isinstance(value, MutableSequence | tuple):
        return "\\".join(sent(part) for part in value)
    return str(value)


def codes(element: Element) -> str:
    """Return the codes and meanings in the items of a sequence, joined by a backslash.

    :data:`ITEMS` where there is something else in them, '' where there is nothing.
    """
    items = element.value
    if isinstance(items, bytes) and isinstance(element, RawDataElement):
        items = sequence_of(element)
        if items is None:
            return sent(element.value)
    if not isinstance(items, Items):
        return sent(items)
    found = (
        sent(code.value).strip(PADDING)
        for item in items
        for tag in CODES
        if (code := raw_element(item, tag)) is not None
    )
    return "\\".join(filter(None, found)) or sent(items)


def has_content(value: object) -> bool:
    """Whether a value says anything: not an item without elements, nor values of mere padding."""
    if isinstance(value, Items):
        return any(has_content(item) for item in value)
    if isinstance(value, Dataset):
        tags = [tag for tag in list(value.keys()) if int(tag) not in SCHEME]
        return any(_element_has_content(value.get_item(tag, keep_deferred=True)) for tag in tags)
    return says_something(sent(value))


def says_something(text: str) -> bool:
    """Whether there is a character that is neither padding, nor white space, nor a delimiter."""
    return any(char.isprintable() and char not in " \\^=" for char in text)


def _element_has_content(element: Element | None) -> bool:
    if isinstance(element, RawDataElement) and "SQ" in (element.VR, _known_vr(element.tag)):
        items = sequence_of(element)
        return has_content(element.value if items is None else items)
    return element is not None and has_content(element.value)


def _known_vr(tag: int) -> str:
    return dictionary_VR(tag) if dictionary_has_tag(tag) else ""


def encodings_of(terms: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Python codecs of the terms of SpecificCharacterSet, and the terms that are unknown."""
    known = tuple(python_encoding[term] for term in terms if term in python_encoding)
    return known, tuple(term for term in terms if term not in python_encoding)


def decode(raw: bytes, encodings: Sequence[str]) -> tuple[str, bool]:
    """The text of ``raw``, and whether every byte of it could be decoded.

    What cannot be decoded comes back byte by byte as Latin-1, so that nothing is lost.
    """
    try:
        if b"\x1b" in raw:
            return _decode_switched(raw, encodings), True
        return raw.decode(_codec(encodings[0] if encodings else "ascii")), True
    except (UnicodeError, LookupError):
        return raw.decode("latin_1"), False


def _decode_switched(raw: bytes, encodings: Sequence[str]) -> str:
    """Text with ISO 2022 code extensions: an escape sequence switches what follows it."""
    first, *rest = _ESCAPE.split(raw)
    parts = [first.decode(_codec(encodings[0] if encodings else "ascii"))]
    for escape, text in zip(rest[::2], rest[1::2], strict=True):
        encoding = _codec(CODES_TO_ENCODINGS.get(escape, "unknown escape sequence"))
        kept = escape + text if encoding in _KEEP_ESCAPES else text
        parts.append(kept.decode(encoding))
    return "".join(parts)


def _codec(encoding: str) -> str:
    return _CODECS.get(encoding, encoding)
