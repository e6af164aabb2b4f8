"""B and C: attributes that no instance fills, and values that systems write when they know none.

Types are after PS3.3 C.7.1.1 and C.7.2.2.
"""

import re
from collections.abc import Iterator, Sequence

from dicom_ai_node.rules.reading import Reading, shown
from dicom_ai_node.rules.rule import (
    ERROR,
    IMPLAUSIBLE,
    INFORMATION,
    MISSING,
    WARNING,
    Case,
    Hit,
    each,
    rule,
    when,
)

_LETTERS = re.compile(r"[^\W\d_]+")


def _has_sex(case: Case) -> bool:
    """Whether every instance has the attribute, be it empty."""
    return all("PatientSex" in reading.header for reading in case.readings)


@rule(
    "B1",
    WARNING,
    "sex",
    "PatientSex is absent; it is of type 2 and has to be there, if only empty",
    status=MISSING,
)
@when
def _sex_absent(case: Case) -> bool:
    return case.lacks("PatientSex") and not _has_sex(case)


@rule("B2", INFORMATION, "sex", "PatientSex is empty", status=MISSING)
@when
def _sex_empty(case: Case) -> bool:
    return case.lacks("PatientSex") and _has_sex(case)


@rule("B3", WARNING, "age", "PatientAge is absent or empty", status=MISSING)
@when
def _no_age(case: Case) -> bool:
    return case.lacks("PatientAge")


@rule("B4", WARNING, "dates", "PatientBirthDate is absent or empty")
@when
def _no_birth_date(case: Case) -> bool:
    return case.lacks("PatientBirthDate")


@rule("B5", WARNING, "age", "PatientAge and PatientBirthDate are both missing", status=MISSING)
@when
def _no_age_at_all(case: Case) -> bool:
    return case.lacks("PatientAge") and case.lacks("PatientBirthDate")


@rule("B6", WARNING, "dates", "StudyDate is absent or empty")
@when
def _no_study_date(case: Case) -> bool:
    return case.lacks("StudyDate")


@rule(
    "C1",
    WARNING,
    "age",
    "PatientAge is zero (000D is right when the patient was born on the day of the study)",
    status=IMPLAUSIBLE,
)
@each
def _zero_age(reading: Reading) -> Iterator[Hit]:
    age = reading.age
    if age and age.number == 0 and reading.placeholder_age and age.unit == "D":
        yield Hit("PatientAge 000D although PatientBirthDate is not StudyDate")
    elif age and age.number == 0 and reading.placeholder_age:
        yield Hit(f"PatientAge {age} stands for no age; 000D would be right, on the day of birth")


@rule(
    "C2",
    ERROR,
    "age",
    "PatientAge is beyond a human life (warning: beyond nearly every human life)",
    status=IMPLAUSIBLE,
)
@each
def _high_age(reading: Reading) -> Iterator[Hit]:
    age, settings = reading.age, reading.settings
    if age and age.years >= settings.maximum_age:
        yield Hit(f"PatientAge {age} is {settings.maximum_age} years or more")
    elif age and age.years >= settings.remarkable_age:
        yield Hit(f"PatientAge {age} is {settings.remarkable_age} years or more", severity=WARNING)


@rule("C4", WARNING, "dates", "PatientBirthDate is what systems write for an unknown date")
@each
def _birth_placeholder(reading: Reading) -> Iterator[Hit]:
    if reading.placeholder_birth:
        text = reading.quoted("PatientBirthDate")
        yield Hit(f"PatientBirthDate {text} is what systems write for an unknown date")


@rule(
    "C5",
    INFORMATION,
    "dates",
    "PatientBirthDate is on a day that stands for 'only the year is known'",
)
@each
def _year_only(reading: Reading) -> Iterator[Hit]:
    if reading.year_only:
        text = reading.quoted("PatientBirthDate")
        yield Hit(f"PatientBirthDate {text}: month and day look filled in, only the year counts")


def test_name(reading: Reading) -> str:
    """The word of PatientName that marks no identified patient, '' when there is none."""
    return test_word(reading.header.clean("PatientName"), reading.settings.test_names)


def test_word(name: str, test_names: Sequence[str]) -> str:
    """The first of ``test_names`` that ``name`` holds, '' when it holds none.

    Whole words only: Tester and Probst are patients.
    """
    words = f" {' '.join(_LETTERS.findall(name.casefold()))} "
    return next((word for word in test_names if f" {word.casefold()} " in words), "")


def quality_control(case: Case) -> bool:
    """The subject is a phantom, or every image is one of quality control (PS3.3 C.7.1.1)."""
    headers = [reading.header for reading in case.readings]
    return any(header.says_yes("QualityControlSubject") for header in headers) or (
        bool(headers) and all(header.says_yes("QualityControlImage") for header in headers)
    )


@rule(
    "C7",
    INFORMATION,
    "identity",
    "The name or the quality control attributes say that this is no identified patient",
)
@each
def _not_a_patient(reading: Reading) -> Iterator[Hit]:
    if word := test_name(reading):
        # The word and not the name: it is enough to understand the finding.
        yield Hit(f"PatientName contains {shown(word)}")
    for keyword in ("QualityControlSubject", "QualityControlImage"):
        if reading.header.says_yes(keyword):
            yield Hit(f"{keyword} is YES")
