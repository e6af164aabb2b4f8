"""Patient and study of a report: verbatim copies of the source's modules, never anything inferred.

An archive that sees a different patient module may split or merge patients, so values are copied
even where they are empty or wrong. A type 2 attribute that the source leaves out is written empty,
which means the same (PS3.5 7.4.3).
"""

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicom_ai_node.dicom.encoding import tag_of
from dicom_ai_node.report.elements import raw_element, verbatim


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
