"""Where an audit finds its studies: one port, :class:`Source`, and an adapter for each kind."""

from dicom_ai_node.audit.sources.opening import open_source
from dicom_ai_node.audit.sources.source import (
    BrokenOff,
    Fetched,
    Listed,
    NotAudited,
    Omission,
    Slice,
    Source,
)

__all__ = [
    "BrokenOff",
    "Fetched",
    "Listed",
    "NotAudited",
    "Omission",
    "Slice",
    "Source",
    "open_source",
]
