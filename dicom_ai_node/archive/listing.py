"""G8 and S: what the source said of a study against what came of it."""

import re
import unicodedata
from collections.abc import Iterator, Sequence

from dicom_ai_node.archive.member import Member
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.rules.reading import shown
from dicom_ai_node.rules.rule import INFORMATION, WARNING, Hit, rule
from dicom_ai_node.rules.text_header import TextHeader
from dicom_ai_node.types import AttributeStatus

_COMPARED = (
    # keyword, attribute, whether its values may be quoted
    ("PatientID", "identity", False),
    ("PatientName", "identity", False),
    ("PatientBirthDate", "dates", True),
    ("PatientSex", "sex", True),
    ("StudyDate", "dates", True),
    ("AccessionNumber", "identity", False),
)
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
# What is written for a character that a character set lacks.
_LOST = {"?", "\ufffd"}


@rule(
    "G8", INFORMATION, "identity", "The listing (C-FIND, QIDO-RS) says something else than the file"
)
def _against_file(
    members: Sequence[Member], settings: RulesSettings
) -> Iterator[tuple[Member, Hit]]:
    for member in members:
        facts = member.study.facts
        # Only whole headers can be held against a listing.
        if facts is None or facts.listed is None or not (facts.from_files and member.headers):
            continue
        for keyword, attribute, quoted in _COMPARED:
            if _agrees(keyword, facts.listed, member.headers):
                continue
            listed, filed = facts.listed.clean(keyword), member.usual(keyword)
            values = f": {shown(listed)} and {shown(filed)}" if quoted else ""
            conflict = attribute == "sex" and {listed, filed} == {"M", "F"}
            yield (
                member,
                Hit(
                    f"{keyword} of the listing is not that of the file{values}",
                    attribute,
                    status=AttributeStatus.CONFLICT_HEADER if conflict else None,
                ),
            )


def _agrees(keyword: str, listed: TextHeader, headers: Sequence[TextHeader]) -> bool:
    """Whether the listing says nothing, or what an instance says but for how it is written."""
    text = listed.clean(keyword)
    if not text or keyword in listed.undecodable:
        return True
    return any(
        keyword in filed.undecodable or _same(keyword, text, filed.clean(keyword))
        for filed in headers
    )


def _same(keyword: str, listed: str, other: str) -> bool:
    if keyword != "PatientName":
        return _plain(keyword, listed) == _plain(keyword, other)
    # A listing may hold the alphabetic group only, and an archive without the others gives none.
    groups = zip(listed.split("="), other.split("="), strict=False)
    pairs = [(_name(a), _name(b)) for a, b in groups]
    both = [(a, b) for a, b in pairs if a and b]
    return all(_lossy_equal(a, b) for a, b in both) if both else not _name(other)


def _plain(keyword: str, text: str) -> str:
    """The value without what archives change: case, and the dots of dates before DICOM 3."""
    folded = " ".join(unicodedata.normalize("NFC", text).casefold().split())
    return folded.replace(".", "") if keyword.endswith("Date") else folded


def _name(group: str) -> str:
    parts = (" ".join(part.split()) for part in group.strip().split("^"))
    return unicodedata.normalize("NFC", "^".join(parts)).casefold().rstrip("^ ")


def _lossy_equal(name: str, other: str) -> bool:
    """Whether the two are the same but for letters that one of them could not be written with."""
    return len(name) == len(other) and all(
        a == b or (a in _LOST and not b.isascii()) or (b in _LOST and not a.isascii())
        for a, b in zip(name, other, strict=True)
    )


@rule("S1", WARNING, "image", "The study, or a part of it, could not be retrieved from its source")
def _not_had(members: Sequence[Member], settings: RulesSettings) -> Iterator[tuple[Member, Hit]]:
    for member in members:
        if fault := member.study.fault:
            yield member, Hit(f"the study was not retrieved completely: {fault}")


@rule("S2", WARNING, "image", "Fewer instances came than the source listed")
def _incomplete(members: Sequence[Member], settings: RulesSettings) -> Iterator[tuple[Member, Hit]]:
    for member in members:
        expected, arrived = member.study.expected, member.study.arrived
        if expected is not None and arrived is not None and arrived < expected:
            yield member, Hit(f"{arrived} of the {expected} instances came that were listed")


@rule("S3", WARNING, "identity", "StudyInstanceUID is absent or no UID")
def _nameless(members: Sequence[Member], settings: RulesSettings) -> Iterator[tuple[Member, Hit]]:
    for member in members:
        facts = member.study.facts
        uid = facts.study_instance_uid if facts else ""
        if facts and (len(uid) > 64 or not _UID.fullmatch(uid)):
            yield member, Hit("StudyInstanceUID is " + ("no UID" if uid else "absent or empty"))
