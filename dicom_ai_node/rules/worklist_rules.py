"""A modality worklist: when to ask it, which answers are of a study, and G6, which compares them.

A study is looked up from what names the study to what names the patient alone:

1. StudyInstanceUID: made by the order, copied by the modality, and nobody else's.
2. AccessionNumber: of the order, but two ordering systems may give the same one. It counts only
   where both sides have a PatientID.
3. PatientID: answers may be of other studies. Birth date and sex are the patient's, so these are
   taken; an age is of its day and is not.

Each is asked by itself, so that a wrong PatientID does not hide the order that shows it to be
wrong. Two issuers that differ make two patients. Pure.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.rules.ages_and_dates import read_age, read_date, write_date
from dicom_ai_node.rules.history_rules import same_birth_date, usable_birth_date
from dicom_ai_node.rules.meaning import meant_sex
from dicom_ai_node.rules.reading import Reading
from dicom_ai_node.rules.rule import CONFLICT, INFORMATION, OTHER_SEXES, WARNING, Case, Hit, rule
from dicom_ai_node.rules.text_header import TextHeader
from dicom_ai_node.types import AttributeStatus, HeaderCheck, WorklistAnswer

_OF_THE_PATIENT = ("PatientAge", "PatientSex")
"""What a worklist knows of. The body part it does not."""
_IN_ORDER = frozenset({AttributeStatus.CONSISTENT, AttributeStatus.NOT_ASSESSED})


def worth_asking(
    headers: Sequence[TextHeader],
    checked: HeaderCheck,
    *,
    settings: RulesSettings,
    today: date,
    compare: bool,
) -> bool:
    """Whether a worklist may know what this study's header lacks, or is to be compared with it.

    Never of a study that is exempt or de-identified: its PatientID may be somebody else's there.
    """
    readings = [Reading.of(header, settings, today) for header in headers]
    if checked.exempt or any(reading.deidentified for reading in readings):
        return False
    wrong = any(checked.attributes[keyword].status not in _IN_ORDER for keyword in _OF_THE_PATIENT)
    return compare or wrong or not any(reading.known_birth for reading in readings)


@rule("G6", WARNING, "identity", "The worklist has another PatientID, sex or birth date")
def _against_worklist(case: Case) -> Iterator[Hit]:
    listed = case.worklist
    if listed is None:
        return
    if listed.other_patient:
        yield Hit(f"The worklist has this {listed.matched_by} for another PatientID")
        return
    yield from _sex(case, listed)
    birth = usable_birth_date(listed.birth_date, case)
    dated = [reading for reading in case.readings if reading.known_birth]
    if birth and dated and not any(same_birth_date(reading, birth) for reading in dated):
        sent, answered = dated[0].header.clean("PatientBirthDate"), write_date(birth)
        reason = f"PatientBirthDate {sent}, and {answered} in the worklist"
        yield Hit(reason, "dates", status=CONFLICT)


def _sex(case: Case, listed: WorklistAnswer) -> Iterator[Hit]:
    if any(reading.sex_respected for reading in case.readings):
        return
    if listed.sex in OTHER_SEXES:
        reason = f"PatientSex is {listed.sex} in the worklist: not assessed"
        yield Hit(reason, "sex", severity=INFORMATION)
        return
    recorded = {meant_sex(reading) for reading in case.readings} - {""}
    if listed.sex and recorded and listed.sex not in recorded:
        reason = f"PatientSex is {recorded.pop()}, and {listed.sex} in the worklist"
        yield Hit(reason, "sex", status=CONFLICT)


_SEXES = OTHER_SEXES | {"M", "F"}


class Key(StrEnum):
    """What a study is looked up by, in this order."""

    STUDY = "StudyInstanceUID"
    ORDER = "AccessionNumber"
    PATIENT = "PatientID"


# No wildcard and no list (PS3.4 C.2.2.2), or everybody would match; lengths are those of the VRs.
_ASKABLE = {
    Key.STUDY: re.compile(r"[0-9.]{1,64}"),
    Key.ORDER: re.compile(r"[ -)+->@-\[\]-~]{1,16}"),
    Key.PATIENT: re.compile(r"[ -)+->@-\[\]-~]{1,64}"),
}


class Verdict(StrEnum):
    """What came of asking."""

    ANSWERED = "answered"
    NOTHING = "nothing"
    """It knows neither the study nor the patient, or nothing of use about them."""
    CONTRADICTION = "contradiction"
    """Its answers do not agree."""
    UNAVAILABLE = "unavailable"
    """It was not asked, or did not answer: nothing was learned."""


@dataclass(frozen=True, slots=True)
class WorklistReply:
    """What came of asking about one study."""

    verdict: Verdict
    answer: WorklistAnswer | None = None
    """Set where the verdict is ``answered``."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What names a study and its patient; '' for what it does not say, or says twice over."""

    values: Mapping[Key, str]
    issuer: str

    @classmethod
    def of(cls, headers: Sequence[TextHeader]) -> "Keys":
        """Read what all instances that say anything agree on."""

        def said(keyword: str) -> str:
            values = {header.clean(keyword) for header in headers} - {""}
            return values.pop() if len(values) == 1 else ""

        return cls({key: said(key) for key in Key}, said("IssuerOfPatientID"))

    @property
    def digest(self) -> str:
        """What tells these keys from others."""
        parts = [*(self.values[key] for key in Key), self.issuer]
        return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()

    def askable(self) -> Iterator[Key]:
        """The keys that can be asked for, the one that says most first."""
        for key in Key:
            without_patient = key is Key.ORDER and not self.values[Key.PATIENT]
            if _ASKABLE[key].fullmatch(self.values[key]) and not without_patient:
                yield key


def chosen(key: Key, keys: Keys, answers: Sequence[TextHeader]) -> WorklistReply:
    """Return what ``answers``, asked for by ``key``, say of the study; others are ignored."""
    about = [one for one in answers if matches(key, keys, one)]
    if key is not Key.STUDY:
        about = [one for one in about if one.clean(Key.PATIENT) and not _other_issuer(keys, one)]
    if not about:
        return WorklistReply(Verdict.NOTHING)
    others = {_other_patient(keys, one) for one in about}
    issuers = {one.clean("IssuerOfPatientID") for one in about} - {""}
    births = {text for one in about if read_date(text := one.clean("PatientBirthDate"))}
    sexes = {text for one in about if (text := one.clean("PatientSex")) in _SEXES}
    if others == {True}:
        return WorklistReply(Verdict.ANSWERED, WorklistAnswer(key, other_patient=True))
    if max(len(others), len(issuers), len(births), len(sexes)) > 1:
        return WorklistReply(Verdict.CONTRADICTION)
    ages = {text for one in about if read_age(text := one.clean("PatientAge"))}
    age = ages.pop() if len(ages) == 1 and key is not Key.PATIENT else ""
    answer = WorklistAnswer(key, birth_date="".join(births), sex="".join(sexes), age=age)
    useful = answer.birth_date or answer.sex or answer.age
    return WorklistReply(Verdict.ANSWERED, answer) if useful else WorklistReply(Verdict.NOTHING)


def matches(key: Key, keys: Keys, answer: TextHeader) -> bool:
    """Whether an answer has the value that was asked for."""
    return answer.clean(key) == keys.values[key]


def _other_issuer(keys: Keys, answer: TextHeader) -> bool:
    theirs = answer.clean("IssuerOfPatientID")
    return bool(keys.issuer and theirs) and keys.issuer != theirs


def _other_patient(keys: Keys, answer: TextHeader) -> bool:
    ours, theirs = keys.values[Key.PATIENT], answer.clean(Key.PATIENT)
    if not ours or not theirs or _other_issuer(keys, answer):
        return False
    return ours.casefold() != theirs.casefold()
