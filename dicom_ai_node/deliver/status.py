"""What the status of a C-STORE response means (PS3.4 B.2.3, PS3.7 9.1.1.1.9 and Annex C)."""

from enum import StrEnum

from dicom_ai_node.dicom.status import (
    DUPLICATE_SOP_INSTANCE,
    NO_SUCH_SOP_CLASS,
    RESOURCE_LIMITATION,
    SOP_CLASS_NOT_SUPPORTED,
    SUCCESS,
    does_not_match_class,
    is_out_of_resources,
    is_warning,
)


class Verdict(StrEnum):
    """What to do with a delivery after an answer."""

    STORED = "stored"
    """The destination has the object."""
    OTHER_CLASS = "other_class"
    """It may take the same report in another SOP class."""
    BUSY = "busy"
    """It has no room now: wait, however often."""
    REFUSED = "refused"
    """It does not want this object: wait, and give up after some attempts."""


def judge(status: int) -> Verdict:
    """Return what ``status`` means; defined for every status, an unknown one is a refusal.

    0x0111 (duplicate SOP instance) is success: our UIDs stand for their content, so the object
    arrived with an attempt whose answer was lost.
    """
    if status in {SUCCESS, DUPLICATE_SOP_INSTANCE} or is_warning(status):
        return Verdict.STORED
    if status in {NO_SUCH_SOP_CLASS, SOP_CLASS_NOT_SUPPORTED} or does_not_match_class(status):
        return Verdict.OTHER_CLASS
    if status == RESOURCE_LIMITATION or is_out_of_resources(status):
        return Verdict.BUSY
    return Verdict.REFUSED
