"""SOP classes by what this program does with them (PS3.4 B.5, PS3.6 table A-1)."""

from typing import Final

from pydicom import uid as uids
from pydicom._uid_dict import UID_dictionary

VERIFICATION: Final = "1.2.840.10008.1.1"
"""C-ECHO."""
FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
"""Study Root Query/Retrieve Information Model (PS3.4 C.6.2)."""
WORKLIST: Final = "1.2.840.10008.5.1.4.31"
"""Modality Worklist Information Model - FIND (PS3.4 K.5)."""
STANDARD_ROOT: Final = "1.2.840.10008."
"""How the UID of every class of the standard begins; others are private."""

IMAGES: Final = frozenset(
    uid
    for uid, (name, kind, *_) in UID_dictionary.items()
    if kind == "SOP Class" and "Image Storage" in name
)
"""Classes whose instances have pixel data."""

RADIOGRAPHS: Final = frozenset(
    {
        uids.ComputedRadiographyImageStorage,
        uids.DigitalXRayImageStorageForPresentation,
        uids.DigitalXRayImageStorageForProcessing,
    }
)
"""Classes that only a modality makes. Of ours, copies of its images alone travel as one."""

ENHANCED: Final = frozenset(
    {
        uids.EnhancedCTImageStorage,
        uids.EnhancedMRImageStorage,
        uids.LegacyConvertedEnhancedCTImageStorage,
        uids.LegacyConvertedEnhancedMRImageStorage,
    }
)
"""Sections of which an object holds as many as it has frames (PS3.3 A.36, A.38, A.70, A.71)."""
SECTIONS: Final = ENHANCED | {uids.CTImageStorage, uids.MRImageStorage}
"""Classes of sections of CT and MR. They are received and analysed where a route names them."""

SECONDARY_CAPTURE: Final[str] = uids.SecondaryCaptureImageStorage
_MULTI_FRAME_CAPTURES = frozenset(
    {
        uids.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        uids.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        uids.MultiFrameTrueColorSecondaryCaptureImageStorage,
    }
)
CAPTURES: Final = _MULTI_FRAME_CAPTURES | {SECONDARY_CAPTURE}
"""Digitised films and the output of research tools travel as captures."""

ANALYSABLE: Final = RADIOGRAPHS | {SECONDARY_CAPTURE}
"""Classes whose instances are shown to the rules and, where the gates allow, to the network."""

REPORTS: Final[tuple[str, ...]] = (
    uids.Comprehensive3DSRStorage,
    uids.ComprehensiveSRStorage,
    uids.EnhancedSRStorage,
)
"""Structured Reports: one content tree may travel as each of them, in order of preference."""

FILED_ONLY: Final = _MULTI_FRAME_CAPTURES | {*REPORTS}
"""Classes that are accepted and never analysed. Structured Reports are among them, so that a PACS
that forwards whole studies, our own reports included, sees no refusal."""


def storage_classes(extra: tuple[str, ...] = ()) -> frozenset[str]:
    """Return every storage class that is accepted; ``extra`` are those of the configuration."""
    return frozenset({*map(str, ANALYSABLE | FILED_ONLY), *extra})
