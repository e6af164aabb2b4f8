"""What stands before the data set in a DICOM file: preamble and File Meta Information (PS3.10 7.1).

Its elements are followed by :func:`dicom_ai_node.dicom.header.file_meta`.
"""

from typing import Final

from dicom_ai_node.dicom.encoding import EXPLICIT
from dicom_ai_node.dicom.uids import PROGRAM_UID

PREFIX_END: Final = 132
"""Offset behind preamble and prefix, where the File Meta Information begins."""
_PREFIX = b"DICM"
IMPLEMENTATION_VERSION: Final = "DICOM_AI_NODE"
"""Implementation Version Name (0002,0013)."""
_LONGEST_UID = 64


def is_part10(head: bytes | memoryview) -> bool:
    """Whether the first :data:`PREFIX_END` bytes are those of a DICOM file."""
    return bytes(head[PREFIX_END - len(_PREFIX) : PREFIX_END]) == _PREFIX


def file_head(*, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Return what stands before the data set in a DICOM file that this program writes.

    Written here and not with pydicom because it must never fail, or complain, over a UID of a
    sender's that bends PS3.5 9.1; of one that is too long it holds what a UID may be long. The
    preamble is zero: what a TIFF reader would find in that of a source are offsets of the source.
    """
    elements = EXPLICIT.element(0x00020001, "OB", b"\0\1") + b"".join(
        EXPLICIT.element(tag, vr, value.encode("ascii", "replace"))
        for tag, vr, value in (
            (0x00020002, "UI", sop_class_uid[:_LONGEST_UID]),
            (0x00020003, "UI", sop_instance_uid[:_LONGEST_UID]),
            (0x00020010, "UI", transfer_syntax_uid),
            (0x00020012, "UI", PROGRAM_UID),
            (0x00020013, "SH", IMPLEMENTATION_VERSION),
        )
    )
    length = EXPLICIT.element(0x00020000, "UL", len(elements).to_bytes(4, "little"))
    return bytes(PREFIX_END - len(_PREFIX)) + _PREFIX + length + elements
