"""The few attributes that filing needs, read from the head of a received file."""

import re
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from dicom_ai_node.errors import UnreadableInstance

_SERIES = 0x0020000E
_PIXELS = 0x7FE00008  # Float Pixel Data, the first of the pixel data attributes
_UIDS = {
    "SOPClassUID": 0x00080016,
    "SOPInstanceUID": 0x00080018,
    "StudyInstanceUID": 0x0020000D,
    "SeriesInstanceUID": _SERIES,
}
_INFLATED_LIMIT = 4 * 1024 * 1024
# PS3.5 9.1 but for leading zeros, which are forbidden and common.
_UID_VALUE = re.compile(r"[0-9.]{1,64}")


@dataclass(frozen=True, slots=True)
class Identity:
    """The UIDs that place an instance (PS3.3 C.7.2.1, C.7.3.1, C.12.1)."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str


def read_identity(path: Path, *, offset: int, transfer_syntax: str) -> Identity:
    """Read the UIDs of the data set at ``offset``, and nothing behind them.

    Raises
    ------
    UnreadableInstance
        The data set cannot be parsed, or a UID is missing or not a UID. The message names the
        attribute and never its value.
    """
    head = _read(path, offset, transfer_syntax, last=_SERIES, tags=list(_UIDS.values()))
    return Identity(
        sop_class_uid=_uid(head, "SOPClassUID"),
        sop_instance_uid=_uid(head, "SOPInstanceUID"),
        study_instance_uid=_uid(head, "StudyInstanceUID"),
        series_instance_uid=_uid(head, "SeriesInstanceUID"),
    )


def read_header(path: Path, *, offset: int, transfer_syntax: str) -> Dataset:
    """Read everything before the pixel data.

    Raises
    ------
    UnreadableInstance
        The data set cannot be parsed.
    """
    return _read(path, offset, transfer_syntax, last=_PIXELS - 1, tags=None)


def _read(
    path: Path, offset: int, transfer_syntax: str, *, last: int, tags: list[int] | None
) -> Dataset:
    def beyond(tag: BaseTag, _vr: str | None, _length: int) -> bool:
        return int(tag) > last

    syntax = UID(transfer_syntax)
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return read_dataset(
                _inflated(file) if syntax == DeflatedExplicitVRLittleEndian else file,
                syntax.is_implicit_VR,
                syntax.is_little_endian,
                stop_when=beyond,
                specific_tags=None if tags is None else [Tag(tag) for tag in tags],
            )
    except Exception as error:  # any bytes may come, and pydicom raises anything
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault, not the sender's; pydicom's own OSErrors carry no errno
        raise UnreadableInstance(f"data set cannot be parsed ({type(error).__name__})") from error


def _inflated(file: BinaryIO) -> BytesIO:
    """Inflate the head only: a small file can inflate to more than the memory (PS3.5 A.5)."""
    packed = file.read(_INFLATED_LIMIT)
    return BytesIO(zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, _INFLATED_LIMIT))


def _uid(head: Dataset, keyword: str) -> str:
    element = head.get_item(_UIDS[keyword])
    if element is None or not element.value:
        raise UnreadableInstance(f"{keyword} is missing")
    # The raw bytes: converting would validate, and warn with the value.
    raw = element.value
    value = raw.decode("ascii", "replace") if isinstance(raw, bytes) else str(raw)
    value = value.rstrip("\0 ").lstrip(" ")
    if not _UID_VALUE.fullmatch(value):
        raise UnreadableInstance(f"{keyword} is not a UID")
    return value
