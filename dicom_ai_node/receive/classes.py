"""What is accepted: SOP classes (PS3.4 B.5) and transfer syntaxes (PS3.5 annex A)."""

from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import Verification

from dicom_ai_node.report.identity import SR_CLASSES

RADIOGRAPHS = frozenset(
    {
        ComputedRadiographyImageStorage,
        DigitalXRayImageStorageForPresentation,
        DigitalXRayImageStorageForProcessing,
    }
)
"""Classes that only a modality makes. Of ours, copies of its images alone travel as one."""

ANALYSABLE = RADIOGRAPHS | {SecondaryCaptureImageStorage}
"""Classes whose instances are shown to the rules and, where the gates allow, to the network."""

KEPT = frozenset(
    {
        MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        MultiFrameTrueColorSecondaryCaptureImageStorage,
        *SR_CLASSES,
    }
)
"""Classes that are filed beside them and never analysed. Structured Reports are among them, so that
a PACS that forwards whole studies, our own reports included, sees no refusal."""

TRANSFER_SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    JPEGLosslessSV1,
    JPEGLossless,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    RLELossless,
    JPEG2000Lossless,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    HTJ2K,
    JPEG2000,
    JPEGLSNearLossless,
    JPEGExtended12Bit,
    JPEGBaseline8Bit,
)
"""In order of preference where one presentation context proposes several (PS3.8 9.3.3.2 leaves the
choice to the acceptor): native first, then lossless with the cheapest decoder first, and what may
be lossy last, so that no sender degrades an image for us.
"""


def storage_classes(extra: tuple[str, ...] = ()) -> frozenset[str]:
    """Return every storage class that is accepted; ``extra`` are those of the configuration."""
    return frozenset({*map(str, ANALYSABLE), *map(str, KEPT), *extra})


def supported_contexts(extra: tuple[str, ...] = ()) -> list[PresentationContext]:
    """Return the presentation contexts of the SCP: Verification and all storage classes."""
    storage = [
        build_context(uid, list(TRANSFER_SYNTAXES)) for uid in sorted(storage_classes(extra))
    ]
    return [build_context(Verification), *storage]
