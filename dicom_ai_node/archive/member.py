"""A study among the others of an archive, and what a rule over an archive is."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, TypeVar

from pydantic import TypeAdapter

from dicom_ai_node.answers import StudyResult
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.likeness import Embedding
from dicom_ai_node.rules.ages_and_dates import read_date
from dicom_ai_node.rules.attributes import comparable_age, comparable_sex
from dicom_ai_node.rules.rule import Hit, Rule
from dicom_ai_node.rules.text_header import TextHeader, usual
from dicom_ai_node.types import HeaderCheck, PriorStudy

_SHIFTED = {"MODIFIED", "REMOVED"}


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """One study as a source gave it. Holds patient data: for the database, never for a log."""

    study_instance_uid: str
    """'' where the source named none."""
    headers: tuple[TextHeader, ...]
    """The different headers of its instances; of the listing alone where nothing better was had."""
    listed: TextHeader | None = None
    """What C-FIND or QIDO-RS answered for the study; None for sources that hold files."""
    from_files: bool = True
    """Whether ``headers`` are whole headers of the instances (files or WADO-RS metadata)."""

    def to_json(self) -> dict[str, Any]:
        """Return the facts for the database."""
        return {
            "study_instance_uid": self.study_instance_uid,
            "headers": [_dump(header) for header in self.headers],
            "listed": _dump(self.listed) if self.listed else None,
            "from_files": self.from_files,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "StudyFacts":
        """Read what :meth:`to_json` wrote."""
        return _FACTS.validate_python(values)


_FACTS = TypeAdapter(StudyFacts)


@dataclass(frozen=True, slots=True)
class Collected:
    """One study as it was collected."""

    key: str
    facts: StudyFacts | None
    """None where the study could not be read at all: see ``fault``."""
    result: StudyResult | None = None
    """What the network said, None where it was not asked. Its check is of this study alone."""
    expected: int | None = None
    """Instances that the source listed."""
    arrived: int | None = None
    """Instances that came, None where none were asked for."""
    fault: str = ""
    """Why the study, or a part of it, could not be retrieved; without patient data."""
    chest: Embedding | None = field(default=None, repr=False)
    """None where the network saw none, or chests are not compared."""


@dataclass(frozen=True, slots=True)
class Member:
    """One study of the archive, checked."""

    study: Collected
    check: HeaderCheck
    headers: tuple[TextHeader, ...] = ()
    """The different ones of its instances."""
    patient: str = ""
    """Hash of PatientID and its issuer, '' without a PatientID."""

    @property
    def key(self) -> str:
        """The key of the study."""
        return self.study.key

    @property
    def result(self) -> StudyResult | None:
        """What the network said, None where it was not asked."""
        return self.study.result

    def usual(self, keyword: str) -> str:
        """What most instances say, '' where none says anything."""
        return usual(self.headers, keyword)

    @property
    def day(self) -> date | None:
        """StudyDate, None when it is no date."""
        return read_date(self.usual("StudyDate"))

    @property
    def shifted(self) -> bool:
        """De-identification changed the dates (D10)."""
        keyword = "LongitudinalTemporalInformationModified"
        return any(header.clean(keyword).upper() in _SHIFTED for header in self.headers)

    @property
    def deidentified(self) -> bool:
        """Names and PatientIDs are not those of a person."""
        return self.shifted or any(
            header.clean("PatientIdentityRemoved").upper() == "YES"
            or header.clean("DeidentificationMethod")
            or header.clean("DeidentificationMethodCodeSequence")
            for header in self.headers
        )

    @property
    def history(self) -> PriorStudy | None:
        """What rules G1 to G4 may hold against the patient's other studies.

        What is not held against this study is not held against others: a censored age, a sex that
        is not assessed; of a study that is exempt or has shifted dates nothing (None).
        """
        if not self.patient or self.check.exempt or self.shifted:
            return None
        return PriorStudy(
            study_instance_uid=self.key,
            study_date=self.day,
            sex=comparable_sex(self.check),
            birth_date=self.usual("PatientBirthDate"),
            age_years=comparable_age(self.check),
        )


Group = TypeVar("Group", str, tuple[str, ...])
Over = Callable[[Sequence[Member], RulesSettings], Iterator[tuple[Member, Hit]]]


ArchiveRule = Rule[Over]


def patients(headers: Mapping[str, Sequence[TextHeader]]) -> Mapping[str, str]:
    """Each study's patient: a hash of PatientID and issuer, '' without a PatientID.

    Where the issuer is not said, as in the answers of many archives, it is the only one that is
    known of this PatientID, if there is only one.
    """
    named = {
        key: (usual(instances, "PatientID"), usual(instances, "IssuerOfPatientID"))
        for key, instances in headers.items()
    }
    issuers: dict[str, set[str]] = {}
    for patient, issuer in named.values():
        issuers.setdefault(patient, set()).update({issuer} - {""})
    pseudonyms = {}
    for key, (patient, issuer) in named.items():
        known = issuers[patient]
        text = f"{issuer or (min(known) if len(known) == 1 else '')}\0{patient}"
        pseudonyms[key] = hashlib.sha256(text.encode()).hexdigest() if patient else ""
    return pseudonyms


def grouped(
    members: Sequence[Member], key: Callable[[Member], Group]
) -> Mapping[Group, Sequence[Member]]:
    """Members by what ``key`` says of them; those of which it says '' are left out."""
    groups: dict[Group, list[Member]] = {}
    for member in members:
        group = key(member)
        if group and all(group):
            groups.setdefault(group, []).append(member)
    return groups


def _dump(header: TextHeader) -> dict[str, Any]:
    return {
        "values": dict(header.values),
        "undecodable": sorted(header.undecodable),
        "transfer_syntax_uid": header.transfer_syntax_uid,
    }
