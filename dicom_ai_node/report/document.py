"""Everything of a Structured Report beside its content tree, and its way into a file.

Assembled with pydicom rather than highdicom's SOP classes: those validate the patient's values and
stamp the time of day, and a report must copy the one verbatim and be the same at every retry.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import groupby

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from dicom_ai_node.answers import ImageRef
from dicom_ai_node.config.stages import ReportSettings
from dicom_ai_node.dicom.encoding import tag_of
from dicom_ai_node.dicom.marks import CODING_SCHEME, software_version
from dicom_ai_node.dicom.part10 import file_head
from dicom_ai_node.dicom.uids import PROGRAM_UID
from dicom_ai_node.dicom.values import text_of
from dicom_ai_node.report import codes
from dicom_ai_node.report.elements import (
    Element,
    encode,
    raw_element,
    sequence,
    verbatim,
)
from dicom_ai_node.report.identity import Predecessor, ReportFile, ReportIdentity
from dicom_ai_node.report.modules import NamedImage, copied_modules

_OF_STUDY = (
    "AccessionNumber",
    "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest",
    "ReferencedStudySequence",
)
_OF_REQUEST = (
    "RequestedProcedureID",
    "RequestedProcedureDescription",
    "RequestedProcedureCodeSequence",
)


@dataclass(frozen=True, slots=True)
class Frame:
    """What all objects of one report have in common."""

    source: Dataset
    """The header that patient and study are copied from."""
    images: Sequence[NamedImage]
    identity: ReportIdentity
    settings: ReportSettings
    created: datetime
    subject: str
    """What the report is about, as the name of its series."""

    def file(self, sop_class_uid: str, content: bytes) -> ReportFile:
        """Return the object of one SOP class, ready to be sent."""
        return ReportFile(sop_class_uid, self.identity.sop_instance_uid(sop_class_uid), content)


def sr_document(
    frame: Frame,
    tree: Sequence[RawDataElement],
    *,
    sop_class_uid: str,
    predecessor: Predecessor | None,
) -> bytes:
    """Return the SR file of one SOP class (PS3.3 A.35.2, A.35.3 or A.35.13).

    ``tree`` are the attributes of the root content item.
    """
    ds = common_attributes(frame, sop_class_uid=sop_class_uid, kind="sr")
    ds.Modality = "SR"
    ds.SeriesNumber = frame.settings.series_number
    ds.SeriesDescription = f"{frame.subject}, not verified"
    ds.ReferencedPerformedProcedureStepSequence = []
    ds.PerformedProcedureCodeSequence = []
    ds.CompletionFlag = "COMPLETE"
    ds.VerificationFlag = "UNVERIFIED"
    ds.PreliminaryFlag = "PRELIMINARY"
    study = frame.identity.study_instance_uid
    ds.CurrentRequestedProcedureEvidenceSequence = [
        _instances(study, [one.image for one in frame.images])
    ]
    if predecessor is not None and predecessor.sop_instance_uids:
        ds.PredecessorDocumentsSequence = [_document(predecessor, study, sop_class_uid)]
    return encode_file(ds, frame.source, extra=[*tree, *_requests(frame.source)])


def common_attributes(frame: Frame, *, sop_class_uid: str, kind: str) -> Dataset:
    """Return SOP Common, General Equipment and what else reports of either kind begin with."""
    settings = frame.settings
    # the zone that the copied dates and times are in
    when = local_time(frame.created, offset=text_of(frame.source, "TimezoneOffsetFromUTC"))
    ds = Dataset()
    ds.SOPClassUID = sop_class_uid
    ds.SOPInstanceUID = frame.identity.sop_instance_uid(sop_class_uid)
    ds.InstanceCreatorUID = PROGRAM_UID
    ds.InstanceCreationDate = ds.ContentDate = when.strftime("%Y%m%d")
    ds.InstanceCreationTime = ds.ContentTime = when.strftime("%H%M%S")
    ds.SeriesInstanceUID = frame.identity.series_instance_uid(kind)
    ds.InstanceNumber = 1
    ds.Manufacturer = settings.manufacturer
    ds.ManufacturerModelName = settings.model_name
    ds.DeviceSerialNumber = settings.device_serial_number
    ds.SoftwareVersions = software_version()
    if settings.institution_name:
        ds.InstitutionName = settings.institution_name
    ds.CodingSchemeIdentificationSequence = [_private_scheme(settings)]
    ds.ContributingEquipmentSequence = [_equipment(settings)]
    return ds


def encode_file(
    ds: Dataset,
    source: Dataset,
    *,
    extra: Sequence[RawDataElement] = (),
    syntax: str = ExplicitVRLittleEndian,
) -> bytes:
    """Return the PS3.10 file of ``ds`` with the patient and study of ``source``.

    ``syntax`` is the transfer syntax of the pixels in ``ds``, one of Explicit VR Little Endian.
    """
    elements: dict[int, Element] = {element.tag: element for element in (*ds, *extra)}
    elements |= {copy.tag: copy for copy in copied_modules(source)}
    head = file_head(
        sop_class_uid=ds.SOPClassUID,
        sop_instance_uid=ds.SOPInstanceUID,
        transfer_syntax_uid=syntax,
    )
    return head + encode(elements.values())


def coded(code: Code) -> Dataset:
    """Return a code sequence item (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def referenced(image: ImageRef) -> Dataset:
    """Return a SOP instance reference (PS3.3 10.8)."""
    item = Dataset()
    item.ReferencedSOPClassUID = image.sop_class_uid
    item.ReferencedSOPInstanceUID = image.sop_instance_uid
    return item


def _instances(study: str, images: Sequence[ImageRef]) -> Dataset:
    """Hierarchical SOP Instance Reference Macro, PS3.3 C.17.2.1."""
    item = Dataset()
    item.StudyInstanceUID = study
    item.ReferencedSeriesSequence = []
    ordered = sorted(images, key=lambda one: (one.series_instance_uid, one.sop_instance_uid))
    for series, members in groupby(ordered, key=lambda one: one.series_instance_uid):
        referenced_series = Dataset()
        referenced_series.SeriesInstanceUID = series
        referenced_series.ReferencedSOPSequence = [referenced(one) for one in members]
        item.ReferencedSeriesSequence.append(referenced_series)
    return item


def _document(report: Predecessor, study: str, sop_class_uid: str) -> Dataset:
    """Name an earlier report, as its object of the same SOP class where it has one."""
    if sop_class_uid not in report.sop_instance_uids:
        sop_class_uid = next(iter(report.sop_instance_uids))
    uid = report.sop_instance_uids[sop_class_uid]
    return _instances(study, [ImageRef(sop_class_uid, uid, report.series_instance_uid)])


def _requests(source: Dataset) -> list[RawDataElement]:
    """Referenced Request Sequence (PS3.3 C.17.2, 1C) from the source's Request Attributes."""
    requests = verbatim(source, tag_of("RequestAttributesSequence"))
    if requests is None or not requests.value:
        return []
    wrapper = Dataset({requests.tag: requests})
    study = verbatim(source, tag_of("StudyInstanceUID"))
    items = []
    for request in wrapper.RequestAttributesSequence:
        elements: list[Element] = [] if study is None else [study]
        elements += [_or_empty(source, keyword) for keyword in _OF_STUDY]
        elements += [_or_empty(request, keyword) for keyword in _OF_REQUEST]
        items.append(elements)
    return [sequence(tag_of("ReferencedRequestSequence"), items)]


def _or_empty(holder: Dataset, keyword: str) -> Element:
    tag = tag_of(keyword)
    return verbatim(holder, tag) or raw_element(tag, dictionary_VR(tag), b"")


def _equipment(settings: ReportSettings) -> Dataset:
    """Contributing Equipment (PS3.3 C.12.1.1.5): who made this, also after a copy or coercion."""
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [coded(codes.PROCESSING_EQUIPMENT)]
    item.Manufacturer = settings.manufacturer
    item.ManufacturerModelName = settings.model_name
    item.DeviceSerialNumber = settings.device_serial_number
    item.SoftwareVersions = software_version()
    item.ContributionDescription = "Header audit and inference of age and sex"
    if settings.institution_name:
        item.InstitutionName = settings.institution_name
    return item


def _private_scheme(settings: ReportSettings) -> Dataset:
    item = Dataset()
    item.CodingSchemeDesignator = CODING_SCHEME
    item.CodingSchemeName = "Codes of dicom_ai_node"
    item.CodingSchemeResponsibleOrganization = settings.manufacturer
    return item


def local_time(created: datetime, *, offset: str) -> datetime:
    """Return ``created`` in the zone of a TimezoneOffsetFromUTC; as it is without one."""
    if created.tzinfo is None or len(offset) != 5 or not offset[1:].isdecimal():
        return created
    minutes = (int(offset[1:3]) * 60 + int(offset[3:])) * (-1 if offset[0] == "-" else 1)
    if abs(minutes) >= 24 * 60:
        return created
    return created.astimezone(timezone(timedelta(minutes=minutes)))
