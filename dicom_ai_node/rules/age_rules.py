"""E: PatientAge against the dates, and against the body.

Silent where an age is a placeholder (C1, C2) or censored (E8), or where dates may not be used.
"""

from collections.abc import Iterator

from dicom_ai_node.rules.ages_and_dates import UNIT_NAMES, YEARS_PER_UNIT, completed
from dicom_ai_node.rules.meaning import contradictions
from dicom_ai_node.rules.reading import DatedAge, Reading
from dicom_ai_node.rules.rule import CONFLICT, ERROR, INFORMATION, WARNING, Hit, each, rule


@rule(
    "E1", WARNING, "age", "PatientAge differs from the dates by more than one unit", status=CONFLICT
)
@each
def _off_by_units(reading: Reading) -> Iterator[Hit]:
    wrong = reading.mismatch
    if wrong and not wrong.conflict:
        yield Hit(_difference(wrong))


@rule("E2", ERROR, "age", "PatientAge differs from the dates by years", status=CONFLICT)
@each
def _off_by_years(reading: Reading) -> Iterator[Hit]:
    wrong = reading.mismatch
    if wrong and wrong.conflict:
        yield Hit(_difference(wrong))


def _difference(compared: DatedAge) -> str:
    years = f"{compared.implied:.1f} years"
    return f"PatientAge {compared.age}, and PatientBirthDate to StudyDate makes {years}"


@rule(
    "E3",
    WARNING,
    "age",
    "PatientAge is the age today, not at the study: an import recomputed it",
    status=CONFLICT,
)
@each
def _age_today(reading: Reading) -> Iterator[Hit]:
    wrong = reading.mismatch
    if wrong is None or wrong.age.unit != "Y":
        return
    if completed(wrong.birth, reading.today, "Y") == wrong.age.number:
        day = reading.header.clean("StudyDate")
        yield Hit(f"PatientAge {wrong.age} is the age today, not at StudyDate {day}")


@rule("E4", WARNING, "age", "PatientAge fits the dates in another unit", status=CONFLICT)
@each
def _other_unit(reading: Reading) -> Iterator[Hit]:
    wrong = reading.mismatch
    if wrong is None:
        return
    for unit in YEARS_PER_UNIT:
        units = completed(wrong.birth, wrong.study, unit)
        if unit != wrong.age.unit and abs(units - wrong.age.number) <= 1:
            yield Hit(f"PatientAge {wrong.age} would fit as {wrong.age.number} {UNIT_NAMES[unit]}")


@rule("E5", INFORMATION, "age", "PatientAge of an infant is in years")
@each
def _infant_in_years(reading: Reading) -> Iterator[Hit]:
    age, implied = reading.age, reading.implied_age
    if age is None or age.unit != "Y" or age.years >= reading.settings.infant_age:
        return
    # Without dates 000Y is a placeholder (C1), while 001Y is an infant.
    infant = age.number > 0 if implied is None else 0 <= implied < reading.settings.infant_age
    if infant:
        yield Hit(f"PatientAge {age} of an infant is in years; months, weeks or days say more")


@rule("E6", WARNING, "age", "PatientAge fits the dates with two digits transposed", status=CONFLICT)
@each
def _transposed(reading: Reading) -> Iterator[Hit]:
    wrong = reading.mismatch
    if wrong is None:
        return
    digits = f"{wrong.age.number:03d}"
    units = completed(wrong.birth, wrong.study, wrong.age.unit)
    for left in range(len(digits) - 1):
        swapped = digits[:left] + digits[left + 1] + digits[left] + digits[left + 2 :]
        if swapped != digits and abs(int(swapped) - units) <= 1:
            yield Hit(f"PatientAge {wrong.age} would fit as {swapped}{wrong.age.unit}")


@rule(
    "E7",
    WARNING,
    "age",
    "PatientAge does not go with size, weight or a paediatric protocol",
    status=CONFLICT,
)
@each
def _body(reading: Reading) -> Iterator[Hit]:
    if reading.age is None or reading.placeholder_age or reading.censored_age:
        return
    for contradiction in contradictions(reading, reading.age):
        yield Hit(f"PatientAge {reading.age} {contradiction}")


@rule("E8", INFORMATION, "age", "PatientAge is de-identified and a lower bound, never a mismatch")
@each
def _censored(reading: Reading) -> Iterator[Hit]:
    if reading.censored_age:
        yield Hit(f"PatientAge {reading.age} of a de-identified patient is a lower bound")
