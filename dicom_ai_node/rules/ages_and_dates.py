"""Ages and dates as DICOM writes them (AS and DA, PS3.5 6.2), ages that follow from two dates, and
what wrong dates may have meant."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

YEARS_PER_UNIT: Mapping[str, float] = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}
UNIT_NAMES: Mapping[str, str] = {"D": "days", "W": "weeks", "M": "months", "Y": "years"}

_AGE_STRING = re.compile(r"([0-9]{3})([DWMY])")
_AS_WRITTEN = re.compile(r"([0-9]{1,3})\s*([a-z]*)\.?", re.IGNORECASE)
_UNIT_WORDS: Mapping[str, str] = {
    "": "Y",  # A bare number on a console is years: '64' of SIIM and RSNA.
    **dict.fromkeys(("y", "yr", "yrs", "year", "years"), "Y"),
    **dict.fromkeys(("m", "mo", "mos", "month", "months"), "M"),
    **dict.fromkeys(("w", "wk", "wks", "week", "weeks"), "W"),
    **dict.fromkeys(("d", "day", "days"), "D"),
}

_WEEKS_FROM_DAYS = 28
_MONTHS_FROM_MONTHS = 3
_YEARS_FROM_YEARS = 2


@dataclass(frozen=True, slots=True)
class Age:
    """A value of VR AS: a number of completed units."""

    number: int
    unit: str
    """``D``, ``W``, ``M`` or ``Y``."""

    @property
    def years(self) -> float:
        """The age in years."""
        return self.number * YEARS_PER_UNIT[self.unit]

    def __str__(self) -> str:
        return f"{self.number:03d}{self.unit}"


def read_age(text: str) -> Age | None:
    """The age that a value of VR AS states, None when it is not one (PS3.5 6.2)."""
    match = _AGE_STRING.fullmatch(text)
    return Age(int(match[1]), match[2]) if match else None


def parse_age(text: str) -> float | None:
    """Years that a value of VR AS states, None when it is not one (PS3.5 6.2)."""
    age = read_age(text)
    return age.years if age else None


def salvage_age(text: str) -> Age | None:
    """The age that '65', '65Y', '063y' or '5 months' is meant to be, None for anything else."""
    match = _AS_WRITTEN.fullmatch(text)
    unit = _UNIT_WORDS.get(match[2].lower()) if match else None
    return Age(int(match[1]), unit) if match and unit else None


def encode_estimate(years: float) -> str:
    """An estimated age as a value of VR AS: the nearest whole year, from two on.

    Not the completed years of ``years``: a network that learned from PatientAge estimates completed
    years already, and cutting them off again would take half a year from everyone.

    Raises ValueError below two, where AS counts months, weeks or days, which no estimate can tell,
    and for what three digits cannot hold.
    """
    if not _YEARS_FROM_YEARS <= years < 999.5:
        raise ValueError(f"not an estimate that VR AS can hold in years: {years}")
    return str(Age(math.floor(years + 0.5), "Y"))


def encode_age_at(birth: date, day: date) -> str:
    """The age on ``day`` of who was born on ``birth`` as a value of VR AS, by the calendar.

    Raises ValueError when ``day`` is before ``birth`` or more years after it than VR AS can hold.
    """
    if day < birth:
        raise ValueError("not born yet")
    numbers = {unit: completed(birth, day, unit) for unit in YEARS_PER_UNIT}
    if numbers["Y"] > 999:
        raise ValueError(f"not an age that VR AS can hold: {birth} to {day}")
    # A newborn's age is counted in days, then weeks, then months; years say enough from two on.
    if numbers["Y"] >= _YEARS_FROM_YEARS:
        unit = "Y"
    elif numbers["M"] >= _MONTHS_FROM_MONTHS:
        unit = "M"
    else:
        unit = "W" if numbers["D"] >= _WEEKS_FROM_DAYS else "D"
    return str(Age(numbers[unit], unit))


def completed(birth: date, day: date, unit: str) -> int:
    """Whole units from ``birth`` to ``day`` by the calendar; negative when ``day`` comes first."""
    if day < birth:
        return -completed(day, birth, unit)
    match unit:
        case "D":
            return (day - birth).days
        case "W":
            return (day - birth).days // 7
        case _:
            months = (day.year - birth.year) * 12 + day.month - birth.month - (day.day < birth.day)
            return months if unit == "M" else months // 12


def years_between(birth: date, day: date) -> float:
    """Years from ``birth`` to ``day``; negative when ``day`` comes first.

    Its whole part is the number of birthdays, so that it never contradicts a correct PatientAge.
    """
    if day < birth:
        return -years_between(day, birth)
    years = completed(birth, day, "Y")
    # Who was born on 29 February has it on 1 March in other years.
    birthday = shift_years(birth, years) or date(birth.year + years, 3, 1)
    return years + (day - birthday).days / 366


_DATE = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})")
_ERA = re.compile(r"[MTSHR]\s?[0-9]{1,2}[./-]?[0-9]{1,2}[./-]?[0-9]{1,2}")
_YEAR = re.compile(r"([0-9]{4})[./-]?[0-9]{2}[./-]?[0-9]{2}")

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


def shift_years(day: date, years: int) -> date | None:
    """``day`` moved by ``years``, None when there is no such day."""
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
