"""Preamble and File Meta Information of a received data set (PS3.10 section 7.1)."""

import struct

from pydicom.uid import PYDICOM_IMPLEMENTATION_UID

_VERSION_NAME = "DICOM_AI_NODE"


def file_head(*, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Return what stands before the data set in a DICOM file.

    Written here and not with pydicom because it must never fail, or complain, over a UID of the
    sender's that bends PS3.5 9.1; of one that is too long it holds what a UID may be long.
    """
    elements = b"".join(
        (
            _long(0x0001, b"OB", b"\0\1"),
            _short(0x0002, b"UI", sop_class_uid[:64], b"\0"),
            _short(0x0003, b"UI", sop_instance_uid[:64], b"\0"),
            _short(0x0010, b"UI", transfer_syntax_uid, b"\0"),
            _short(0x0012, b"UI", PYDICOM_IMPLEMENTATION_UID, b"\0"),
            _short(0x0013, b"SH", _VERSION_NAME, b" "),
        )
    )
    length = struct.pack("<HH2sHI", 0x0002, 0x0000, b"UL", 4, len(elements))
    return b"\0" * 128 + b"DICM" + length + elements


def _short(element: int, vr: bytes, value: str, padding: bytes) -> bytes:
    data = value.encode("ascii", "replace")
    data += padding * (len(data) % 2)
    return struct.pack("<HH2sH", 0x0002, element, vr, len(data)) + data


def _long(element: int, vr: bytes, data: bytes) -> bytes:
    return struct.pack("<HH2sHI", 0x0002, element, vr, 0, len(data)) + data
