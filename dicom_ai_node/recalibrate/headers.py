"""Which studies of a site state an age and a sex that can be believed."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from dicom_ai_node import pixels
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.dicom.limits import DEFAULT, Limits
from dicom_ai_node.dicom.patient import patient_key
from dicom_ai_node.dicom.values import text_of
from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.rules import Header, check
from dicom_ai_node.rules.ages_and_dates import read_date
from dicom_ai_node.rules.attributes import (
    comparable_age,
    stated_sex,
    trusted_age,
    trusted_sex,
)
from dicom_ai_node.types import AttributeStatus, HeaderCheck, PriorStudy

Track = Callable[[str, int], Callable[[], object]]
"""Given what is counted and how much of it there is: what to call for each that is done."""


@dataclass(frozen=True, slots=True)
class SiteStudy:
    """The files of one study, as far as they are DICOM."""

    uid: str
    patient: str
    """Hash of the patient, the study itself where it names none."""
    files: list[tuple[str, Path]] = field(default_factory=list)
    """SOPInstanceUID and path of each."""
    headers: list[Header] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Trusted:
    """A study with an age and a sex that the header rules have nothing against."""

    study: SiteStudy
    years: float
    female: bool


def read_studies(
    paths: Sequence[Path], files: Counter[str], track: Track, limits: Limits = DEFAULT
) -> list[SiteStudy]:
    """Sort files into studies, in an order that does not depend on theirs.

    ``files`` counts those that are not DICOM as ``unreadable``.
    """
    studies: dict[str, SiteStudy] = {}
    done = track("headers", len(paths))
    for path in paths:
        done()
        try:
            header = pixels.read_header(path, limits)
        except UnreadableInstance:
            files["unreadable"] += 1
            continue
        uid = text_of(header, "StudyInstanceUID") or str(path)
        study = studies.setdefault(uid, SiteStudy(uid, patient_key(header) or uid))
        study.files.append((text_of(header, "SOPInstanceUID"), path))
        study.headers.append(Header.from_dataset(header))
    for study in studies.values():
        study.files.sort()
    return [studies[uid] for uid in sorted(studies)]


def trust(
    studies: Sequence[SiteStudy], rules: RulesSettings, *, today: date, files: Counter[str]
) -> list[Trusted]:
    """Return the studies whose age and sex no rule doubts, within and over the studies.

    ``files`` counts those of the other studies under their status, as ``age_missing`` or
    ``sex_conflict_header``, and those of a de-identified '90 or over' as ``age_censored``.
    """
    alone = [check(study.headers, settings=rules, today=today) for study in studies]
    known: dict[str, list[PriorStudy]] = {}
    for study, checked in zip(studies, alone, strict=True):
        if study.patient != study.uid and not checked.exempt:
            known.setdefault(study.patient, []).append(_prior(study, checked))
    found = []
    for study, checked in zip(studies, alone, strict=True):
        others = [
            one for one in known.get(study.patient, ()) if one.study_instance_uid != study.uid
        ]
        if others:
            checked = check(study.headers, priors=others, settings=rules, today=today)
        reason = distrust(checked)
        if reason:
            files[reason] += len(study.files)
        else:
            years = trusted_age(checked)
            assert years is not None
            found.append(Trusted(study, years, trusted_sex(checked) == "F"))
    return found


def distrust(checked: HeaderCheck) -> str:
    """Return why the header must not calibrate anything, '' when it may."""
    for keyword, row in checked.attributes.items():
        if checked.trusted(keyword) is None:
            consistent = row.status is AttributeStatus.CONSISTENT
            return f"{row.name}_{'censored' if consistent else row.status.lower()}"
    return ""


def _prior(study: SiteStudy, checked: HeaderCheck) -> PriorStudy:
    header = study.headers[0]
    return PriorStudy(
        study_instance_uid=study.uid,
        study_date=read_date(header.clean("StudyDate")),
        sex=stated_sex(checked),
        birth_date=header.clean("PatientBirthDate"),
        age_years=comparable_age(checked),
    )
