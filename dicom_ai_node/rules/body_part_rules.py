"""J: BodyPartExamined (PS3.3 C.7.3.1), its terms (PS3.16 annex L), its side, and what goes with it.

Headers say CHEST of slices from shoulder to pelvis. So parts are compared by the coarse areas that
they are in, and only what has nothing in common contradicts.
"""

from collections.abc import Iterator

from dicom_ai_node.dicom.body_part_words import LEFT, RIGHT
from dicom_ai_node.dicom.body_parts import BODY_PARTS, areas_of, combined
from dicom_ai_node.rules.body_part_meaning import (
    BODY_PART,
    coded_parts,
    contradicted,
    described_areas,
    described_sides,
    recorded_part,
    study_areas,
)
from dicom_ai_node.rules.coherence_rules import animal
from dicom_ai_node.rules.reading import Reading, shown
from dicom_ai_node.rules.rule import (
    CONFLICT,
    ERROR,
    INFORMATION,
    MALFORMED,
    MISSING,
    WARNING,
    Case,
    Hit,
    each,
    rule,
)

_NAMES = {LEFT: "left", RIGHT: "right"}
_PROJECTIONS = frozenset({"CR", "DX", "MG", "RF", "RG", "XA"})
_BOTH_SHOWN = frozenset({"HIP", "BREAST", "BUTTOCK", "GLUTEAL", "INGUINAL"})
"""Sections show both sides of these."""
_SOME_LIMB = frozenset({"EXTREMITY", "UPPERLIMB", "LOWERLIMB"})
"""Says so little that it may be both sides as well."""


@rule("J1", WARNING, "body_part", "BodyPartExamined is absent or empty")
def _missing(case: Case) -> Iterator[Hit]:
    lacking = [reading for reading in case.readings if not reading.header.clean(BODY_PART)]
    if lacking and len(lacking) < len(case.readings):
        yield Hit("BodyPartExamined is absent or empty in a part of the images", None, INFORMATION)
    elif lacking and (term := coded_parts(case.readings)):
        reason = f"BodyPartExamined is absent or empty, and AnatomicRegionSequence says {term}"
        yield Hit(reason, None, INFORMATION)
    elif lacking:
        yield Hit(status=MISSING)


@rule(
    "J2",
    ERROR,
    "body_part",
    "BodyPartExamined is no defined term",
    status=MALFORMED,
)
@each
def _no_defined_term(reading: Reading) -> Iterator[Hit]:
    text = reading.header.clean(BODY_PART)
    # Animals have terms of their own (table L-2), and are not assessed.
    if not text or "\\" in text or text in BODY_PARTS or animal(reading):
        return
    meant = recorded_part(reading.header)
    yield Hit(
        f"BodyPartExamined {shown(text)} is no defined term"
        + (f"; {meant} is" if meant else " of PS3.16 annex L")
    )


@rule(
    "J3",
    WARNING,
    "body_part",
    "Descriptions of the study or the series name other parts of the body than BodyPartExamined",
    status=CONFLICT,
)
@each
def _against_words(reading: Reading) -> Iterator[Hit]:
    if contradicted(reading.header):
        named = ", ".join(sorted(described_areas(reading.header)))
        yield Hit(
            f"BodyPartExamined {reading.quoted(BODY_PART)}, and the descriptions name: {named}"
        )


@rule(
    "J4",
    WARNING,
    "body_part",
    "Laterality of a part that is one of two is missing, or is not the side that descriptions name",
)
@each
def _laterality(reading: Reading) -> Iterator[Hit]:
    part = BODY_PARTS.get(recorded_part(reading.header))
    if part is None or not part.one_of_two or animal(reading):
        return
    keywords = ("ImageLaterality", "Laterality")
    recorded = {keyword: reading.header.clean(keyword) for keyword in keywords}
    named = described_sides(reading.header)
    for keyword, side in recorded.items():
        if side in _NAMES and named and side not in named:
            yield Hit(f"{keyword} is {side}, and the descriptions say {_NAMES[min(named)]}")
    if not any(recorded.values()) and len(named) < len(_NAMES) and _shows_one(reading, part.term):
        said = f"; the descriptions say {_NAMES[min(named)]}" if named else ""
        yield Hit(f"Laterality is absent or empty with BodyPartExamined {part.term}{said}")


def _shows_one(reading: Reading, term: str) -> bool:
    """Whether an image of the part shows one side of it, and nothing else says which."""
    projection = reading.header.clean("Modality") in _PROJECTIONS
    coded = reading.header.clean("AnatomicRegionSequence").upper()
    return (
        term not in _SOME_LIMB
        and (projection or term not in _BOTH_SHOWN)
        and not any(name.upper() in coded for name in _NAMES.values())
    )


@rule(
    "J5",
    WARNING,
    "body_part",
    "Series of the study show parts of the body that nothing joins, and one was not asked for",
)
def _foreign_series(case: Case) -> Iterator[Hit]:
    asked = frozenset[str]().union(*(study_areas(reading.header) for reading in case.readings))
    # What lies beside the part that was asked for is shown with it.
    terms = {
        recorded_part(reading.header) for reading in case.readings if not _is_scout(reading)
    } - {""}
    wanted = sorted(term for term in terms if not areas_of(term).isdisjoint(asked))
    for term in sorted(terms.difference(wanted)):
        if wanted and not any(combined({term, other}) for other in wanted):
            yield Hit(
                f"A series of BodyPartExamined {term} beside {wanted[0]}, where the study is "
                f"described as: {', '.join(sorted(asked))}"
            )


def _is_scout(reading: Reading) -> bool:
    return "LOCALIZER" in reading.header.parts("ImageType")
