"""What a C-STORE asks for, the instance that it brings, and what it is answered with.

PS3.7 9.1.1, PS3.4 table B.2-1.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from pydicom.datadict import tag_for_keyword

from dicom_ai_node.answers import ImageRef
from dicom_ai_node.dicom.encoding import tag_of
from dicom_ai_node.dicom.header import RawHeader, header_at, mapped
from dicom_ai_node.dicom.limits import DEFAULT, Limits
from dicom_ai_node.dicom.status import CANNOT_UNDERSTAND, FAILED_HERE, OUT_OF_RESOURCES
from dicom_ai_node.dicom.uids import is_uid
from dicom_ai_node.errors import InstanceTooLarge, StorageError, StorageFull, UnreadableInstance
from dicom_ai_node.peer.commands import CommandSet, Tag

_LONGEST_UID = 64
_OF_COMMAND = {
    "Affected SOP Class UID": Tag.AFFECTED_SOP_CLASS_UID,
    "Affected SOP Instance UID": Tag.AFFECTED_SOP_INSTANCE_UID,
}


class StoreAnswer(NamedTuple):
    """The status of a response, and why it is no success."""

    status: int
    comment: str = ""
    """Error Comment: names attributes and never their values."""
    offending: tuple[int, ...] = ()
    """Offending Element: tags."""


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """A C-STORE request and the presentation context that it came in; UIDs may be none."""

    sop_class_uid: str
    sop_instance_uid: str
    context_sop_class_uid: str
    transfer_syntax_uid: str

    @classmethod
    def of(cls, command: CommandSet, abstract: str, transfer: str) -> Self:
        """Return what a command set asks for in a presentation context of these syntaxes."""
        return cls(
            sop_class_uid=command.text(Tag.AFFECTED_SOP_CLASS_UID),
            sop_instance_uid=command.text(Tag.AFFECTED_SOP_INSTANCE_UID),
            context_sop_class_uid=abstract,
            transfer_syntax_uid=transfer,
        )

    def check(self) -> None:
        """Raise UnreadableInstance where the command set itself is wrong."""
        _check("Affected SOP Class UID", self.sop_class_uid)
        _check("Affected SOP Instance UID", self.sop_instance_uid)
        if self.sop_class_uid != self.context_sop_class_uid:
            raise UnreadableInstance(
                "Affected SOP Class UID is not that of the presentation context"
            )


@dataclass(frozen=True, slots=True)
class Identity:
    """The UIDs that place an instance (PS3.3 C.7.2.1, C.7.3.1, C.12.1)."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str

    @property
    def image(self) -> ImageRef:
        """What the database knows the instance by."""
        return ImageRef(self.sop_class_uid, self.sop_instance_uid, self.series_instance_uid)


def read_header(
    path: Path, *, offset: int, transfer_syntax: str, limits: Limits = DEFAULT
) -> RawHeader:
    """Follow everything before the pixel data of the data set at ``offset``.

    Raises UnreadableInstance: the header is cut off, cannot be followed, or goes beyond ``limits``.
    """
    return header_at(mapped(path), offset, transfer_syntax, limits)


def identity_of(header: RawHeader) -> Identity:
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


def _uid(header: RawHeader, keyword: str) -> str:
    value = header.uid(tag_of(keyword))
    if not value:
        raise UnreadableInstance(f"{keyword} is missing")
    if not is_uid(value):
        raise UnreadableInstance(f"{keyword} is not a UID")
    return value


def refusal(error: Exception) -> StoreAnswer:
    """Return the answer to what was not filed; what stands in this node's way is its own affair.

    Reasons of UnreadableInstance begin with the keyword of the attribute that is wrong, where it is
    one: that is the offending element.
    """
    match error:
        case UnreadableInstance():
            reason = str(error)
            named = tag_for_keyword(reason.partition(" ")[0])
            of_command = [tag for name, tag in _OF_COMMAND.items() if reason.startswith(name)]
            offending: list[int] = [*of_command, *([named] if named is not None else [])]
            return StoreAnswer(CANNOT_UNDERSTAND, reason, tuple(offending[:1]))
        case InstanceTooLarge():  # to repeat it would not help: no 0xA700
            return StoreAnswer(CANNOT_UNDERSTAND, str(error))
        case StorageFull():
            return StoreAnswer(OUT_OF_RESOURCES, "too little room to store it; send it again later")
        case StorageError() | OSError():
            comment = "cannot be stored at this time; send it again later"
            return StoreAnswer(OUT_OF_RESOURCES, comment)
    return StoreAnswer(FAILED_HERE, "internal error of the receiver; its log says more")


def _check(name: str, uid: str) -> None:
    if not uid:
        raise UnreadableInstance(f"{name} is missing")
    if len(uid) > _LONGEST_UID:
        raise UnreadableInstance(f"{name} is longer than 64 characters")
    if not is_uid(uid):
        raise UnreadableInstance(f"{name} is not a UID")
