"""Patient and study of a report: verbatim copies of the source's modules, never anything inferred.

An archive that sees a different patient module may split or merge patients, so values are copied
even where they are empty or wrong. A type 2 attribute that the source leaves out is written empty,
which means the same (PS3.5 7.4.3). What else the source headers say, a report states in the form
that its templates ask for.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.tag import Tag

from dicom_ai_node.answers import ImageRef, ImageResult
from dicom_ai_node.dicom.encoding import tag_of
from dicom_ai_node.dicom.values import sop_class_of, text_of
from dicom_ai_node.errors import InvalidReport
from dicom_ai_node.report import codes
from dicom_ai_node.report.elements import raw_element, verbatim
from dicom_ai_node.types import HeaderCheck

MOST_IMAGES = 32
"""Of more images than these a report does not speak one by one."""


def _tags(keywords: str) -> list[int]:
    return [tag_of(keyword) for keyword in keywords.split()]


PATIENT = _tags("""
    ReferencedPatientSequence PatientName PatientID IssuerOfPatientID TypeOfPatientID
    IssuerOfPatientIDQualifiersSequence SourcePatientGroupIdentificationSequence
    GroupOfPatientsIdentificationSequence PatientBirthDate PatientBirthTime
    PatientBirthDateInAlternativeCalendar PatientDeathDateInAlternativeCalendar
    PatientAlternativeCalendar PatientSex QualityControlSubject StrainDescription
    StrainNomenclature StrainStockSequence StrainAdditionalInformation StrainCodeSequence
    GeneticModificationsSequence OtherPatientIDs OtherPatientNames OtherPatientIDsSequence
    EthnicGroup EthnicGroupCodeSequence PatientSpeciesDescription PatientSpeciesCodeSequence
    PatientBreedDescription PatientBreedCodeSequence BreedRegistrationSequence ResponsiblePerson
    ResponsiblePersonRole ResponsibleOrganization PatientComments PatientIdentityRemoved
    DeidentificationMethod DeidentificationMethodCodeSequence
""")
"""Patient Module, PS3.3 C.7.1.1."""

STUDY = _tags("""
    StudyInstanceUID StudyDate StudyTime AccessionNumber IssuerOfAccessionNumberSequence
    ReferringPhysicianName ReferringPhysicianIdentificationSequence ConsultingPhysicianName
    ConsultingPhysicianIdentificationSequence StudyDescription ProcedureCodeSequence
    PhysiciansOfRecord PhysiciansOfRecordIdentificationSequence NameOfPhysiciansReadingStudy
    PhysiciansReadingStudyIdentificationSequence ReferencedStudySequence StudyID RequestingService
    RequestingServiceCodeSequence ReasonForPerformedProcedureCodeSequence
""")
"""General Study Module, PS3.3 C.7.2.1."""

PATIENT_STUDY = _tags("""
    AdmittingDiagnosesDescription AdmittingDiagnosesCodeSequence PatientAge PatientSize
    PatientSizeCodeSequence PatientBodyMassIndex MeasuredAPDimension MeasuredLateralDimension
    PatientWeight MedicalAlerts Allergies Occupation SmokingStatus AdditionalPatientHistory
    PregnancyStatus LastMenstrualDate PatientSexNeutered ReasonForVisit ReasonForVisitCodeSequence
    AdmissionID IssuerOfAdmissionIDSequence ServiceEpisodeID ServiceEpisodeDescription
    IssuerOfServiceEpisodeIDSequence PatientState
""")
"""Patient Study Module, PS3.3 C.7.2.2."""

TRIAL = _tags("""
    ClinicalTrialSponsorName ClinicalTrialProtocolID ClinicalTrialProtocolName
    IssuerOfClinicalTrialProtocolID OtherClinicalTrialProtocolIDsSequence ClinicalTrialSiteID
    ClinicalTrialSiteName IssuerOfClinicalTrialSiteID ClinicalTrialSubjectID
    IssuerOfClinicalTrialSubjectID ClinicalTrialSubjectReadingID
    IssuerOfClinicalTrialSubjectReadingID ClinicalTrialProtocolEthicsCommitteeName
    ClinicalTrialProtocolEthicsCommitteeApprovalNumber ClinicalTrialTimePointID
    ClinicalTrialTimePointDescription LongitudinalTemporalOffsetFromEvent
    LongitudinalTemporalEventType ClinicalTrialTimePointTypeCodeSequence
    IssuerOfClinicalTrialTimePointID ConsentForClinicalTrialUseSequence
""")
"""Clinical Trial Subject and Study Modules, PS3.3 C.7.1.3 and C.7.2.3."""

SOP_COMMON = _tags("SpecificCharacterSet TimezoneOffsetFromUTC")
"""What of SOP Common (PS3.3 C.12.1) decides how the copied text, dates and times are read."""

GENDER = [0x00100011, 0x00100014, 0x00100041, 0x00100043]
"""Names to Use, Pronouns, Gender Identity, Sex Parameters for Clinical Use (Patient Study)."""

COPIED = [*PATIENT, *STUDY, *PATIENT_STUDY, *GENDER, *TRIAL, *SOP_COMMON]
TYPE_2 = {
    tag_of("PatientName"): "PN",
    tag_of("PatientID"): "LO",
    tag_of("PatientBirthDate"): "DA",
    tag_of("PatientSex"): "CS",
    tag_of("StudyDate"): "DA",
    tag_of("StudyTime"): "TM",
    tag_of("AccessionNumber"): "SH",
    tag_of("ReferringPhysicianName"): "PN",
    tag_of("StudyID"): "SH",
}


def copied_modules(source: Dataset) -> list[RawDataElement]:
    """Return the Patient, Study and Clinical Trial modules of ``source``, and its character set."""
    copies = {tag: copy for tag in COPIED if (copy := verbatim(source, tag)) is not None}
    for tag, vr in TYPE_2.items():
        copies.setdefault(tag, raw_element(tag, vr, b""))
    return list(copies.values())


def differing(report: Dataset, source: Dataset) -> list[str]:
    """Return the tags of the copied modules in which ``report`` is not the same as ``source``."""
    expected = {int(copy.tag): copy.value for copy in copied_modules(source)}
    found = {tag: copy.value for tag in COPIED if (copy := verbatim(report, tag)) is not None}
    return [
        str(Tag(tag)) for tag in sorted(expected | found) if expected.get(tag) != found.get(tag)
    ]


@dataclass(frozen=True, slots=True)
class NamedImage:
    """One image that a report names as evidence."""

    image: ImageRef
    modality: str
    """'' where the file could not be read."""


def recorded_age(check: HeaderCheck) -> tuple[int, Code] | None:
    """Return PatientAge as number and unit (CID 7456), None when it is empty or unusable."""
    row = check.attributes["PatientAge"]
    match = re.fullmatch(r"(\d{3})([DWMY])", row.recorded.strip())
    if match is None or row.value is None:
        return None
    return int(match[1]), codes.AGE_UNIT[match[2]]


def ordered(sources: Sequence[Dataset]) -> list[Dataset]:
    """Return the sources in an order that does not depend on when they came.

    Raises InvalidReport: when there is none, or they are of more than one study.
    """
    if not sources:
        raise InvalidReport("a report needs the header of at least one image")
    studies = {text_of(ds, "StudyInstanceUID") for ds in sources}
    if len(studies) > 1:
        raise InvalidReport(f"the sources are of {len(studies)} studies")
    return sorted(
        sources, key=lambda ds: (text_of(ds, "SeriesInstanceUID"), text_of(ds, "SOPInstanceUID"))
    )


def named_images(sources: Iterable[Dataset], results: Iterable[ImageResult]) -> list[NamedImage]:
    """Return every image that was read, and those that could not be, each once."""
    images = {}
    for ds in sources:
        ref = _ref(ds)
        images[ref.sop_instance_uid] = NamedImage(ref, text_of(ds, "Modality"))
    for one in sorted(results, key=lambda one: one.image.sop_instance_uid):
        images.setdefault(one.image.sop_instance_uid, NamedImage(one.image, ""))
    return list(images.values())


def told_images(images: Sequence[NamedImage], results: Iterable[ImageResult]) -> list[NamedImage]:
    """Return the images that the content of a report names: all, unless they are many.

    Then those that a network was shown or that could not be, and of each series of which there is
    none its first.
    """
    if len(images) <= MOST_IMAGES:
        return list(images)
    shown = {one.image.sop_instance_uid for one in results}
    told, series = [], set()
    for one in sorted(images, key=lambda one: one.image.sop_instance_uid not in shown):
        if one.image.sop_instance_uid in shown or one.image.series_instance_uid not in series:
            told.append(one.image.sop_instance_uid)
        series.add(one.image.series_instance_uid)
    return [one for one in images if one.image.sop_instance_uid in set(told)]


def _ref(ds: Dataset) -> ImageRef:
    return ImageRef(
        sop_class_uid=sop_class_of(ds),
        sop_instance_uid=text_of(ds, "SOPInstanceUID"),
        series_instance_uid=text_of(ds, "SeriesInstanceUID"),
    )
