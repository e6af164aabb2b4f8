"""Every refusal of a C-STORE says why, in a text that names no value and no place of this node."""

import pytest

from dicom_ai_node.errors import (
    InstanceTooLarge,
    StorageError,
    StorageFull,
    UnreadableInstance,
)
from dicom_ai_node.receive.requests import (
    StoreAnswer,
    StoreRequest,
    refusal,
)

CR = "1.2.840.10008.5.1.4.1.1.1"


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (refusal(StorageFull("spool: 3 MB free")), 0xA700, "too little room"),
        (refusal(StorageError("database /srv/x.db: locked")), 0xA700, "at this time"),
        (refusal(OSError(5, "Input/output error", "/srv/x")), 0xA700, "at this time"),
        (refusal(ValueError("/srv/x")), 0xC001, "internal error"),
        (refusal(InstanceTooLarge("larger than receive.max_object_mb = 1")), 0xC000, "larger"),
        (refusal(UnreadableInstance("cut off")), 0xC000, "cut off"),
    ],
)
def test_every_refusal_has_a_comment(answer: StoreAnswer, status: int, words: str) -> None:
    assert answer.status == status
    assert words in answer.comment
    assert len(answer.comment) <= 64
    assert "/srv" not in answer.comment
    assert answer.offending == ()


@pytest.mark.parametrize(
    ("reason", "tag"),
    [
        ("StudyInstanceUID is missing", 0x0020000D),
        ("SOPInstanceUID is not the Affected SOP Instance UID", 0x00080018),
        ("Affected SOP Instance UID is not a UID", 0x00001000),
        ("Affected SOP Class UID is not that of the presentation context", 0x00000002),
    ],
)
def test_the_offending_element_is_the_one_that_the_reason_names(reason: str, tag: int) -> None:
    assert refusal(UnreadableInstance(reason)).offending == (tag,)


@pytest.mark.parametrize(
    ("sop_class", "instance", "words"),
    [
        (CR, "", "Affected SOP Instance UID is missing"),
        (CR, "1." * 32 + "1", "Affected SOP Instance UID is longer than 64 characters"),
        (CR, "...", "Affected SOP Instance UID is not a UID"),
        ("", "1.2", "Affected SOP Class UID is missing"),
        ("1.2.3", "1.2", "Affected SOP Class UID is not that of the presentation context"),
    ],
)
def test_a_command_set_that_is_wrong(sop_class: str, instance: str, words: str) -> None:
    with pytest.raises(UnreadableInstance, match=words):
        StoreRequest(sop_class, instance, CR, "1.2.840.10008.1.2").check()


def test_leading_zeros_and_64_characters_are_no_fault() -> None:
    StoreRequest(CR, "1.02." + "1" * 59, CR, "1.2.840.10008.1.2").check()
