"""What is done to sound headers in the generated archive, and the rules that must say so.

A recipe is the rules, and the attributes that it changes.
"""

from collections.abc import Mapping, Sequence

from tests.builders.headers import Value

Changes = Mapping[str, Value]


def _dated(birth: str, study: str, age: str, **changes: Value) -> Changes:
    return {
        "PatientBirthDate": birth,
        "StudyDate": study,
        "AcquisitionDate": study,
        "PatientAge": age,
        **changes,
    }


# What may happen to any study of a patient: the patient's others do not see it.
ANYWHERE: Sequence[tuple[str, Changes]] = (
    ("A1", {"PatientAge": "UNK"}),
    ("A2", {"StudyDate": "2023.06.17"}),
    ("A3", {"PatientSex": "U"}),
    ("A4", {"PatientSex": "M\\F"}),
    ("A4", {"PatientAge": "063Y\\064Y"}),
    ("A5 J2", {"BodyPartExamined": b"CHEST\xe9"}),
    ("A6", {"SpecificCharacterSet": "LATIN1"}),
    ("B1", {"PatientSex": None}),
    ("B2", {"PatientSex": ""}),
    ("B3", {"PatientAge": None}),
    ("B4", {"PatientBirthDate": ""}),
    ("B3 B4 B5", {"PatientAge": "", "PatientBirthDate": ""}),
    ("B6", {"StudyDate": ""}),
    ("C1", {"PatientAge": "000Y"}),
    ("C2", {"PatientAge": "999Y"}),
    ("C7", {"PatientName": "TEST^PATIENT"}),
    ("C7", {"QualityControlSubject": "YES"}),
    ("D10", {"LongitudinalTemporalInformationModified": "MODIFIED"}),
    ("E7", {"PatientSize": "0.62"}),
    ("F2", {"PregnancyStatus": 7}),
    ("F4", {"PatientSpeciesDescription": "Canine"}),
    ("F6", {"PatientSex": "O"}),
    ("F8", {"PatientSize": "172"}),
    ("I1", {"BurnedInAnnotation": "YES"}),
    ("I2", {"RescaleSlope": "0", "RescaleIntercept": "0"}),
    ("I3", {"PresentationLUTShape": "INVERSE"}),
    ("I4", {"LossyImageCompression": "01"}),
    ("J1", {"BodyPartExamined": ""}),
    ("J2", {"BodyPartExamined": "CHEST_PA"}),
    ("J3", {"BodyPartExamined": "SKULL"}),
    ("J3 J4", {"BodyPartExamined": "KNEE"}),
)

# What contradicts the patient's other studies too: each to a patient who has only this one.
ALONE: Sequence[tuple[str, Changes]] = (
    ("D1 E2", _dated("20240620", "20230113", "040Y")),
    ("D2", _dated("19700612", "20250425", "054Y")),
    ("D3 E2", _dated("18950313", "20230613", "050Y")),
    ("D4", _dated("19400813", "19750313", "034Y")),
    ("D6 E2", _dated("19150420", "20230613", "008Y")),
    # The 15th month: day and month are swapped.
    ("A2 D7", _dated("19601504", "20230613", "063Y")),
    ("A2 D9", _dated("S35.04.15", "20230613", "063Y")),
    ("C2", _dated("19100813", "20230613", "112Y")),
    ("C4", _dated("19000101", "20230613", "063Y")),
    ("C5", _dated("19600101", "20230613", "063Y")),
    # 11 months old.
    ("E1", _dated("20220615", "20230530", "014M")),
    ("E2", _dated("19610416", "20230613", "050Y")),
    # 65 at the study, 69 today.
    ("E2 E3", _dated("19550220", "20200313", "069Y")),
    ("E2 E4", _dated("19600415", "20230613", "063M")),
    ("E2 E6", _dated("19590417", "20230613", "046Y")),
    # 17 months old.
    ("E5", _dated("20220113", "20230613", "001Y")),
    ("E8", _dated("19300415", "20230613", "093Y", PatientIdentityRemoved="YES")),
    ("F1", {"PatientSex": "M", "StudyDescription": "Pregnancy, before discharge"}),
    ("F3", _dated("19520415", "20230613", "071Y", PatientSex="F", PregnancyStatus=3)),
)

# What the listing says instead; the first three are no difference.
LISTED: Sequence[tuple[str, str, str]] = (
    ("", "PatientName", "lower case and carets"),
    ("", "PatientSex", "m or f"),
    ("", "StudyDate", "dots"),
    ("G8", "PatientID", "X00000"),
    ("G8", "PatientName", "Someone^Else"),
    ("G8", "PatientBirthDate", "19330303"),
    ("G8", "StudyDate", "20190919"),
    ("G8", "AccessionNumber", "B000000"),
)
