"""DICOM files built byte by byte, so that a test knows every byte without asking the program."""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

LONG = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}
UNDEFINED = 0xFFFFFFFF


@dataclass(frozen=True)
class Syntax:
    uid: str
    implicit: bool = False
    little: bool = True

    def pack(self, fields: str, *values: int | bytes) -> bytes:
        return struct.pack(("<" if self.little else ">") + fields, *values)

    def element(self, tag: int, vr: str, value: bytes, *, length: int | None = None) -> bytes:
        """``value`` as it is: nothing is padded. ``length``: what the header says instead."""
        size = len(value) if length is None else length
        head = (tag >> 16, tag & 0xFFFF)
        if self.implicit:
            return self.pack("HHL", *head, size) + value
        if vr in LONG:
            return self.pack("HH2sHL", *head, vr.encode(), 0, size) + value
        return self.pack("HH2sH", *head, vr.encode(), size) + value

    def item(self, content: bytes, *, undefined: bool = False) -> bytes:
        if undefined:
            return self._mark(0xE000, UNDEFINED) + content + self._mark(0xE00D, 0)
        return self._mark(0xE000, len(content)) + content

    def sequence(
        self, tag: int, items: Iterable[bytes], *, undefined: bool = False, vr: str = "SQ"
    ) -> bytes:
        value = b"".join(items)
        if undefined:
            value += self._mark(0xE0DD, 0)
        return self.element(tag, vr, value, length=UNDEFINED if undefined else None)

    def _mark(self, element: int, length: int) -> bytes:
        return self.pack("HHL", 0xFFFE, element, length)


EXPLICIT = Syntax("1.2.840.10008.1.2.1")
IMPLICIT = Syntax("1.2.840.10008.1.2", implicit=True)
BIG_ENDIAN = Syntax("1.2.840.10008.1.2.2", little=False)
DEFLATED = Syntax("1.2.840.10008.1.2.1.99")

SOP_CLASS, SOP_INSTANCE, STUDY, SERIES = 0x00080016, 0x00080018, 0x0020000D, 0x0020000E
AGE, SEX = 0x00101010, 0x00100040
UIDS = {
    SOP_CLASS: ("UI", b"1.2.840.10008.5.1.4.1.1.7\0"),
    SOP_INSTANCE: ("UI", b"1.2.3.4\0"),
    STUDY: ("UI", b"1.2.3\0"),
    SERIES: ("UI", b"1.2.3.5\0"),
}


def data_set(elements: Mapping[int, tuple[str, bytes]], syntax: Syntax = EXPLICIT) -> bytes:
    return b"".join(syntax.element(tag, *elements[tag]) for tag in sorted(elements))


def dicom_file(data: bytes, syntax: Syntax = EXPLICIT) -> bytes:
    """A file around a data set; a deflated one has to be deflated already."""
    uid = syntax.uid.encode()
    meta = EXPLICIT.element(0x00020010, "UI", uid + b"\0" * (len(uid) % 2))
    head = EXPLICIT.element(0x00020000, "UL", struct.pack("<L", len(meta)))
    return bytes(128) + b"DICM" + head + meta + data
