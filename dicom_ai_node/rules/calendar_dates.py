"""Dates as DICOM writes them (DA, PS3.5 6.2), and what wrong ones may have meant."""

import re
from datetime import date

_DATE = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})")
_ERA = re.compile(r"[MTSHR]\s?[0-9]{1,2}[./-]?[0-9]{1,2}[./-]?[0-9]{1,2}")
_YEAR = re.compile(r"([0-9]{4})[./-]?[0-9]{2}[./-]?[0-9]{2}")

BUDDHIST_OFFSET = 543
# Hijri 1300 is 1882, Hijri 1470 is 2047: no Gregorian birth date of a radiograph lies there.
_HIJRI_YEARS = range(1300, 1471)
# Buddhist 2430 is 1887, Buddhist 2600 is 2057.
_BUDDHIST_YEARS = range(2430, 2601)


def read_date(text: str) -> date | None:
    """The day that a value of VR DA states, None when it is not a Gregorian YYYYMMDD."""
    match = _DATE.fullmatch(text)
    return _date(int(match[1]), int(match[2]), int(match[3])) if match else None


def write_date(day: date) -> str:
    """``day`` as a value of VR DA; strftime does not pad years before 1000."""
    return f"{day.year:04d}{day.month:02d}{day.day:02d}"


def swap_day_and_month(text: str) -> date | None:
    """The day that the value states as YYYYDDMM, None when that is none or the same day."""
    match = _DATE.fullmatch(text)
    if match is None or match[2] == match[3]:
        return None
    return _date(int(match[1]), int(match[3]), int(match[2]))


def shift_century(day: date, years: int) -> date | None:
    """``day`` moved by ``years`` (±100), None when there is no such day."""
    return _date(day.year + years, day.month, day.day)


def other_calendar(text: str) -> str:
    """Name of the calendar that the value seems to be written in, '' for the Gregorian one."""
    if _ERA.fullmatch(text.upper()):
        return "Japanese era"
    match = _YEAR.fullmatch(text)
    year = int(match[1]) if match else 0
    if year in _BUDDHIST_YEARS:
        return "Buddhist"
    return "Hijri" if year in _HIJRI_YEARS else ""


def _date(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None
