"""What is to be filled in, with where it comes from; and what must never be."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dicom_ai_node.dicom.body_parts import BODY_PARTS
from dicom_ai_node.errors import FillError
from dicom_ai_node.report.words import percent
from dicom_ai_node.rules.ages_and_dates import read_age

AGE: Final = "PatientAge"
SEX: Final = "PatientSex"
BODY_PART: Final = "BodyPartExamined"
FILLED: Final = (AGE, SEX, BODY_PART)
"""What copies may have filled in, in the order in which they say so."""
INFERENCE: Final = "inference"
SOURCES: Final = {
    "header": "the header itself",
    "dates": "PatientBirthDate and StudyDate",
    "worklist": "the modality worklist",
    "priors": "other studies of the patient",
    INFERENCE: "inferred from the image by a program, not verified",
}
"""The ladder, best first, in words."""


@dataclass(frozen=True, slots=True)
class Fill:
    """One value for one attribute."""

    keyword: str
    """One of :data:`FILLED`."""
    value: str
    """``M`` or ``F``; a value of VR AS: of an estimate by ``rules.encode_estimate``; a defined term
    of BodyPartExamined."""
    source: str
    """A rung of the ladder: a key of :data:`SOURCES`."""
    low: float | None = None
    """Of an inferred age: the ends of its 90 % prediction interval, years."""
    high: float | None = None
    probability: float | None = None
    """Of an inferred sex or body part."""
    rules: tuple[str, ...] = ()
    """Ids of the rules that found the attribute missing or wrong."""
    actor: str = ""
    """Who approved the value: a person's or the policy's name, '' where nobody is named."""

    @property
    def inferred(self) -> bool:
        """Whether it is an estimate, and not what follows from something recorded."""
        return self.source == INFERENCE

    @property
    def sentence(self) -> str:
        """What is filled and from what, ASCII."""
        words = f"{self.keyword} {self.value}: {'' if self.inferred else 'from '}"
        words += SOURCES[self.source]
        if self.low is not None and self.high is not None:
            words += f", 90 % prediction interval {self.low:.1f} to {self.high:.1f} years"
        if self.probability is not None:
            words += f", probability {percent(self.probability):.1f} %"
        return words


def checked(fills: Sequence[Fill], *, allow_sex: bool) -> tuple[Fill, ...]:
    """Return the fills in the order of :data:`FILLED`.

    Raises FillError: there is none, one is not a value of its attribute, or PatientSex is among
    them and ``allow_sex`` does not say that this destination may have it.
    """
    if not fills:
        raise FillError("there is nothing to fill in")
    if len({fill.keyword for fill in fills}) < len(fills):
        raise FillError("two values are given for one attribute")
    for fill in fills:
        if fill.keyword not in FILLED:
            raise FillError(f"{fill.keyword}: expected one of {', '.join(FILLED)}")
        if fill.source not in SOURCES:
            raise FillError(f"{fill.keyword}: expected a source among {', '.join(SOURCES)}")
        if fill.keyword == SEX and fill.value not in ("M", "F"):
            raise FillError("PatientSex: expected M or F")
        if fill.keyword == AGE and read_age(fill.value) is None:
            raise FillError("PatientAge: expected three digits and D, W, M or Y")
        if fill.keyword == BODY_PART and fill.value not in BODY_PARTS:
            raise FillError("BodyPartExamined: expected a defined term (PS3.16 annex L)")
        if fill.keyword == SEX and not allow_sex:
            raise FillError(
                "PatientSex is filled only toward a research destination, or after a person"
                " approved the value"
            )
    return tuple(sorted(fills, key=lambda fill: FILLED.index(fill.keyword)))
