"""What filing reads of a received data set: its header, followed once, and the UIDs in it."""

from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicom_ai_node.dicom.header import Header, deflated_header, header_of, mapped
from dicom_ai_node.dicom.limits import DEFAULT, Limits
from dicom_ai_node.dicom.syntaxes import encoding_of
from dicom_ai_node.dicom.uids import is_uid
from dicom_ai_node.errors import UnreadableInstance

_UIDS = {
    "SOPClassUID": 0x00080016,
    "SOPInstanceUID": 0x00080018,
    "StudyInstanceUID": 0x0020000D,
    "SeriesInstanceUID": 0x0020000E,
}


@dataclass(frozen=True, slots=True)
class Identity:
    """The UIDs that place an instance (PS3.3 C.7.2.1, C.7.3.1, C.12.1)."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str


def read_header(
    path: Path, *, offset: int, transfer_syntax: str, limits: Limits = DEFAULT
) -> Header:
    """Follow everything before the pixel data of the data set at ``offset``.

    Raises
    ------
    UnreadableInstance
        The header is cut off, cannot be followed, or goes beyond ``limits``.
    """
    data = mapped(path)
    if transfer_syntax == DeflatedExplicitVRLittleEndian:
        return deflated_header(data[offset:], limits)
    stated = encoding_of(transfer_syntax)
    return header_of(data, start=offset, stated=stated, limits=limits)


def identity_of(header: Header) -> Identity:
    """Return the UIDs of an instance.

    Raises
    ------
    UnreadableInstance
        One is missing or not a UID. The message names the attribute and never its value.
    """
    return Identity(
        sop_class_uid=_uid(header, "SOPClassUID"),
        sop_instance_uid=_uid(header, "SOPInstanceUID"),
        study_instance_uid=_uid(header, "StudyInstanceUID"),
        series_instance_uid=_uid(header, "SeriesInstanceUID"),
    )


def _uid(header: Header, keyword: str) -> str:
    value = header.uid(_UIDS[keyword])
    if not value:
        raise UnreadableInstance(f"{keyword} is missing")
    if not is_uid(value):
        raise UnreadableInstance(f"{keyword} is not a UID")
    return value
