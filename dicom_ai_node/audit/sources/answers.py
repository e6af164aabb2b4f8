"""What a PACS is asked at each level, and its answers as headers (PS3.4 C.6.2.1)."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword

from dicom_ai_node.dicom.values import text_of
from dicom_ai_node.rules import Header
from dicom_ai_node.rules.header import ATTRIBUTES

STUDY = (
    *("SpecificCharacterSet", "StudyDate", "AccessionNumber", "ModalitiesInStudy"),
    *("StudyDescription", "AdmittingDiagnosesDescription", "PatientName", "PatientID"),
    *("IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientSize"),
    *("PatientWeight", "PregnancyStatus", "PatientSpeciesDescription", "PatientSexNeutered"),
    *("PatientBreedDescription", "ResponsiblePersonRole", "QualityControlSubject"),
    *("PatientIdentityRemoved", "DeidentificationMethod", "RequestedProcedureDescription"),
    *("LongitudinalTemporalInformationModified", "StudyInstanceUID"),
    "NumberOfStudyRelatedInstances",
)
SERIES = (
    *("SpecificCharacterSet", "Modality", "Manufacturer", "StationName", "SeriesDescription"),
    *("ManufacturerModelName", "BodyPartExamined", "SoftwareVersions", "ProtocolName"),
    *("PerformedProcedureStepDescription", "SeriesInstanceUID", "NumberOfSeriesRelatedInstances"),
)
IMAGE = (
    *("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "AcquisitionDate", "ViewPosition"),
    *("PhotometricInterpretation", "QualityControlImage", "BurnedInAnnotation", "WindowCenter"),
    *("WindowWidth", "RescaleIntercept", "RescaleSlope", "LossyImageCompression"),
    "PresentationLUTShape",
)
"""Return keys of each level: what the header rules read of it, and what places the answer."""


@dataclass(frozen=True, slots=True)
class Image:
    """One instance as a source listed it. UIDs are '' where the source names none."""

    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    header: Header
    """With what its study and its series said."""


def query(level: str, keys: Iterable[str], **matching: str) -> Dataset:
    """Return an identifier that asks for ``keys`` where ``matching`` holds."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword in keys:
        tag, vr = _tag_and_vr(keyword)
        identifier.add_new(tag, vr, None)
    for keyword, value in matching.items():
        setattr(identifier, keyword, value)
    return identifier


def number_of(answer: Dataset, keyword: str) -> int | None:
    """Return a count, None when there is none."""
    text = text_of(answer, keyword)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def texts_of(answer: Dataset, keyword: str) -> list[str]:
    """Return the values of an attribute with several, without padding."""
    parts = text_of(answer, keyword).split("\\")
    return [text for part in parts if (text := part.strip())]


def below(parent: Header, answer: Dataset) -> Header:
    """Return what is known of a part: its own answer, and what it does not say from its parent.

    A peer returns an empty value for a key that it does not keep at a level.
    """
    own = Header.from_dataset(answer)
    said = {key: value for key, value in own.values.items() if value.strip(" \0")}
    undecodable = frozenset(parent.undecodable - said.keys() | own.undecodable & said.keys())
    values = {**own.values, **parent.values, **said}
    return replace(own, values=values, undecodable=undecodable)


def tag_of(keyword: str) -> int:
    """Return the tag of a return key."""
    return _tag_and_vr(keyword)[0]


def _tag_and_vr(keyword: str) -> tuple[int, str]:
    if keyword in ATTRIBUTES:
        return ATTRIBUTES[keyword]
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return tag, "IS" if keyword.startswith("NumberOf") else "CS" if "Modal" in keyword else "UI"
