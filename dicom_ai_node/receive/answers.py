"""What a C-STORE asks for and what it is answered with (PS3.7 9.1.1, PS3.4 table B.2-1)."""

from dataclasses import dataclass
from typing import NamedTuple

from pydicom.datadict import tag_for_keyword

from dicom_ai_node.dicom.status import CANNOT_UNDERSTAND, FAILED_HERE, OUT_OF_RESOURCES
from dicom_ai_node.dicom.uids import is_uid
from dicom_ai_node.errors import InstanceTooLarge, StorageError, StorageFull, UnreadableInstance
from dicom_ai_node.peer.commands import Tag

_LONGEST_UID = 64
_OF_COMMAND = {
    "Affected SOP Class UID": Tag.AFFECTED_SOP_CLASS_UID,
    "Affected SOP Instance UID": Tag.AFFECTED_SOP_INSTANCE_UID,
}


class Answer(NamedTuple):
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

    def check(self) -> None:
        """Raise UnreadableInstance where the command set itself is wrong."""
        _check("Affected SOP Class UID", self.sop_class_uid)
        _check("Affected SOP Instance UID", self.sop_instance_uid)
        if self.sop_class_uid != self.context_sop_class_uid:
            raise UnreadableInstance(
                "Affected SOP Class UID is not that of the presentation context"
            )


def not_understood(error: UnreadableInstance) -> Answer:
    """Return the answer to what cannot be filed: the reason, and the element that it names first.

    Reasons begin with the keyword of the attribute that is wrong, where it is one.
    """
    reason = str(error)
    of_command = [tag for name, tag in _OF_COMMAND.items() if reason.startswith(name)]
    named = tag_for_keyword(reason.partition(" ")[0])
    of_data_set = [named] if named is not None else []
    return Answer(CANNOT_UNDERSTAND, reason, tuple((of_command or of_data_set)[:1]))


def too_large(error: InstanceTooLarge) -> Answer:
    """Return the answer to what is larger than any radiograph: to send it again would not help."""
    return Answer(CANNOT_UNDERSTAND, str(error))


def out_of_resources(error: StorageError | OSError) -> Answer:
    """Return the answer when nothing can be stored now; what exactly is this node's own affair."""
    if isinstance(error, StorageFull):
        return Answer(OUT_OF_RESOURCES, "too little room to store it; send it again later")
    return Answer(OUT_OF_RESOURCES, "cannot be stored at this time; send it again later")


def failed() -> Answer:
    """Return the answer when this program failed."""
    return Answer(FAILED_HERE, "internal error of the receiver; its log says more")


def _check(name: str, uid: str) -> None:
    if not uid:
        raise UnreadableInstance(f"{name} is missing")
    if len(uid) > _LONGEST_UID:
        raise UnreadableInstance(f"{name} is longer than 64 characters")
    if not is_uid(uid):
        raise UnreadableInstance(f"{name} is not a UID")
