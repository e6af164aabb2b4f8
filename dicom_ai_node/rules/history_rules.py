"""G: the instances of a study, and the studies of a patient, against each other."""

import math
from collections.abc import Iterator
from datetime import date
from itertools import pairwise
from typing import NamedTuple

from dicom_ai_node.rules.ages_and_dates import read_date, write_date
from dicom_ai_node.rules.meaning import sex_meant, years_meant
from dicom_ai_node.rules.reading import Reading, shown
from dicom_ai_node.rules.rule import CONFLICT, ERROR, WARNING, Case, Hit, rule
from dicom_ai_node.types import PriorStudy

_COMPARED = (
    # keyword, attribute, what a disagreement makes of age (dates) or of the attribute itself
    ("PatientAge", "age", CONFLICT),
    ("PatientSex", "sex", CONFLICT),
    ("PatientBirthDate", "dates", CONFLICT),
    ("StudyDate", "dates", None),
    ("PatientID", "identity", None),
)


def comparable(case: Case) -> tuple[PriorStudy, ...]:
    """The other studies of the patient; none where the study does not say who the patient is.

    Without a PatientID all nameless patients would be one.
    """
    if case.lacks("PatientID"):
        return ()
    study_uids = {reading.header.clean("StudyInstanceUID") for reading in case.readings}
    return tuple(prior for prior in case.priors if prior.study_instance_uid not in study_uids)


def usable_birth_date(text: str, case: Case) -> date | None:
    """A birth date that is a date and no placeholder."""
    clean = text.strip(" \0")
    return None if clean in case.settings.placeholder_birth_dates else read_date(clean)


@rule("G2", ERROR, "identity", "Instances of the study disagree")
def _instances(case: Case) -> Iterator[Hit]:
    for keyword, attribute, status in _COMPARED:
        if attribute == "sex" and case.sex_respected:
            continue
        values = sorted({reading.header.clean(keyword) for reading in case.readings})
        if len(values) > 1:
            # A PatientID is quoted nowhere: findings are read by more people than headers are.
            listed = ", ".join(shown(value) for value in values[:4])
            what = f"{len(values)} values" if attribute == "identity" else listed
            yield Hit(f"{keyword} differs within the study: {what}", attribute, status=status)


class _Recorded(NamedTuple):
    """The sex that a study of the patient records, M or F."""

    day: date | None
    sex: str
    is_this: bool


def _sexes(case: Case) -> list[_Recorded]:
    """What the patient's studies record, by date; undated ones first."""
    sex = case.usual["PatientSex"].text
    if sex not in {"M", "F"}:
        sex = sex_meant(case.readings)
    if case.sex_respected or not sex:
        return []
    priors = comparable(case)
    studies = [_Recorded(prior.study_date, prior.sex.strip(" \0"), False) for prior in priors]
    studies.append(_Recorded(case.study_date, sex, True))
    known = [study for study in studies if study.sex in {"M", "F"}]
    return sorted(known, key=lambda study: (study.day or date.min, study.sex, study.is_this))


def _switches(studies: list[_Recorded]) -> list[tuple[_Recorded, _Recorded]]:
    return [(before, after) for before, after in pairwise(studies) if before.sex != after.sex]


def _switches_once(studies: list[_Recorded]) -> bool:
    """Whether sex changes on one day and stays so: what a transition looks like, or a mix-up."""
    switches = _switches(studies)
    dated = all(study.day is not None for study in studies)
    return dated and len(switches) == 1 and switches[0][0].day != switches[0][1].day


@rule("G1", ERROR, "identity", "One PatientID with two sexes or two birth dates")
def _two_identities(case: Case) -> Iterator[Hit]:
    studies = _sexes(case)
    if _switches(studies) and not _switches_once(studies):
        yield Hit("Studies of this PatientID have PatientSex M and F", "sex", status=CONFLICT)
    theirs = {usable_birth_date(prior.birth_date, case) for prior in comparable(case)}
    for reading in case.readings:
        others = sorted(o for o in theirs if o and not same_birth_date(reading, o))
        if reading.known_birth and others:
            ours, other = write_date(reading.known_birth), write_date(others[0])
            reason = f"PatientBirthDate {ours}, and {other} in another study of this PatientID"
            yield Hit(reason, "dates", status=CONFLICT)


def same_birth_date(reading: Reading, other: date) -> bool:
    """Whether two birth dates agree, as years when only the year is known of one of them (C5)."""
    if reading.birth is None:
        return False
    year_only = reading.year_only or write_date(other)[4:] in reading.settings.year_only_days
    return reading.birth.year == other.year if year_only else reading.birth == other


@rule("G3", WARNING, "age", "The patient's ages do not grow with the study dates", status=CONFLICT)
def _ages_not_monotone(case: Case) -> Iterator[Hit]:
    usual, day = case.usual["PatientAge"].value, case.study_date
    age = usual if isinstance(usual, float) else years_meant(case.readings)
    if age is None or day is None or any(reading.censored_age for reading in case.readings):
        return
    for prior in comparable(case):
        then, theirs = prior.study_date, prior.age_years
        if then is None or then == day or theirs is None or not math.isfinite(theirs):
            continue
        earlier, later = (theirs, age) if then < day else (age, theirs)
        if _shrinks(earlier, later):
            yield Hit(
                f"PatientAge is {age:.1f} years on {write_date(day)} and {theirs:.1f} years on "
                f"{write_date(then)}"
            )


def _shrinks(earlier: float, later: float) -> bool:
    """Whether an age on a later day is less than on an earlier one.

    Below three years the units change: 23 months are more than the one year that may follow.
    """
    return later < earlier - (1.0 if later < 3 else 0.0)


@rule(
    "G4",
    WARNING,
    "sex",
    "PatientSex changes between two studies of the patient: to be reviewed, not an error",
    status=CONFLICT,
)
def _sex_flips(case: Case) -> Iterator[Hit]:
    studies = _sexes(case)
    if not _switches_once(studies):
        return
    # Only the studies on either side of the switch have something to review, not all that follow.
    for before, after in _switches(studies):
        if (before.is_this or after.is_this) and before.day and after.day:
            yield Hit(
                f"PatientSex is {before.sex} on {write_date(before.day)} and {after.sex} on "
                f"{write_date(after.day)}: a change to review, not an error"
            )
