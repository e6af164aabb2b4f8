"""F: attributes that do not go together.

Sex is never guessed from a name, and 'O' and sex parameters for clinical use are never wrong.
"""

import re
from collections.abc import Iterator

from dicom_ai_node.rules.meaning import meant_sex, salvaged_age
from dicom_ai_node.rules.reading import DESCRIPTIONS, Reading, read_decimal, shown, stated
from dicom_ai_node.rules.rule import CONFLICT, ERROR, INFORMATION, WARNING, Hit, each, rule

_OBSTETRIC = re.compile(
    r"\b(pregnan\w*|obstet\w*|gravid\w*|f(o)?et(al|us)|prenatal|antenatal|schwanger\w*"
    r"|geburtshilf\w*|grossesse|embaraz\w*)\b",
    re.IGNORECASE,
)
_PROSTATE = re.compile(r"\bprostat\w*\b", re.IGNORECASE)
_PREGNANCY = {1: "not pregnant", 2: "possibly pregnant", 3: "definitely pregnant", 4: "unknown"}
_HUMAN = re.compile(r"\b(human\w*|homo|337915000|L-85B00)\b", re.IGNORECASE)


def _pregnancy_status(reading: Reading) -> int | None:
    """PregnancyStatus as a number, None when there is none (PS3.3 C.7.2.2)."""
    text = reading.header.clean("PregnancyStatus")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else None


@rule(
    "F1",
    WARNING,
    "sex",
    "Pregnancy, obstetric or prostate text or a pregnancy against PatientSex",
    status=CONFLICT,
)
@each
def _text_against_sex(reading: Reading) -> Iterator[Hit]:
    sex = meant_sex(reading)
    pattern = {"M": _OBSTETRIC, "F": _PROSTATE}.get(sex)
    if pattern is None or reading.sex_respected:
        return
    for keyword in DESCRIPTIONS:
        if word := stated(pattern, reading.header.clean(keyword)):
            yield Hit(f"PatientSex {sex} and {keyword} says {shown(word)}")
    status = _pregnancy_status(reading)
    if sex == "M" and status in {2, 3}:
        yield Hit(f"PatientSex M and PregnancyStatus {status} ({_PREGNANCY[status]})")


@rule("F2", ERROR, "sex", "PregnancyStatus is none of 1 to 4")
@each
def _pregnancy_code(reading: Reading) -> Iterator[Hit]:
    if reading.header.clean("PregnancyStatus") and _pregnancy_status(reading) not in _PREGNANCY:
        yield Hit(f"PregnancyStatus {reading.quoted('PregnancyStatus')} is none of 1, 2, 3, 4")


@rule("F3", WARNING, "age", "Pregnant at an age at which nobody is")
@each
def _pregnant_at_age(reading: Reading) -> Iterator[Hit]:
    status = _pregnancy_status(reading)
    age = reading.age or salvaged_age(reading)
    if status not in {2, 3} or age is None or reading.placeholder_age:
        return
    settings = reading.settings
    if not settings.pregnant_minimum_age <= age.years <= settings.pregnant_maximum_age:
        yield Hit(
            f"PregnancyStatus {status} ({_PREGNANCY[status]}) at PatientAge {age}",
            # A lower bound of an age contradicts nothing (E8).
            status=None if reading.censored_age else CONFLICT,
        )


def animal(reading: Reading) -> str:
    """The attribute that says that the patient is an animal, '' when none does (PS3.3 C.7.1.1)."""
    header = reading.header
    for keyword in ("PatientSexNeutered", "PatientBreedDescription", "PatientBreedCodeSequence"):
        if header.says(keyword):
            return keyword
    for keyword in ("PatientSpeciesDescription", "PatientSpeciesCodeSequence"):
        if header.says(keyword) and not _HUMAN.search(header.clean(keyword)):
            return keyword
    # A responsible person alone is a child's parent.
    return "ResponsiblePersonRole" if header.clean("ResponsiblePersonRole") == "OWNER" else ""


@rule(
    "F4",
    WARNING,
    "identity",
    "Neutered, species, breed or owner: a veterinary patient, not assessed",
)
@each
def _veterinary(reading: Reading) -> Iterator[Hit]:
    if keyword := animal(reading):
        yield Hit(f"{keyword} {reading.quoted(keyword)}: a veterinary patient")


@rule(
    "F6",
    INFORMATION,
    "sex",
    "PatientSex O, sex parameters or a gender identity: no conflict with the image",
)
@each
def _respected(reading: Reading) -> Iterator[Hit]:
    if reading.sex == "O":
        yield Hit("PatientSex is O: sex is not held against the image")
    elif reading.sex_respected:
        yield Hit(
            "Sex parameters for clinical use or a gender identity are given: sex is not held "
            "against the image"
        )


@rule("F8", WARNING, "identity", "PatientSize in centimetres, or a size or weight of 0")
@each
def _body_measures(reading: Reading) -> Iterator[Hit]:
    header = reading.header
    size = read_decimal(header.clean("PatientSize"))
    if size is not None and size > reading.settings.maximum_size:
        yield Hit(f"PatientSize {reading.quoted('PatientSize')} is in metres: centimetres?")
    elif size == 0:
        yield Hit("PatientSize is 0")
    if read_decimal(header.clean("PatientWeight")) == 0:
        yield Hit("PatientWeight is 0")
