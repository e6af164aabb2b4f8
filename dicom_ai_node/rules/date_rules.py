"""D: dates that cannot be, and what may have become of them.

All of it is silent when de-identification modified the dates (D10).
"""

from collections.abc import Iterator
from datetime import date

from dicom_ai_node.rules.ages_and_dates import (
    other_calendar,
    shift_years,
    swap_day_and_month,
    write_date,
    years_between,
)
from dicom_ai_node.rules.reading import DATE_KEYWORDS, Reading
from dicom_ai_node.rules.rule import ERROR, INFORMATION, WARNING, Hit, each, rule


def _both(reading: Reading) -> tuple[date, date] | None:
    """Birth and study date, placeholders included: they too must be in order."""
    if reading.dates_modified or reading.birth is None or reading.study is None:
        return None
    return reading.birth, reading.study


@rule("D1", ERROR, "dates", "PatientBirthDate is after StudyDate")
@each
def _born_after(reading: Reading) -> Iterator[Hit]:
    dates = _both(reading)
    if dates and dates[0] > dates[1]:
        yield Hit(
            f"PatientBirthDate {write_date(dates[0])} is after StudyDate {write_date(dates[1])}"
        )


@rule("D2", ERROR, "dates", "A date is in the future")
@each
def _in_future(reading: Reading) -> Iterator[Hit]:
    if reading.dates_modified:
        return
    latest = reading.today.toordinal() + reading.settings.future_tolerance_days
    days = (reading.birth, reading.study, reading.acquisition)
    for keyword, day in zip(DATE_KEYWORDS, days, strict=True):
        if day is not None and day.toordinal() > latest:
            yield Hit(f"{keyword} {write_date(day)} is in the future")


@rule("D3", ERROR, "dates", "The dates imply an age that nobody reaches")
@each
def _too_old(reading: Reading) -> Iterator[Hit]:
    dates = _both(reading)
    if dates and years_between(*dates) > reading.settings.maximum_implied_age:
        yield Hit(
            f"PatientBirthDate {write_date(dates[0])} makes an age of "
            f"{years_between(*dates):.0f} years at StudyDate {write_date(dates[1])}"
        )


@rule("D4", ERROR, "dates", "StudyDate is before X-rays (warning: before its modality)")
@each
def _before_the_technique(reading: Reading) -> Iterator[Hit]:
    if reading.dates_modified or reading.study is None:
        return
    settings, study = reading.settings, reading.study
    modality = reading.header.clean("Modality")
    first = {"CR": settings.first_cr_year, "DX": settings.first_dx_year}.get(modality, 0)
    if study.year < settings.first_radiograph_year:
        yield Hit(f"StudyDate {write_date(study)} is before X-rays were discovered")
    elif study.year < first:
        reason = f"StudyDate {write_date(study)} is before there was {modality}"
        yield Hit(reason, severity=WARNING)


@rule("D5", WARNING, "dates", "Study and acquisition are more than a day apart")
@each
def _far_from_acquisition(reading: Reading) -> Iterator[Hit]:
    if reading.study and reading.acquisition and _far_apart(reading, reading.study):
        days = abs((reading.acquisition - reading.study).days)
        yield Hit(
            f"AcquisitionDate {write_date(reading.acquisition)} and StudyDate "
            f"{write_date(reading.study)} are {days} days apart"
        )


def _far_apart(reading: Reading, study: date) -> bool:
    """Whether AcquisitionDate is further from a study date than D5 tolerates."""
    if reading.dates_modified or reading.acquisition is None:
        return False
    days = abs((reading.acquisition - study).days)
    return days > reading.settings.acquisition_tolerance_days


def _explains(reading: Reading, birth: date | None) -> bool:
    """Whether another birth date gives an age that is possible, and that PatientAge states."""
    if birth is None or reading.study is None:
        return False
    if not 0 <= years_between(birth, reading.study) <= reading.settings.maximum_implied_age:
        return False
    compared = reading.against(birth)
    return compared is None or not compared.mismatch


def _suspect(reading: Reading) -> bool:
    """The dates contradict each other or PatientAge."""
    implied, oldest = reading.implied_age, reading.settings.maximum_implied_age
    impossible = implied is not None and not 0 <= implied <= oldest
    return impossible or reading.mismatch is not None


@rule(
    "D6",
    WARNING,
    "dates",
    "PatientBirthDate a century earlier or later would make the header consistent",
)
@each
def _century(reading: Reading) -> Iterator[Hit]:
    if reading.birth is None or not _suspect(reading):
        return
    for years in (-100, 100):
        if _explains(reading, shift_years(reading.birth, years)):
            yield Hit(f"PatientBirthDate {write_date(reading.birth)} would fit {years:+d} years")


@rule("D7", WARNING, "dates", "Day and month swapped would make the header consistent")
@each
def _day_and_month(reading: Reading) -> Iterator[Hit]:
    if reading.dates_modified:
        return
    swapped = swap_day_and_month(reading.header.clean("PatientBirthDate"))
    if (reading.birth is None or _suspect(reading)) and _explains(reading, swapped):
        text = reading.quoted("PatientBirthDate")
        yield Hit(f"PatientBirthDate {text} would fit with day and month swapped")
    study, swapped = reading.study, swap_day_and_month(reading.header.clean("StudyDate"))
    if study and swapped and _far_apart(reading, study) and not _far_apart(reading, swapped):
        yield Hit(f"StudyDate {write_date(study)} would fit with day and month swapped")


@rule(
    "D9",
    INFORMATION,
    "dates",
    "A date looks like one of the Buddhist, the Hijri or an era calendar",
)
@each
def _calendar(reading: Reading) -> Iterator[Hit]:
    if reading.dates_modified:
        return
    for keyword in DATE_KEYWORDS:
        if calendar := other_calendar(reading.header.clean(keyword)):
            text = reading.quoted(keyword)
            yield Hit(f"{keyword} {text} looks like a date of the {calendar} calendar")


@rule(
    "D10", INFORMATION, "dates", "De-identification modified or removed dates: no date arithmetic"
)
@each
def _modified(reading: Reading) -> Iterator[Hit]:
    if reading.dates_modified:
        text = reading.quoted("LongitudinalTemporalInformationModified")
        yield Hit(f"LongitudinalTemporalInformationModified is {text}: no date arithmetic")
