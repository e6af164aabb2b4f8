"""BodyPartExamined (0018,0015): its defined terms, where they are, and what several make together.

Two parts agree when they have an area in common: CHESTABDOMEN and LIVER do, HEAD and KNEE do not.
Areas are coarse on purpose. A header names the organ that was asked for, an image shows what lies
around it, and neither is wrong.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from dicom_ai_node.dicom.body_part_terms import EVERYWHERE, TERMS

Area = str
"""One of :data:`AREAS`."""

AREAS: Final[tuple[Area, ...]] = tuple(EVERYWHERE.split())
"""From head to foot."""
LIMBS: Final = frozenset(AREAS[AREAS.index("shoulder") : AREAS.index("chest")]) | frozenset(
    AREAS[AREAS.index("hip") :]
)
"""Areas that everybody has twice, and that are imaged one at a time."""


@dataclass(frozen=True, slots=True)
class BodyPart:
    """A defined term of BodyPartExamined (PS3.16 table L-1)."""

    term: str
    code: str
    """In SNOMED CT (``SCT``), '' where the standard gives none."""
    meaning: str
    areas: frozenset[Area]
    """Where it is; every area for a part that may be anywhere."""
    paired: bool
    """Whether it is one of a pair."""

    @property
    def one_of_two(self) -> bool:
        """Whether images usually show one side of it, so that Laterality has to say which."""
        return self.paired and (self.areas <= LIMBS or self.term in {"BREAST", "HIP"})


def _parts() -> dict[str, BodyPart]:
    parts = {}
    for areas, rows in TERMS.items():
        for row in filter(None, map(str.strip, rows.splitlines())):
            term, code, meaning = row.removeprefix("*").split(maxsplit=2)
            parts[term] = BodyPart(
                term,
                "" if code == "-" else code,
                meaning,
                frozenset(areas.split()),
                paired=row.startswith("*"),
            )
    return parts


BODY_PARTS: Final[Mapping[str, BodyPart]] = MappingProxyType(_parts())
"""By term."""
BY_CODE: Final[Mapping[str, BodyPart]] = MappingProxyType(
    {part.code: part for part in reversed([*BODY_PARTS.values()]) if part.code}
)
"""By SNOMED code; of several terms with one code the first in the table."""

_NAMED_REGIONS = """
    HEAD NECK HEADNECK CHEST NECKCHEST NECKCHESTABDOMEN NECKCHESTABDPELV CHESTABDOMEN
    CHESTABDPELVIS ABDOMEN ABDOMENPELVIS PELVIS BREAST HIP PELVISLOWEXTREMT SHOULDER UPPERARM
    ELBOW FOREARM HAND ARM UPPERLIMB THIGH KNEE LOWERLEG FOOT LEG LOWERLIMB EXTREMITY
"""
_REGIONS: Final = tuple(_NAMED_REGIONS.split())
"""Terms that name a region and no organ, the preferred of equals first."""
_SPINES: Final = frozenset(
    {"CSPINE", "TSPINE", "LSPINE", "SSPINE", "CTSPINE", "TLSPINE", "LSSPINE", "SPINE"}
)
_SECTIONS: Final = {"CSPINE": "C", "TSPINE": "T", "LSPINE": "L", "SSPINE": "S"}
_TRUNK: Final = frozenset({"chest", "abdomen", "pelvis"})


def areas_of(term: str) -> frozenset[Area]:
    """Where a defined term is on the body.

    Raises:
        KeyError: it is no defined term.
    """
    return BODY_PARTS[term].areas


def agree(one: str, other: str) -> bool:
    """Whether an image of the one part may be one of the other: their areas meet.

    Raises:
        KeyError: one of them is no defined term.
    """
    return not areas_of(one).isdisjoint(areas_of(other))


def along_the_body(terms: Collection[str]) -> list[str]:
    """Terms from head to foot, by where they begin and then by where they end.

    Raises:
        KeyError: one of them is no defined term.
    """

    def place(term: str) -> tuple[list[int], str]:
        return sorted(AREAS.index(area) for area in areas_of(term)), term

    return sorted(set(terms), key=place)


def region_of(areas: Collection[Area]) -> str:
    """The term of the smallest region with all of these areas, '' where there is none.

    What lies between is part of it: chest and pelvis are CHESTABDPELVIS. WHOLEBODY is the trunk
    with more than the neck.
    """
    asked = frozenset(areas)
    if not asked:
        return ""
    fitting = [term for term in _REGIONS if asked <= areas_of(term)]
    if fitting:
        return min(fitting, key=lambda term: len(areas_of(term)))
    return "WHOLEBODY" if asked >= _TRUNK and asked - _TRUNK - {"neck", "breast", "hip"} else ""


def combined(terms: Collection[str]) -> str:
    """The one term for several parts, themselves where it is one; '' where no term has them all.

    Sections of the spine make a longer one, everything else the smallest region: CHEST and LIVER
    are CHESTABDOMEN, BRAIN and NECK HEADNECK.

    Raises:
        KeyError: one of them is no defined term.
    """
    named = set(terms)
    if len(named) <= 1:
        return "".join(named)
    if named <= _SPINES:
        return _spine(named)
    areas = frozenset[Area]().union(*map(areas_of, named))
    # Beside the chest or the pelvis as such, the paired part in front of it or at its side is
    # within what is shown: chest and breast are a chest.
    if any(areas_of(term) == {"chest"} for term in named):
        areas -= {"breast"}
    if any(areas_of(term) == {"pelvis"} for term in named):
        areas -= {"hip"}
    return region_of(areas)


def _spine(named: set[str]) -> str:
    sections = {letter for term in named for letter in _SECTIONS.get(term, term[:-5]) or "CTLS"}
    first, last = min(map("CTLS".index, sections)), max(map("CTLS".index, sections))
    covered = "CTLS"[first : last + 1]
    return f"{covered}SPINE" if f"{covered}SPINE" in BODY_PARTS else "SPINE"
