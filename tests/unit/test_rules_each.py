"""Every rule: the values that it fires on, and the nearest ones that it leaves alone."""

from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import JPEGBaseline8Bit

from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.rules import RULES, TextHeader, check
from dicom_ai_node.types import HeaderCheck, PriorStudy, Severity, WorklistAnswer
from tests.builders.headers import (
    ANOTHER_PATIENT,
    TODAY,
    Changes,
    Value,
    checked,
    dataset,
    listed,
    prior,
)


@dataclass(frozen=True)
class Sample:
    rule: str
    instances: tuple[Changes, ...]
    priors: tuple[PriorStudy, ...] = ()
    worklist: WorklistAnswer | None = None

    def __str__(self) -> str:
        values = [f"{k}={v!r}" for changes in self.instances for k, v in changes.items()]
        return f"{self.rule}-{','.join(values)}-{len(self.priors)}"

    def checked(self, **settings: Any) -> HeaderCheck:
        return checked(*self.instances, priors=self.priors, worklist=self.worklist, **settings)


def sample(rule: str, *priors: PriorStudy, **changes: Value) -> Sample:
    return Sample(rule, (changes,), priors)


def asked(rule: str, worklist: WorklistAnswer | None, **changes: Value) -> Sample:
    return Sample(rule, (changes,), worklist=worklist)


def study(rule: str, *instances: Changes) -> Sample:
    return Sample(rule, instances)


# Nothing of the dates is left, for rules that look at a single attribute.
UNDATED: Changes = {"PatientBirthDate": "", "StudyDate": "", "AcquisitionDate": ""}

FIRES = [
    *(sample("A1", PatientAge=v) for v in ("65", "65Y", "42", "UNK", "063y", "9 ", "0630Y")),
    *(sample("A2", PatientBirthDate=v) for v in ("1961.04.15", "00000000", "19610230")),
    sample("A2", StudyDate="1993.02.24"),
    sample("A2", AcquisitionDate="2023-6-1"),
    *(sample("A3", PatientSex=v) for v in ("U", "UNK", "m", "Male", "1", "o")),
    sample("A4", PatientSex="M\\F"),
    sample("A4", PatientSex=b" F"),
    sample("A4", PatientSex=b"F\0"),
    sample("A4", PatientSex=b"F   "),
    sample("A4", PatientAge="063Y\\064Y"),
    sample("A4", PatientAge=b" 063Y "),
    sample("A4", PatientBirthDate=b"19600415  "),
    sample("A5", PatientSex="m\xe4nnlich"),
    sample("A5", PatientAge=b"06\xb3Y"),
    sample("A5", StudyDate="2023061\xb2"),
    sample("A6", SpecificCharacterSet=None, PatientName="M\xfcller^Anna"),
    sample("A6", SpecificCharacterSet="ISO_IR 6", PatientName="M\xfcller^Anna"),
    sample("A6", SpecificCharacterSet="LATIN1"),
    sample("A6", SpecificCharacterSet="ISO_IR 192", PatientName="M\xfcller^Anna"),
    sample("A6", SpecificCharacterSet="\\ISO 2022 IR 87", PatientName=b"Yamada^\x1b$B\x80\x80 "),
    sample("A6", PatientName=b"Yamada^\x1b%Gxx"),
    sample("B1", PatientSex=None),
    sample("B2", PatientSex=""),
    sample("B2", PatientSex=b"  "),
    sample("B3", PatientAge=None),
    sample("B3", PatientAge=""),
    sample("B4", PatientBirthDate=""),
    sample("B4", PatientBirthDate=b"\0\0\0\0\0\0\0\0"),
    sample("B5", PatientAge="", PatientBirthDate=""),
    sample("B6", StudyDate=None),
    *(sample("C1", PatientAge=v, **UNDATED) for v in ("000Y", "000M", "000W", "000D")),
    sample("C1", PatientAge="000D", PatientBirthDate="20230609"),
    *(sample("C2", PatientAge=v) for v in ("999Y", "888Y", "120Y", "111Y", "119Y")),
    *(
        sample("C4", PatientBirthDate=v)
        for v in RulesSettings().placeholder_birth_dates
    ),
    sample("C5", PatientBirthDate="19600101"),
    sample("C5", PatientBirthDate="19600701"),
    *(
        sample("C7", PatientName=v)
        for v in ("TEST^PATIENT", "Phantom^Lung", "QC", "Service^Siemens", "TRAUMA123", "Unknown^A")
    ),
    sample("C7", PatientName="Daily_Quality Control"),
    sample("C7", QualityControlSubject="YES"),
    sample("C7", QualityControlImage="YES"),
    sample("D1", PatientBirthDate="20230611"),
    sample("D2", PatientBirthDate="20610415"),
    sample("D2", StudyDate="20990101"),
    sample("D2", AcquisitionDate="20240117"),
    sample("D3", PatientBirthDate="18600415"),
    sample("D4", StudyDate="18940610", Modality="OT"),
    sample("D4", StudyDate="19790610", Modality="CR"),
    sample("D4", StudyDate="19920610", Modality="DX"),
    sample("D5", AcquisitionDate="20230612"),
    sample("D5", AcquisitionDate="20230608"),
    sample("D6", PatientBirthDate="20600415"),
    sample("D6", PatientBirthDate="18600415"),
    sample("D6", PatientBirthDate="19200415", PatientAge="003Y"),
    sample("D6", PatientBirthDate="20600415", PatientAge=""),
    sample("D7", PatientBirthDate="19601504"),
    sample("D7", PatientBirthDate="20231104", PatientAge="002M"),
    sample("D7", StudyDate="20230506", AcquisitionDate="20230605"),
    sample("D9", PatientBirthDate="25030415"),
    sample("D9", PatientBirthDate="13390126"),
    sample("D9", PatientBirthDate="S35.04.15"),
    sample("D9", StudyDate="25660610"),
    sample("D10", LongitudinalTemporalInformationModified="MODIFIED"),
    sample("D10", LongitudinalTemporalInformationModified="REMOVED"),
    sample("E1", PatientAge="002M", PatientBirthDate="20230110"),
    sample("E1", PatientAge="010D", PatientBirthDate="20230529"),
    sample("E2", PatientAge="065Y"),
    sample("E2", PatientAge="061Y"),
    sample("E2", PatientAge="060Y", PatientBirthDate="19600101"),
    sample("E2", PatientAge="002M"),
    sample("E2", PatientBirthDate="20290415"),
    sample("E3", PatientAge="063Y", StudyDate="20150610", AcquisitionDate="20150610"),
    sample("E4", PatientAge="063M"),
    sample("E4", PatientAge="003Y", PatientBirthDate="20230301"),
    sample("E5", PatientAge="001Y", PatientBirthDate="20220515"),
    sample("E5", PatientAge="000Y", PatientBirthDate="20230301"),
    sample("E5", PatientAge="001Y", **UNDATED),
    sample("E6", PatientAge="036Y"),
    sample("E7", PatientSize="0.3"),
    sample("E7", PatientSize="90"),
    sample("E7", PatientWeight="3 "),
    sample("E7", StudyDescription="PAED_CHEST"),
    sample("E7", ProtocolName="Babygram"),
    sample("E7", PatientAge="006M", PatientWeight="80", **UNDATED),
    sample("E7", PatientAge="006M", PatientSize="1.75", **UNDATED),
    sample("E8", PatientAge="090Y", PatientIdentityRemoved="YES"),
    sample("E8", PatientAge="089Y", DeidentificationMethod="Basic Profile"),
    sample("F1", PatientSex="M", StudyDescription="Chest, 20th week of pregnancy"),
    sample("F1", PatientSex="M", RequestedProcedureDescription="Obstetric screening"),
    sample("F1", PatientSex="M", PregnancyStatus=3),
    sample("F1", PatientSex="F", AdmittingDiagnosesDescription="Prostate carcinoma"),
    sample("F2", PregnancyStatus=0),
    sample("F2", PregnancyStatus=5),
    sample("F2", PregnancyStatus=b"NO"),
    sample("F2", PregnancyStatus=b"unknown "),
    sample("F3", PregnancyStatus=3, PatientAge="061Y"),
    sample("F3", PregnancyStatus=2, PatientAge="008Y"),
    sample("F4", PatientSexNeutered="ALTERED"),
    sample("F4", PatientSpeciesDescription="Canine"),
    sample("F4", PatientBreedDescription="Portuguese Water Dog"),
    sample("F4", ResponsiblePersonRole="OWNER"),
    sample("F6", PatientSex="O"),
    sample("F6", SexParametersForClinicalUseCategoryComment="specified by referrer"),
    sample("F8", PatientSize="172"),
    sample("F8", PatientWeight="0.000000"),
    sample("F8", PatientSize="0.0"),
    sample("G1", prior(), prior(date(2021, 1, 1), uid="1.2.8", sex="M")),
    sample("G1", prior(None, sex="M")),
    sample("G1", prior(date(2023, 6, 10), sex="M")),
    sample("G1", prior(birth_date="19500415")),
    study("G2", {}, {"PatientSex": "M"}),
    study("G2", {}, {"PatientAge": "036Y"}),
    study("G2", {}, {"PatientAge": None}),
    study("G2", {}, {"PatientBirthDate": "19600416"}),
    study("G2", {}, {"PatientID": "4712"}),
    sample("G3", prior(age=64.0)),
    sample("G3", prior(date(2023, 12, 1), age=62.0)),
    sample("G4", prior(sex="M"), prior(date(2019, 1, 1), uid="1.2.8", sex="M")),
    sample("G4", prior(date(2023, 12, 1), sex="M")),
    asked("G6", listed(sex="M")),
    asked("G6", listed(birth_date="19610415")),
    asked("G6", listed(birth_date="19610101")),  # the year alone, and another one
    asked("G6", listed(sex="O")),
    asked("G6", ANOTHER_PATIENT),
    sample("I1", BurnedInAnnotation="YES"),
    sample("I2", WindowCenter="40", WindowWidth="0"),
    sample("I2", WindowCenter="40\\600", WindowWidth="400"),
    sample("I2", RescaleSlope="0"),
    sample("I2", RescaleIntercept="none"),
    sample("I3", PhotometricInterpretation="MONOCHROME1"),
    sample("I3", PresentationLUTShape="INVERSE"),
    sample("I4", LossyImageCompression="01"),
    sample("J1", BodyPartExamined=None),
    sample("J1", BodyPartExamined=b"  "),
    study("J1", {}, {"BodyPartExamined": "", "SeriesDescription": "Scout"}),
    *(sample("J2", BodyPartExamined=v) for v in ("Chest^PA", "chest", "C-SPINE", "UP_EXM", "XYZ")),
    sample("J3", BodyPartExamined="KNEE"),
    sample("J3", StudyDescription="CT Abdomen/Becken"),
    sample("J3", StudyDescription="", SeriesDescription="Knie links ap"),
    sample("J3", StudyDescription="", ProtocolName="L-Spine Routine"),
    sample("J3", StudyDescription="", RequestedProcedureDescription="MRT Kopf"),
    sample("J3", StudyDescription="", BodyPartExamined="thorax", SeriesDescription="foot"),
    sample("J4", BodyPartExamined="KNEE", StudyDescription="Knee"),
    sample("J4", BodyPartExamined="HAND", StudyDescription="left hand", Laterality="R"),
    sample("J4", BodyPartExamined="HIP", StudyDescription="Hip, right", ImageLaterality="L"),
    study(
        "J5",
        {"BodyPartExamined": "HEAD", "StudyDescription": "CT Head"},
        {"BodyPartExamined": "FOOT", "StudyDescription": "CT Head", "SeriesDescription": "Foot"},
    ),
]  # fmt: skip

QUIET = [
    *(sample("A1", PatientAge=v) for v in ("063Y", "012M", "002W", "000D", "", None)),
    sample("A2", PatientBirthDate="20000229"),
    sample("A2", PatientBirthDate="", AcquisitionDate=None),
    *(sample("A3", PatientSex=v) for v in ("M", "F", "O", "", None)),
    sample("A4", PatientSex=b"F "),
    sample("A4", PatientSex=b"F"),
    sample("A4", PatientSex=b"  "),
    sample("A4", PatientAge=b"9 "),
    sample("A5", PatientName="M\xfcller^Anna"),
    sample("A6", PatientName="M\xfcller^Anna"),
    sample("A6", SpecificCharacterSet=None),
    sample("A6", SpecificCharacterSet="ISO_IR 192", PatientName="Müller".encode()),
    sample(
        "A6",
        SpecificCharacterSet="\\ISO 2022 IR 87",
        PatientName=b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
    ),
    sample(
        "A6",
        SpecificCharacterSet="\\ISO 2022 IR 149",
        PatientName=b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7",
    ),
    sample("B1", PatientSex=""),
    sample("B2", PatientSex=None),
    study("B2", {}, {"PatientSex": ""}),
    sample("B3", PatientAge="UNK"),
    study("B3", {}, {"PatientAge": None}),
    sample("B4"),
    sample("B5", PatientAge=""),
    sample("B5", PatientBirthDate=""),
    sample("B6"),
    sample("C1", PatientAge="000D", PatientBirthDate="20230610"),
    sample("C1", PatientAge="001D", **UNDATED),
    sample("C2", PatientAge="110Y", **UNDATED),
    sample("C2", PatientAge="999M", **UNDATED),
    sample("C4", PatientBirthDate="19000102"),
    sample("C5", PatientBirthDate="19600102"),
    sample("C5", PatientBirthDate="19000101"),
    *(sample("C7", PatientName=v) for v in ("Tester^Anna", "Probst^Qiu", "Unknowles^A", "")),
    sample("C7", QualityControlSubject="NO"),
    sample("D1", PatientBirthDate="20230610"),
    sample("D2", AcquisitionDate="20240116"),
    sample("D3", PatientBirthDate="19000415"),
    sample("D4", StudyDate="19950610", Modality="DX"),
    sample("D4", StudyDate="19790610", Modality="OT"),
    sample("D5", AcquisitionDate="20230611"),
    sample("D6"),
    sample("D6", PatientBirthDate="19200415", PatientAge="060Y"),
    sample("D6", PatientBirthDate="99991231"),
    sample("D7", PatientBirthDate="19600405"),
    sample("D7", PatientBirthDate="19601313"),
    sample("D9", PatientBirthDate="11111111"),
    sample("D9"),
    sample("D10", LongitudinalTemporalInformationModified="UNMODIFIED"),
    sample("E1", PatientAge="064Y"),
    sample("E1", PatientAge="062Y"),
    sample("E1", PatientAge="065Y"),
    sample("E1", PatientAge="002M", PatientBirthDate="20230101"),
    sample("E1", PatientAge="001M", PatientBirthDate="20230510"),
    sample("E2", PatientAge="064Y"),
    sample("E2", PatientAge="061Y", PatientBirthDate="19600101"),
    sample("E2", PatientAge="999Y"),
    sample("E2", PatientAge="020Y", PatientBirthDate="19000101"),
    sample("E2", PatientAge="020Y", LongitudinalTemporalInformationModified="MODIFIED"),
    sample("E2", PatientAge="090Y", PatientIdentityRemoved="YES"),
    sample("E3", PatientAge="063Y"),
    sample("E3", PatientAge="060Y"),
    sample("E4", PatientAge="040Y"),
    sample("E5", PatientAge="013M", PatientBirthDate="20220505"),
    sample("E5", PatientAge="001Y"),
    sample("E5", PatientAge="000Y", **UNDATED),
    sample("E6", PatientAge="040Y"),
    sample("E6", PatientAge="064Y"),
    sample("E7", PatientSize="1.70", PatientWeight="70"),
    sample("E7", PatientSize="170", PatientWeight="0"),
    sample("E7", StudyDescription="Orthopaedics, knee"),
    sample("E7", PatientAge="005Y", StudyDescription="Paediatric chest", **UNDATED),
    sample("E7", PatientAge="006M", PatientWeight="8.5", PatientSize="0.68", **UNDATED),
    sample("E8", PatientAge="090Y"),
    sample("E8", PatientAge="088Y", PatientIdentityRemoved="YES"),
    sample("E8", PatientAge="999Y", PatientIdentityRemoved="YES"),
    sample("F1", PatientSex="F", StudyDescription="Chest, pregnant", PregnancyStatus=3),
    sample("F1", PatientSex="M", StudyDescription="Chest, not pregnant"),
    sample("F1", PatientSex="M", StudyDescription="Pregnant: no", PregnancyStatus=4),
    sample("F1", PatientSex="O", StudyDescription="Prostate", PregnancyStatus=3),
    *(sample("F2", PregnancyStatus=v) for v in (1, 2, 3, 4, b"", None)),
    sample("F3", PregnancyStatus=3, PatientAge="030Y"),
    sample("F3", PregnancyStatus=1),
    sample("F4", PatientSpeciesDescription="Human"),
    sample("F4", PatientSpeciesCodeSequence=b"337915000"),
    sample("F4", PatientBreedDescription="", ResponsiblePersonRole="PARENT"),
    sample("F6", PatientSex="M"),
    sample("F8", PatientSize="1.72", PatientWeight="0.9"),
    sample("G1", prior(sex="M"), prior(date(2019, 1, 1), uid="1.2.8", sex="M")),
    sample("G1", prior(sex="O")),
    sample("G1", prior(sex="")),
    sample("G1", prior(birth_date="19000101")),
    sample("G1", prior(birth_date="19600101")),
    sample("G1", prior(sex="M", birth_date="19500415", uid="1.2.3")),
    sample("G1", prior(None, sex="M", birth_date="19500415"), PatientID=""),
    study("G2", {}, {"SeriesDescription": "lateral"}),
    study("G2", {"PatientSex": b"F"}, {"PatientSex": b"F "}),
    study("G2", {"PatientSex": "O"}, {"PatientSex": "F"}),
    sample("G3", prior(age=60.0)),
    sample("G3", prior(age=63.0)),
    sample("G3", prior(None, age=80.0)),
    sample("G3", prior(date(2023, 1, 1), age=23 / 12), PatientAge="001Y"),
    sample("G4", prior()),
    asked("G6", None),
    asked("G6", listed("19600415", "F")),
    asked("G6", listed("19600101")),  # the year alone
    asked("G6", listed("19000101")),  # a placeholder
    asked("G6", listed(sex="M"), PatientSex="O"),
    asked("G6", listed(sex="M"), PatientSex=""),
    asked("G6", listed("19610415"), PatientBirthDate=""),
    asked("G6", listed("19610415"), LongitudinalTemporalInformationModified="MODIFIED"),
    sample("G4", prior(), prior(date(2018, 1, 1), uid="1.2.8", sex="M")),
    sample("G4", prior(sex="M"), PatientSex="O"),
    sample("I1"),
    sample("I2", WindowCenter="40\\600", WindowWidth="400\\1500"),
    sample("I2", RescaleSlope=b" 1", RescaleIntercept=b"-1024\0"),
    sample("I3", PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE"),
    sample("I3", PhotometricInterpretation="MONOCHROME1", PresentationLUTShape=None),
    sample("I4"),
    *(sample("J1", BodyPartExamined=v) for v in ("CHEST", "XYZ")),
    *(sample("J2", BodyPartExamined=v) for v in ("CHEST", "THORAX", "LUNG", "ARM", "UPPERARM", "")),
    sample("J2", BodyPartExamined=b"CHEST "),
    sample("J2", BodyPartExamined="STIFLE", PatientSpeciesDescription="Canine"),
    sample("J3"),
    sample("J3", BodyPartExamined="LUNG"),
    sample("J3", BodyPartExamined="WHOLEBODY", StudyDescription="PET skull to thigh"),
    sample("J3", BodyPartExamined="EXTREMITY", StudyDescription="Fibroma of distal tibia"),
    sample("J3", BodyPartExamined="HEADNECK", StudyDescription="CT C-Spine"),
    sample("J3", BodyPartExamined="LSPINE", StudyDescription="MR whole spine"),
    sample("J3", BodyPartExamined="CHEST", StudyDescription="CT neck, chest and abdomen"),
    sample("J3", BodyPartExamined="ABDOMEN", StudyDescription="chest to pelvis"),
    sample("J3", StudyDescription="", SeriesDescription="feet first, spine coil"),
    sample("J3", StudyDescription="", SeriesDescription="abdominal pain"),
    sample("J3", StudyDescription="CT Abdomen", SeriesDescription="Chest 1mm"),
    sample("J3", StudyDescription="CT Abdomen", ImageType="ORIGINAL\\PRIMARY\\LOCALIZER"),
    sample("J3", StudyDescription="", SeriesDescription="Lung 1.0", Modality="CT",
           BodyPartExamined="ABDOMEN"),
    sample("J3", BodyPartExamined="XYZ", StudyDescription="CT Abdomen"),
    sample("J4"),
    sample("J4", BodyPartExamined="KNEE", StudyDescription="Knee", Laterality="L"),
    sample("J4", BodyPartExamined="KNEE", StudyDescription="both knees"),
    sample("J4", BodyPartExamined="HAND", StudyDescription="Hands, left and right"),
    sample("J4", BodyPartExamined="HAND", StudyDescription="both hands", ImageLaterality="R"),
    sample("J4", BodyPartExamined="HIP", StudyDescription="CT hip", Modality="CT"),
    sample("J4", BodyPartExamined="KIDNEY", StudyDescription="left kidney"),
    sample("J4", BodyPartExamined="EXTREMITY", StudyDescription="Extremity"),
    sample("J4", BodyPartExamined="FOOT", AnatomicRegionSequence=b"x\\Left foot"),
    sample("J4", Laterality="L", SeriesDescription="RT"),
    study(
        "J5",
        {"BodyPartExamined": "HEAD", "StudyDescription": "CT Head and foot"},
        {"BodyPartExamined": "FOOT", "StudyDescription": "CT Head and foot"},
    ),
    study(
        "J5",
        {"BodyPartExamined": "CHEST", "StudyDescription": "CT Chest"},
        {"BodyPartExamined": "ABDOMEN", "StudyDescription": "CT Chest"},
    ),
    study(
        "J5",
        {"BodyPartExamined": "HEAD", "StudyDescription": "CT Head"},
        {"BodyPartExamined": "FOOT", "StudyDescription": "CT Head", "ImageType": "LOCALIZER"},
    ),
    study("J5", {"BodyPartExamined": "HEAD", "StudyDescription": ""}, {"BodyPartExamined": "FOOT"}),
]  # fmt: skip


@pytest.mark.parametrize("case", FIRES, ids=str)
def test_fires(case: Sample) -> None:
    assert case.rule in case.checked().rules


@pytest.mark.parametrize("case", QUIET, ids=str)
def test_leaves_alone(case: Sample) -> None:
    assert case.rule not in case.checked().rules


def test_every_rule_has_both() -> None:
    assert {case.rule for case in FIRES} == set(RULES) == {case.rule for case in QUIET}


@pytest.mark.parametrize("case", FIRES, ids=str)
def test_disabled_is_silent(case: Sample) -> None:
    assert case.rule not in case.checked(disabled=(case.rule,)).rules


def test_sound_header_has_no_findings() -> None:
    assert checked().findings == ()
    assert not checked().flagged


@pytest.mark.parametrize(
    ("rule", "changes", "severity"),
    [
        ("C2", {"PatientAge": "120Y"}, Severity.ERROR),
        ("C2", {"PatientAge": "119Y"}, Severity.WARNING),
        ("D4", {"StudyDate": "18940610"}, Severity.ERROR),
        ("D4", {"StudyDate": "19920610"}, Severity.WARNING),
    ],
)
def test_severity_depends_on_the_value(rule: str, changes: Changes, severity: Severity) -> None:
    (finding,) = (found for found in checked(changes).findings if found.rule == rule)
    assert finding.severity is severity


def test_sequences_of_items_are_read() -> None:
    ds, human, code = dataset(), Dataset(), Dataset()
    code.CodeValue, code.CodeMeaning = "337915000", "Homo sapiens"
    human.PatientSpeciesCodeSequence = [code]
    ds.PatientSpeciesCodeSequence = [code]
    assert "F4" not in _rules(ds)
    code.CodeValue, code.CodeMeaning = "448771007", "Canis lupus subspecies familiaris"
    assert "F4" in _rules(ds)
    code_sequence = dataset()
    parameters = Dataset()
    code_sequence.add_new(0x00100043, "SQ", [parameters])
    assert "F6" not in _rules(code_sequence)  # an item without content says nothing
    parameters.add_new(0x00100042, "UT", "see the referral")
    assert "F6" in _rules(code_sequence)
    empty = dataset()
    empty.add_new(0x00100043, "SQ", [])
    assert "F6" not in _rules(empty)


def test_unflagged_lossy_transfer_syntax() -> None:
    ds = dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    assert "I4" in _rules(ds)


def _rules(ds: Dataset) -> tuple[str, ...]:
    return check([TextHeader.from_dataset(ds)], settings=RulesSettings(), today=TODAY).rules
