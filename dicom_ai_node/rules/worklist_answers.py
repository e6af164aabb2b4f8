"""What a worklist is asked about a study, and which of its answers are about that study.

From what names the study to what names the patient alone:

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
from enum import StrEnum

from dicom_ai_node.rules.ages import read_age
from dicom_ai_node.rules.calendar_dates import read_date
from dicom_ai_node.rules.header import Header
from dicom_ai_node.rules.rule import OTHER_SEXES
from dicom_ai_node.types import WorklistAnswer

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
class Asked:
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
    def of(cls, headers: Sequence[Header]) -> "Keys":
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


def chosen(key: Key, keys: Keys, answers: Sequence[Header]) -> Asked:
    """Return what ``answers``, asked for by ``key``, say of the study; others are ignored."""
    about = [one for one in answers if matches(key, keys, one)]
    if key is not Key.STUDY:
        about = [one for one in about if one.clean(Key.PATIENT) and not _other_issuer(keys, one)]
    if not about:
        return Asked(Verdict.NOTHING)
    others = {_other_patient(keys, one) for one in about}
    issuers = {one.clean("IssuerOfPatientID") for one in about} - {""}
    births = {text for one in about if read_date(text := one.clean("PatientBirthDate"))}
    sexes = {text for one in about if (text := one.clean("PatientSex")) in _SEXES}
    if others == {True}:
        return Asked(Verdict.ANSWERED, WorklistAnswer(key, other_patient=True))
    if max(len(others), len(issuers), len(births), len(sexes)) > 1:
        return Asked(Verdict.CONTRADICTION)
    ages = {text for one in about if read_age(text := one.clean("PatientAge"))}
    age = ages.pop() if len(ages) == 1 and key is not Key.PATIENT else ""
    answer = WorklistAnswer(key, birth_date="".join(births), sex="".join(sexes), age=age)
    useful = answer.birth_date or answer.sex or answer.age
    return Asked(Verdict.ANSWERED, answer) if useful else Asked(Verdict.NOTHING)


def matches(key: Key, keys: Keys, answer: Header) -> bool:
    """Whether an answer has the value that was asked for."""
    return answer.clean(key) == keys.values[key]


def _other_issuer(keys: Keys, answer: Header) -> bool:
    theirs = answer.clean("IssuerOfPatientID")
    return bool(keys.issuer and theirs) and keys.issuer != theirs


def _other_patient(keys: Keys, answer: Header) -> bool:
    own, theirs = keys.values[Key.PATIENT], answer.clean(Key.PATIENT)
    if not own or not theirs or _other_issuer(keys, answer):
        return False
    return own.casefold() != theirs.casefold()
