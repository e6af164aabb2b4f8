"""What free text and odd values say of the body part: ``CT Thorax/Abdomen``, ``C-SPINE``, ``Knie``.

Reading is careful where something follows from it. A word that could also be a symptom, a position
or a coil ('chest pain', 'feet first', 'pelvic phased array coil') names nothing, and what stands
behind 'r/o' was suspected and not necessarily looked at.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from dicom_ai_node.dicom.body_part_vocabulary import NOTHING, VOCABULARY
from dicom_ai_node.dicom.body_parts import BODY_PARTS, Area, areas_of, combined

LEFT, RIGHT = "L", "R"
"""Sides as Laterality (0020,0060) has them."""

_UMLAUTS: Final = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "AE", "Ö": "OE", "Ü": "UE"})
# 'ThoraxRoutine' and 'T2W' are two words.
_WORD = re.compile(r"[A-Z]+|\d+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SUSPECTED = re.compile(
    r"\b(R\s*/\s*O|RULE OUT|S\s*/\s*P|STATUS POST|HX|HISTORY|INDICATION|REASON|VERDACHT|V\s*\.\s*A"
    r"|AUSSCHLUSS|Z\s*\.\s*N|SUSPECTED|SUSPICION)\b"
)


def _among(words: str) -> frozenset[str]:
    return frozenset(words.split())


_SYMPTOMS: Final = _among(
    "PAIN PAINS ACHE SCHMERZ SCHMERZEN DOULEUR DOULEURS DOLOR CANCER CA CARCINOMA KARZINOM TUMOR "
    "TUMOUR METS METASTASES METASTASIS METASTASEN MET"
)
_COILS: Final = _among("COIL COILS SPULE SPULEN ARRAY ANTENNE ANTENNA")
_OF_COILS: Final = _among("PHASED FLEX SURFACE MATRIX CHANNEL CH QUAD VOLUME AND")
_DENIALS: Final = _among("NO NOT WITHOUT OHNE SANS SIN EXCL EXCLUDING KEIN KEINE")
_BOTH: Final = _among(
    "BOTH BILATERAL BILAT BILATERAUX BEIDE BEIDSEITS BDS BEIDER DEUX AMBOS AMBAS BIL LES"
)
_SIDES: Final[Mapping[str, str]] = {
    **dict.fromkeys(_among("LEFT LINKS LINKE LINKER LINKES GAUCHE IZQUIERDA IZQUIERDO IZQ"), LEFT),
    **dict.fromkeys(
        _among("RIGHT RECHTS RECHTE RECHTER RECHTES DROIT DROITE DERECHA DERECHO"), RIGHT
    ),
}
_SHORT_SIDES: Final[Mapping[str, str]] = {
    **dict.fromkeys(_among("LT LI L"), LEFT),
    **dict.fromkeys(_among("RT RE R"), RIGHT),
}
"""Read beside a word for a part that is one of two: elsewhere RT is radiotherapy."""
_VIEWS: Final = _among("LATERAL LAT LATERALLY ANTERIOR POSTERIOR OBLIQUE DECUB DECUBITUS")
"""Behind a side they make it one of the patient's position: 'left lateral'."""
_FILLERS: Final = (
    _among(
        "AND TO THE OF WITH W WO WITHOUT CONTRAST CT MR MRI MRT CR DX XR XRAY RX US PET NATIVE "
        "NATIV ROUTINE STANDARD ADULT CHILD PAED PEDIATRIC AP PA LL DV VD FRONTAL AXIAL SAG COR "
        "TRA UND ET Y VIEW VIEWS STUDY EXAM SCAN BONE JOINT JOINTS REGION AREA ONLY EXT DE DU "
        "DES LA LE EL PORTABLE SUPINE ERECT STANDING UPRIGHT BED GRID NO IV SOFT TISSUE TISSUES"
    )
    | _BOTH
    | _SIDES.keys()
    | _SHORT_SIDES.keys()
    | _VIEWS
)
"""Words that a value of BodyPartExamined may hold beside the part."""


@dataclass(frozen=True, slots=True)
class _Match:
    """Words of a text that name a part, ``begin`` to before ``end``."""

    begin: int
    end: int
    term: str
    sure: bool
    """Whether the term itself is named, and not only where on the body it is."""


def _phrases() -> Iterator[tuple[tuple[str, ...], tuple[str, bool]]]:
    for line in VOCABULARY.strip().splitlines():
        term, words = line.split(": ")
        for phrase in words.split(", "):
            yield tuple(phrase.split()), (term.removeprefix("?"), not term.startswith("?"))
    for line in NOTHING.strip().splitlines():
        for phrase in line.split(", "):
            yield tuple(phrase.split()), ("", True)


_PHRASES: Final = MappingProxyType(dict(_phrases()))
_STEMS: Final = {words[0][:-1]: found for words, found in _PHRASES.items() if words[0][-1] == "*"}
_LONGEST: Final = max(map(len, _PHRASES))


def terms_named(text: str) -> frozenset[str]:
    """The defined terms that a description names for sure; 'cervical' alone names none."""
    return frozenset(match.term for match in _read(text)[1] if match.sure)


def areas_named(text: str) -> frozenset[Area]:
    """Where on the body a description is about, empty where it does not say.

    What lies between is part of it: 'chest to pelvis' is about the abdomen too.
    """
    matches = _read(text)[1]
    span = combined({match.term for match in matches})
    between = areas_of(span) if span else frozenset[Area]()
    return between.union(*(areas_of(match.term) for match in matches))


def term_named(text: str) -> str:
    """The one term for everything that a description names, '' where that is not sure."""
    return _one_term(_read(text)[1])


def read_value(text: str) -> str:
    """The defined term that a value of BodyPartExamined surely means, '' where that is not sure.

    Case, separators and padding do not count (``C-SPINE``, ``head_and_neck``), views and sides may
    stand beside the part (``Chest^PA``), and it may be a word of another language (``SCHAEDEL``).
    """
    plain = _plain(text)
    compact = "".join(_WORD.findall(plain))
    if compact in BODY_PARTS:
        return compact
    words, matches = _read(text)
    read = {place for match in matches for place in range(match.begin, match.end)}
    others = {word for place, word in enumerate(words) if place not in read}
    if any(word not in _FILLERS and not word.isdecimal() for word in others):
        return ""
    return _one_term(matches)


def sides_named(text: str) -> frozenset[str]:
    """The sides, :data:`LEFT` and :data:`RIGHT`, that a description names; empty where none."""
    words, matches = _read(text)
    if not _BOTH.isdisjoint(words):
        return frozenset({LEFT, RIGHT})
    beside = {
        place
        for match in matches
        if BODY_PARTS[match.term].one_of_two
        for place in (match.begin - 1, match.end)
    }
    sides = {
        _SIDES.get(word) or (_SHORT_SIDES.get(word) if place in beside else None)
        for place, word in enumerate(words)
        if _VIEWS.isdisjoint(words[place + 1 : place + 2])
    }
    return frozenset(side for side in sides if side is not None)


def _plain(text: str) -> str:
    """In capitals and without accents, umlauts spelt out, words in camel case parted."""
    parted = _CAMEL.sub(" ", text.translate(_UMLAUTS).replace("ß", "ss"))
    spread = unicodedata.normalize("NFKD", parted)
    return "".join(char for char in spread if not unicodedata.combining(char)).upper()


@lru_cache(maxsize=4096)
def _read(text: str) -> tuple[list[str], list[_Match]]:
    """The words of a text, and the parts that they name: the texts of an archive repeat."""
    words = _words(text)
    return words, _matches(words)


def _words(text: str) -> list[str]:
    return _WORD.findall(_SUSPECTED.split(_plain(text), maxsplit=1)[0])


def _matches(words: list[str]) -> list[_Match]:
    """Parts named in ``words``, in their order, without those that are about something else."""
    found: list[_Match] = []
    place = 0
    while place < len(words):
        match = _match(words, place)
        if match is None:
            place += 1
            continue
        place = match.end
        a_symptom = not _SYMPTOMS.isdisjoint(words[place : place + 1])
        denied = match.begin > 0 and words[match.begin - 1] in _DENIALS
        if match.term and not a_symptom and not denied:
            found.append(match)
    return [match for match in found if not _is_coil(words, match.end, found)]


def _match(words: list[str], place: int) -> _Match | None:
    for length in range(min(_LONGEST, len(words) - place), 0, -1):
        if named := _PHRASES.get(tuple(words[place : place + length])):
            return _Match(place, place + length, *named)
    word = words[place]
    for stem, named in _STEMS.items():
        if word.startswith(stem):
            return _Match(place, place + 1, *named)
    return None


def _is_coil(words: list[str], place: int, found: list[_Match]) -> bool:
    """Whether nothing but words for a coil leads from ``place`` to one."""
    parts = {at for match in found for at in range(match.begin, match.end)}
    while place < len(words) and (
        place in parts or words[place] in _OF_COILS or words[place].isdecimal()
    ):
        place += 1
    return place < len(words) and words[place] in _COILS


def _one_term(matches: list[_Match]) -> str:
    sure = {match.term for match in matches if match.sure}
    # 'Extremity, knee' is a knee, 'spine lumbar region' the lumbar spine.
    specific = {
        term
        for term in sure
        if not (
            term in {"EXTREMITY", "UPPERLIMB", "LOWERLIMB", "SPINE"}
            and any(areas_of(other) < areas_of(term) for other in sure)
        )
    }
    term = combined(specific)
    covered = areas_of(term) if term else frozenset[Area]()
    vague = (areas_of(match.term) for match in matches if not match.sure)
    return term if all(areas <= covered for areas in vague) else ""
