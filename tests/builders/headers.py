"""Builds headers the way a file does: raw bytes, padded to an even length, nothing converted."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.rules import TextHeader, check
from dicom_ai_node.rules.text_header import ELEMENTS
from dicom_ai_node.types import HeaderCheck, PriorStudy, WorklistAnswer

TODAY = date(2024, 1, 15)

# A woman of 63 with nothing wrong.
SOUND = {
    "SpecificCharacterSet": "ISO_IR 100",
    "StudyDate": "20230610",
    "AcquisitionDate": "20230610",
    "Modality": "DX",
    "StudyDescription": "Chest PA",
    "PatientName": "Meier^Anna",
    "PatientID": "4711",
    "PatientBirthDate": "19600415",
    "PatientSex": "F",
    "PatientAge": "063Y",
    "StudyInstanceUID": "1.2.3",
    "PhotometricInterpretation": "MONOCHROME2",
    "PresentationLUTShape": "IDENTITY",
    "BurnedInAnnotation": "NO",
    "LossyImageCompression": "00",
    "BodyPartExamined": "CHEST",
}

Value = str | bytes | int | None
Changes = dict[str, Any]
"""Attributes by keyword, each a :data:`Value`; loosely typed, to be keyword arguments."""


def dataset(**changes: Value) -> Dataset:
    """A sound header with ``changes``; None leaves an attribute out, bytes are not padded."""
    ds = Dataset()
    values: dict[str, Value] = {**SOUND, **changes}
    for keyword, value in sorted(values.items(), key=lambda pair: ELEMENTS[pair[0]][0]):
        if value is None:
            continue
        number, vr = ELEMENTS[keyword]
        ds[number] = RawDataElement(
            Tag(number), vr, len(encoded(value)), encoded(value), 0, False, True
        )
    return ds


def encoded(value: str | bytes | int) -> bytes:
    if isinstance(value, int):
        return value.to_bytes(2, "little")
    if isinstance(value, bytes):
        return value
    content = value.encode("latin_1")
    return content + b" " * (len(content) % 2)


def header(**changes: Value) -> TextHeader:
    return TextHeader.from_dataset(dataset(**changes))


def checked(
    *instances: Mapping[str, Any],
    priors: tuple[PriorStudy, ...] = (),
    worklist: WorklistAnswer | None = None,
    today: date = TODAY,
    **settings: Any,
) -> HeaderCheck:
    """The check of one study with these instances; none given: one sound instance."""
    headers = [header(**changes) for changes in instances or ({},)]
    limits = RulesSettings(**settings)
    return check(headers, priors=priors, worklist=worklist, settings=limits, today=today)


def listed(birth_date: str = "", sex: str = "", age: str = "") -> WorklistAnswer:
    return WorklistAnswer("StudyInstanceUID", birth_date=birth_date, sex=sex, age=age)


ANOTHER_PATIENT = WorklistAnswer("AccessionNumber", other_patient=True)


def prior(
    day: date | None = date(2020, 6, 10),
    *,
    uid: str = "1.2.9",
    sex: str = "F",
    birth_date: str = "19600415",
    age: float | None = 60.0,
) -> PriorStudy:
    return PriorStudy(uid, day, sex, birth_date, age)
