"""What this program writes into its objects, and how it knows them again.

A PACS may send our reports back to us (auto-routing, a retrieve of the whole study); they must
never start an analysis. The marks are constant over versions and installations: two nodes of one
hospital must know each other's reports too.
"""

import importlib.metadata
from typing import Final

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from dicom_ai_node.dicom.uids import PROGRAM_UID
from dicom_ai_node.dicom.values import text_of

PROGRAM = "dicom_ai_node"
"""First word of one value of Software Versions in Contributing Equipment Sequence."""
CODING_SCHEME = "99DICOMAINODE"
"""Designator of the private coding scheme."""

PRIVATE_GROUP: Final = 0x4149
PRIVATE_CREATOR: Final = "DICOM_AI_NODE"
"""Reserves the private block with what was filled in."""

INSTANCE_CREATOR_UID = 0x00080014
_ORIGINAL_ATTRIBUTES = 0x04000561
_MARKED_SEQUENCES = {
    0x0018A001: ("SoftwareVersions", PROGRAM + " "),
    0x00080110: ("CodingSchemeDesignator", CODING_SCHEME),
}


def software_version() -> str:
    """Return the value of Software Versions that marks an object as made here."""
    return f"{PROGRAM} {importlib.metadata.version('dicom-ai-node')}"


def is_own_report(ds: Dataset) -> bool:
    """Return whether this program made ``ds``.

    Any one of three marks suffices, because archives and routers rewrite or drop single attributes:
    Instance Creator UID, Software Versions in Contributing Equipment Sequence (0018,A001), and the
    private scheme in Coding Scheme Identification Sequence (0008,0110). Looks at the data set
    without converting elements that are still raw, so a malformed one does not raise.
    """
    return created_here(ds) or any(
        _marked(ds, tag, *mark) for tag, mark in _MARKED_SEQUENCES.items()
    )


def created_here(ds: Dataset) -> bool:
    """Return whether Instance Creator UID says that this program made ``ds``.

    For images this alone counts: what another system derives from a filled copy of ours inherits
    Contributing Equipment Sequence, and is no less an image for that.
    """
    return text_of(ds, INSTANCE_CREATOR_UID) == PROGRAM_UID


def is_coerced(ds: Dataset) -> bool:
    """Return whether this program filled a value into ``ds``, whoever made it.

    Looks for the private block and for the program's name in Original Attributes Sequence, as
    :func:`is_own_report` does for its marks.
    """
    creators = range(PRIVATE_GROUP << 16 | 0x10, (PRIVATE_GROUP << 16 | 0xFF) + 1)
    return any(text_of(ds, tag) == PRIVATE_CREATOR for tag in creators) or _marked(
        ds, _ORIGINAL_ATTRIBUTES, "ModifyingSystem", PROGRAM + " "
    )


def _marked(ds: Dataset, tag: int, keyword: str, mark: str) -> bool:
    element = ds.get_item(tag) if tag in ds else None
    if element is None:
        return False
    if isinstance(element, RawDataElement):
        return mark.encode() in (element.value or b"")
    return any(mark in text_of(item, keyword) for item in element.value or ())
