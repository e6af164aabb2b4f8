"""The file that a copy is made of."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dicom_ai_node.dicom.encoding import Encoding, Part, tag_of
from dicom_ai_node.dicom.uids import is_uid
from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.report.copies.fill import AGE, SEX, Fill
from dicom_ai_node.report.copies.marks import Previous
from dicom_ai_node.report.copies.part10 import Part10, elements_of, opened
from dicom_ai_node.report.copies.splice import found

_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_CONFORMING: Final[Mapping[int, tuple[str, re.Pattern[bytes]]]] = {
    tag_of(keyword): (vr, re.compile(pattern))
    for keyword, vr, pattern in (
        (AGE, "AS", rb"([0-9]{3}[DWMY])?"),
        (SEX, "CS", rb"[A-Z0-9_ ]{0,16}"),
        ("ImageType", "CS", rb"[A-Z0-9_ ]{0,16}(\\[A-Z0-9_ ]{0,16})*"),
        ("InstanceCreationDate", "DA", rb"([0-9]{8})?"),
        ("InstanceCreationTime", "TM", rb"([0-9]{2,6}(\.[0-9]{1,6})?)? *"),
        ("SeriesNumber", "IS", rb" *[+-]?[0-9]{0,10} *"),
        ("SeriesDescription", "LO", rb"[^\0]*"),
        ("DerivationDescription", "ST", rb"[^\0]*"),
    )
}
"""VR, and what its values look like (PS3.5 6.2), of the attributes that may be replaced."""
_FILLED = frozenset({tag_of(AGE), tag_of(SEX)})
_ANYTHING = re.compile(rb"(?s:.*)")


@dataclass(frozen=True, slots=True)
class Source:
    """A DICOM file whose elements have been found, none of them decoded."""

    file: Part10
    parts: Sequence[Part]

    @property
    def encoding(self) -> Encoding:
        """How its data set is encoded."""
        return self.file.encoding

    def part(self, keyword: str) -> Part | None:
        """Return an element; raises UnreadableInstance where there are two."""
        return found(self.parts, tag_of(keyword))

    def value(self, keyword: str) -> bytes:
        """Return a value as it stands, without its padding; empty where there is none."""
        part = self.part(keyword)
        return self.file.data[part.value : part.value_end].rstrip(b"\0 ") if part else b""

    def uid(self, keyword: str) -> str:
        """Return one of the UIDs that every instance has."""
        return self.value(keyword).decode("ascii", "replace").strip(" ")

    def previous(self, tags: Iterable[int]) -> Previous:
        """Return attributes as they are before anything is changed.

        Of those that are absent, only PatientAge and PatientSex are named.
        """
        conforming: dict[int, tuple[str, bytes]] = {}
        nonconforming: dict[int, bytes] = {}
        for tag in tags:
            part = found(self.parts, tag)
            vr, pattern = _CONFORMING.get(tag, ("", _ANYTHING))
            value = self.file.data[part.value : part.value_end] if part else b""
            if not pattern.fullmatch(value):
                nonconforming[tag] = value
                conforming[tag] = vr, b""
            elif part is not None:
                conforming[tag] = part.vr, value
            elif tag in _FILLED:
                conforming[tag] = vr, b""
        return Previous(conforming, nonconforming)


def source_of(content: bytes) -> Source:
    """Read a DICOM file as far as it takes to change it.

    Raises
    ------
    UnreadableInstance
        It is no PS3.10 file, its data set cannot be followed to its end, or it lacks one of the
        UIDs that place an instance. The message names no value.
    """
    file = opened(content)
    source = Source(file, elements_of(file.data, file.encoding))
    for keyword in _UIDS:
        if not is_uid(source.uid(keyword)):
            state = "is not a UID" if source.value(keyword) else "is missing"
            raise UnreadableInstance(f"{keyword} {state}: no copy can be made")
    return source


def reason_for(source: Source, fills: Sequence[Fill]) -> str:
    """Return CORRECT where a value is replaced, COERCE where there was none (PS3.3 C.12.1.1.9)."""
    return "CORRECT" if any(source.value(fill.keyword) for fill in fills) else "COERCE"


def filled(source: Source, fills: Sequence[Fill]) -> dict[int, bytes | None]:
    """Return the elements of the values that are filled in."""
    return {
        tag_of(fill.keyword): source.encoding.text(fill.keyword, fill.vr, fill.value)
        for fill in fills
    }
