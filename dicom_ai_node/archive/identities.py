"""G5: one PatientID that is several persons, and one person under several PatientIDs.

Names are held against each other. Sex is never guessed from one.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from dicom_ai_node.archive.member import Member, grouped
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.rules.ages_and_dates import read_date
from dicom_ai_node.rules.missing_rules import test_word
from dicom_ai_node.rules.rule import WARNING, Hit, rule

_WORD = re.compile(r"[^\W\d_]+")
_LATIN = re.compile(r"[a-z]+")
# As they are written where the letter is not to be had.
_DIGRAPHS: Mapping[int, str] = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe", "æ": "ae", "ß": "ss", "ł": "l"}
)

Words = frozenset[str]

# Of a PatientID with more names than these it is plain that it is no patient's.
_MOST_NAMES = 50


@rule(
    "G5",
    WARNING,
    "identity",
    "One PatientID with names of several persons, or one person under several PatientIDs",
)
def _identities(members: Sequence[Member], settings: RulesSettings) -> Iterator[tuple[Member, Hit]]:
    persons = [
        study
        for study in members
        if study.patient
        and not study.check.exempt
        and not study.deidentified
        and not test_word(study.usual("PatientName"), settings.test_names)
    ]
    yield from _merged(persons, settings)
    yield from _split(persons, settings)


def _merged(members: Sequence[Member], settings: RulesSettings) -> Iterator[tuple[Member, Hit]]:
    for studies in grouped(members, lambda study: study.patient).values():
        faces = {
            study.key: (study.usual("PatientName"), _birth(study, settings)) for study in studies
        }
        compared = sorted(set(faces.values()))[:_MOST_NAMES]
        odd = {
            face
            for face in set(faces.values())
            if any(not _belong(face, other) for other in compared)
        }
        for study in studies:
            if faces[study.key] in odd:
                yield study, Hit("PatientName is not that of other studies of this PatientID")


def _belong(face: tuple[str, str], other: tuple[str, str]) -> bool:
    """Whether a name and birth date may be those of the person of another.

    One part of a name changes with a marriage, and is the same in a family: the birth date decides.
    """
    family, given = same_person(components(face[0]), components(other[0]))
    births_differ = bool(face[1] and other[1] and face[1] != other[1])
    return family and given if births_differ else family or given


def _split(members: Sequence[Member], settings: RulesSettings) -> Iterator[tuple[Member, Hit]]:
    def person(study: Member) -> tuple[str, ...]:
        birth = _birth(study, settings)
        known = birth[4:] not in settings.year_only_days
        family, given = components(study.usual("PatientName"))
        sex = study.usual("PatientSex")
        whole = bool(family and given)
        return (
            " ".join(sorted(family)) if whole else "",
            " ".join(sorted(given)) if whole else "",
            birth if known else "",
            sex if sex in {"M", "F", "O"} else "",
        )

    issuers = _issuers(members)
    for same in grouped(members, person).values():
        counts = Counter(issuers[patient] for patient in {study.patient for study in same})
        for study in same:
            count = counts[issuers[study.patient]]
            if count > 1:
                yield (
                    study,
                    Hit(f"{count} PatientIDs of one issuer have this name, birth date and sex"),
                )


def _issuers(members: Sequence[Member]) -> dict[str, str]:
    """Issuer of each patient's PatientID, '' where no study says it."""
    issuers: dict[str, str] = {}
    for study in members:
        issuers[study.patient] = max(
            issuers.get(study.patient, ""), study.usual("IssuerOfPatientID")
        )
    return issuers


def _birth(member: Member, settings: RulesSettings) -> str:
    """PatientBirthDate where it is a date and no placeholder, else ''."""
    text = member.usual("PatientBirthDate")
    return text if read_date(text) and text not in settings.placeholder_birth_dates else ""


def components(name: str) -> tuple[Words, Words]:
    """Words of the family name and of the given names, Latin letters only, in every spelling.

    Of a name in several scripts (alphabetic=ideographic=phonetic) the alphabetic one.
    """
    family, _, given = name.split("=")[0].partition("^")
    if not given and "," in family:
        family, _, given = family.partition(",")
    return _words(family), _words(given.partition("^^")[0])


def same_person(one: tuple[Words, Words], other: tuple[Words, Words]) -> tuple[bool, bool]:
    """Whether the family names, and whether the given names, may be those of one person.

    A part that either lacks, or has in another script only, does not speak against it. Names in
    the wrong order are told from others: then both parts fit crosswise.
    """
    straight = _compatible(one[0], other[0]), _compatible(one[1], other[1])
    crossed = _compatible(one[0], other[1]), _compatible(one[1], other[0])
    return (True, True) if all(crossed) else straight


def _words(text: str) -> Words:
    found: set[str] = set()
    for word in _WORD.findall(unicodedata.normalize("NFC", text).casefold()):
        bare = unicodedata.normalize("NFKD", word)
        plain = "".join(letter for letter in bare if not unicodedata.combining(letter))
        found |= {
            spelling
            for spelling in (plain, word.translate(_DIGRAPHS))
            if _LATIN.fullmatch(spelling)
        }
    return frozenset(found)


def _compatible(one: Words, other: Words) -> bool:
    """Whether a word of one is, but for one letter or but for what follows an initial, another."""
    return not one or not other or any(_close(a, b) for a in one for b in other)


def _close(a: str, b: str) -> bool:
    short, long = sorted((a, b), key=len)
    if len(short) <= 2 or long.startswith(short):
        return long.startswith(short)  # An initial, or a name that was cut.
    if len(short) < 4 or len(long) - len(short) > 1:
        return False
    start = next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(short))
    rest_a, rest_b = a[start:], b[start:]
    swapped = rest_a[:2] == rest_b[:2][::-1] and rest_a[2:] == rest_b[2:]
    return rest_a[1:] == rest_b[1:] or rest_a[1:] == rest_b or rest_a == rest_b[1:] or swapped
