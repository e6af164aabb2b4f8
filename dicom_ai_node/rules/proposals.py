"""Values that could fill or mend PatientAge and PatientSex, best provenance first.

What was sent, in its proper form; then birth date and study date; then a worklist's answer; then
the patient's other studies.
Nothing is inferred here, nothing is applied, and 'O' and 'U' are never proposed.
"""

from collections.abc import Iterator
from datetime import date

from dicom_ai_node.rules.ages import encode_age_at, read_age, years_between
from dicom_ai_node.rules.history import comparable, usable_birth_date
from dicom_ai_node.rules.meaning import meant_sex, only_value, salvaged_age
from dicom_ai_node.rules.reading import Reading
from dicom_ai_node.rules.rule import Case
from dicom_ai_node.types import Proposal

NO_SEX = frozenset({"", "U", "UNK", "UNKNOWN"})
"""Nothing is recorded, or that nothing is known. Any other value is somebody's answer."""


def propose_age(case: Case, rule: str, *, lacking: bool) -> Iterator[Proposal]:
    """Values for PatientAge, which ``rule`` found missing or wrong.

    ``lacking``: there is no usable value, as against one that something else contradicts.
    """
    # One image may lack what another has, or have it padded.
    stated = {str(reading.age) for reading in case.readings if _trusted(reading)}
    if len(stated) == 1:
        yield Proposal("PatientAge", stated.pop(), "PatientAge", rule)
    for reading in case.readings:
        salvaged = salvaged_age(reading)
        if salvaged is not None:
            yield Proposal("PatientAge", str(salvaged), "PatientAge", rule)
    for reading in case.readings:
        # Of an infant of whom only the year of birth is known, no age can be told.
        infant = (reading.implied_age or 0) < case.settings.infant_age
        if reading.span is not None and not (reading.year_only and infant):
            source = "PatientBirthDate and StudyDate"
            yield from _from_dates(case, *reading.span, source, rule)
    if lacking:
        yield from _listed_age(case, rule)
    if case.lacks("PatientBirthDate") and case.study_date:
        births = {usable_birth_date(prior.birth_date, case) for prior in comparable(case)} - {None}
        birth = births.pop() if len(births) == 1 else None
        if birth is not None:
            source = "PatientBirthDate of other studies and StudyDate"
            yield from _from_dates(case, birth, case.study_date, source, rule)


def _trusted(reading: Reading) -> bool:
    compared = reading.compared
    return (
        reading.age is not None
        and not reading.placeholder_age
        and not (compared and compared.mismatch)
    )


def _from_dates(case: Case, birth: date, study: date, source: str, rule: str) -> Iterator[Proposal]:
    if 0 <= years_between(birth, study) <= case.settings.maximum_implied_age:
        yield Proposal("PatientAge", encode_age_at(birth, study), source, rule)


def _listed_age(case: Case, rule: str) -> Iterator[Proposal]:
    """The age that a worklist's birth date makes, else that of the study's own order."""
    listed = case.worklist
    if listed is None:
        return
    birth, study = usable_birth_date(listed.birth_date, case), case.study_date
    age = read_age(listed.age)
    if birth and study:
        year_only = listed.birth_date[4:] in case.settings.year_only_days
        if not (year_only and years_between(birth, study) < case.settings.infant_age):
            source = "PatientBirthDate of the worklist and StudyDate"
            yield from _from_dates(case, birth, study, source, rule)
    elif age is not None and 0 < age.years < case.settings.maximum_age:
        yield Proposal("PatientAge", str(age), "PatientAge of the worklist", rule)


def propose_sex(case: Case, rule: str, *, lacking: bool) -> Iterator[Proposal]:
    """Values for PatientSex, as :func:`propose_age` does for the age."""
    stated = {only_value(reading.sex) for reading in case.readings} & {"M", "F"}
    if len(stated) == 1:
        yield Proposal("PatientSex", stated.pop(), "PatientSex", rule)
    for reading in case.readings:
        value = meant_sex(reading)
        if value and only_value(reading.sex) != value:
            yield Proposal("PatientSex", value, "PatientSex", rule)
    listed = case.worklist.sex if case.worklist else ""
    if lacking and listed in {"M", "F"} and case.usual["PatientSex"].text.strip().upper() in NO_SEX:
        yield Proposal("PatientSex", listed, "PatientSex of the worklist", rule)
    theirs = {prior.sex.strip(" \0") for prior in comparable(case)} - {""}
    # One 'O' among them, and the others say nothing about this study.
    if case.lacks("PatientSex") and theirs in ({"M"}, {"F"}):
        yield Proposal("PatientSex", theirs.pop(), "PatientSex of other studies", rule)
