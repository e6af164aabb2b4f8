"""Which UIDs a report bears: deterministic, so that a retry sends the same object.

Every UID is 2.25 + UUIDv5 (PS3.5 B.2) of what determines the content. Orthanc drops a known UID
that comes again; a change of content must therefore show in one of the fields below.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dicom_ai_node.dicom.classes import SECONDARY_CAPTURE
from dicom_ai_node.dicom.uids import uid_of


def series_instance_uid(study_instance_uid: str, *, model_sha256: str, kind: str) -> str:
    """Return the series of a study's reports of ``kind`` (``sr``, ``sc``, ``saliency``).

    Each network has its own; ``model_sha256`` is '' where none was asked.
    """
    return uid_of("series", kind, study_instance_uid, model_sha256)


@dataclass(frozen=True, slots=True)
class ReportIdentity:
    """What tells one report from another."""

    study_instance_uid: str
    digest: str
    """Identifies what was analysed and what came of it."""
    model_sha256: str
    rules_version: str

    def series_instance_uid(self, kind: str) -> str:
        """Return the series of this report as ``kind``."""
        return series_instance_uid(
            self.study_instance_uid, model_sha256=self.model_sha256, kind=kind
        )

    def sop_instance_uid(self, sop_class_uid: str) -> str:
        """Return the SOP Instance UID of this report as an object of ``sop_class_uid``."""
        kind = "sc" if sop_class_uid == SECONDARY_CAPTURE else "sr"
        return self._instance(kind, sop_class_uid)

    def saliency_instance_uid(self, image_uid: str, *, method: str, further: str = "") -> str:
        """Return the SOP Instance UID of a network's saliency maps of one image."""
        named = [further] if further else []
        return self._instance("saliency", SECONDARY_CAPTURE, image_uid, method, *named)

    def _instance(self, kind: str, sop_class_uid: str, *more: str) -> str:
        return uid_of(
            "instance",
            kind,
            sop_class_uid,
            self.study_instance_uid,
            self.digest,
            self.model_sha256,
            self.rules_version,
            *more,
        )


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The ``sr`` report of the same study that a new one replaces."""

    series_instance_uid: str
    sop_instance_uids: Mapping[str, str]
    """SOP Instance UID by SOP Class UID, of every file of that report."""


@dataclass(frozen=True, slots=True)
class EncodedReport:
    """A report ready to be sent: one object in every SOP class that it may travel as."""

    kind: str
    """``sr``, ``sc`` or ``saliency``."""
    files: Sequence["ReportFile"] = ()
    """In order of preference."""
    subject: str = ""
    """SOP Instance UID of the one image that it is about, '' when it is about the study."""


@dataclass(frozen=True, slots=True)
class ReportFile:
    """One DICOM file of a report."""

    sop_class_uid: str
    sop_instance_uid: str
    content: bytes
    """The complete DICOM file (PS3.10)."""
