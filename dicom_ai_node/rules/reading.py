"""One header made out: its ages and dates held against each other, its decimals, its free text."""

import math
import re
from dataclasses import dataclass
from datetime import date

from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.rules.ages_and_dates import Age, completed, read_age, read_date, years_between
from dicom_ai_node.rules.text_header import CLINICAL_SEX_PARAMETERS, TextHeader

DESCRIPTIONS = (
    "StudyDescription",
    "SeriesDescription",
    "ProtocolName",
    "RequestedProcedureDescription",
    "PerformedProcedureStepDescription",
    "AdmittingDiagnosesDescription",
    "BodyPartExamined",
)
"""What was done to whom in words. Histories and comments are left out: they tell of relatives."""

_DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_DENIED_BEFORE = re.compile(
    r"\b(no|not|non|without|exclude\w*|if|kein\w*|nicht|ohne|ausschlu\w*)\W+(\w+\W+)?$",
    re.IGNORECASE,
)
_DENIED_AFTER = re.compile(r"^\W*(no|none|n/a|na|nein|negative|excluded)\b", re.IGNORECASE)


def read_decimal(text: str) -> float | None:
    """The number that a value of VR DS states (PS3.5 6.2), None when it is none or not finite."""
    if not _DECIMAL.fullmatch(text):
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def stated(pattern: re.Pattern[str], text: str) -> str:
    """The first match of ``pattern`` in ``text`` that is not denied ('not pregnant'), else ''."""
    # 'PAED_CHEST' is two words, though \w takes the underscore for a letter.
    text = text.replace("_", " ")
    for match in pattern.finditer(text):
        before, after = text[: match.start()], text[match.end() :]
        if not _DENIED_BEFORE.search(before[-40:]) and not _DENIED_AFTER.search(after[:20]):
            return match[0]
    return ""


def shown(value: str, longest: int = 40) -> str:
    """``value`` in quotes for a reason: one line of ASCII, whatever was sent.

    ASCII because a reason travels in an SR, whose character set is that of the image.
    """
    return ascii(value if len(value) <= longest else value[:longest] + "...")


DATE_KEYWORDS = ("PatientBirthDate", "StudyDate", "AcquisitionDate")


@dataclass(frozen=True, slots=True)
class Reading:
    """One instance's header with its ages and dates made out, as far as they can be."""

    header: TextHeader
    settings: RulesSettings
    today: date
    age: Age | None
    """PatientAge, None when it is not a value of VR AS; a placeholder is still an age here."""
    birth: date | None
    study: date | None
    acquisition: date | None
    """The three are None when they are no Gregorian dates."""
    placeholder_birth: bool
    year_only: bool
    dates_modified: bool
    """De-identification changed the dates or took them away (PS3.3 C.12.1, D10)."""

    @classmethod
    def of(cls, header: TextHeader, settings: RulesSettings, today: date) -> "Reading":
        """Make out the ages and dates of ``header``."""
        birth, study, acquisition = (read_date(header.clean(keyword)) for keyword in DATE_KEYWORDS)
        text = header.clean("PatientBirthDate")
        placeholder = text in settings.placeholder_birth_dates
        modified = header.clean("LongitudinalTemporalInformationModified").upper()
        return cls(
            header=header,
            settings=settings,
            today=today,
            age=read_age(header.clean("PatientAge")),
            birth=birth,
            study=study,
            acquisition=acquisition,
            placeholder_birth=placeholder,
            year_only=bool(birth) and not placeholder and text[4:] in settings.year_only_days,
            dates_modified=modified in {"MODIFIED", "REMOVED"},
        )

    def quoted(self, keyword: str) -> str:
        """A value without its padding in quotes, as a reason has it."""
        return shown(self.header.clean(keyword))

    @property
    def sex(self) -> str:
        """PatientSex without its padding."""
        return self.header.clean("PatientSex")

    @property
    def sex_respected(self) -> bool:
        """PatientSex is 'O', or sex parameters for clinical use or a gender identity are given."""
        return self.sex == "O" or any(map(self.header.says, CLINICAL_SEX_PARAMETERS))

    @property
    def deidentified(self) -> bool:
        """Whether the header says that the patient's identity was removed (PS3.3 C.7.1.1)."""
        return (
            self.header.says_yes("PatientIdentityRemoved")
            or self.header.says("DeidentificationMethod")
            or self.header.says("DeidentificationMethodCodeSequence")
            or self.dates_modified
        )

    @property
    def placeholder_age(self) -> bool:
        """PatientAge stands for 'unknown' (C1, C2)."""
        if self.age is None:
            return False
        if self.age.number == 0:
            born_that_day = self.birth is not None and self.birth == self.study
            return not born_that_day or self.age.unit != "D"
        return self.age.years >= self.settings.maximum_age

    @property
    def censored_age(self) -> bool:
        """PatientAge is a de-identified '90 or over' (E8)."""
        return (
            self.age is not None
            and self.deidentified
            and not self.placeholder_age
            and self.age.years >= self.settings.censored_age
        )

    @property
    def known_birth(self) -> date | None:
        """The birth date where it is one of the patient: no placeholder, and not modified."""
        return None if self.placeholder_birth or self.dates_modified else self.birth

    @property
    def span(self) -> tuple[date, date] | None:
        """Birth date and study date where ages may be computed from them."""
        return (self.known_birth, self.study) if self.known_birth and self.study else None

    @property
    def implied_age(self) -> float | None:
        """Years from birth date to study date, negative when swapped; None when not computable."""
        return years_between(*self.span) if self.span else None

    @property
    def compared(self) -> "DatedAge | None":
        """PatientAge against the dates, None where either says nothing or must not be compared."""
        return self.against(self.span[0]) if self.span else None

    @property
    def mismatch(self) -> "DatedAge | None":
        """The same where they differ by more than is usual."""
        return self.compared if self.compared and self.compared.mismatch else None

    def against(self, birth: date) -> "DatedAge | None":
        """PatientAge against another birth date and StudyDate, None where it says nothing."""
        if self.age is None or self.placeholder_age or self.censored_age or self.study is None:
            return None
        widening = self.settings.year_only_widening if self.year_only else 0.0
        return DatedAge(self.age, birth, self.study, self.settings, widening)


@dataclass(frozen=True, slots=True)
class DatedAge:
    """An age held against two dates."""

    age: Age
    birth: date
    study: date
    settings: RulesSettings
    widening: float = 0.0
    """Years of additional tolerance."""

    @property
    def implied(self) -> float:
        """Years from birth to study."""
        return years_between(self.birth, self.study)

    @property
    def years_off(self) -> float:
        """How far the age lies from what the dates imply, years; whole ones for an age in years."""
        if self.age.unit == "Y":
            return self.units_off
        return abs(self.age.years - self.implied)

    @property
    def units_off(self) -> int:
        """The same in completed units of the age.

        Completed units and not years, because rounding instead of truncating, subtracting years,
        and a birthday between order and exam all make one unit, and none of them is an error.
        """
        return abs(self.age.number - completed(self.birth, self.study, self.age.unit))

    @property
    def conflict(self) -> bool:
        """Whether the two contradict each other beyond any tolerance (E2)."""
        return self.years_off >= self.settings.age_conflict_years + self.widening

    @property
    def mismatch(self) -> bool:
        """Whether they differ by more than is usual (E1 or E2)."""
        if self.conflict:
            return True
        one_unit = Age(1, self.age.unit).years
        # The year is only unknown in the date, so it is added in the unit of the age.
        tolerance = self.settings.age_tolerance_units + self.widening / one_unit
        return self.units_off > tolerance
