"""What a bundle is measured by: rows for each of its heads, made from the head's kind.

A measure gives one number for a study, or none. Its mean over a group is a figure, that over a week
a point of a chart, and the mean of what two bundles differ by a comparison.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial

from dicom_ai_node.dicom.body_parts import BODY_PARTS, agree
from dicom_ai_node.monitor.observation import Observation, ObservedHead
from dicom_ai_node.types import AttributeValue

NOMINAL = 0.9
"""The share of recorded values that their intervals are to hold."""

Judge = Callable[[float, float], bool]
"""Whether the second of two figures is better than the first."""


class Harm(Enum):
    """On which side a change of a measure does harm."""

    LOW = auto()
    HIGH = auto()
    EITHER = auto()


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing to measure."""

    name: str
    """In JSON, metrics and flags."""
    words: str
    """What it is, in plain words."""
    column: str
    """Head of its column."""
    compared: str
    """Its name in a comparison; '': two bundles are not compared by it."""
    value: Callable[[Observation], float | None]
    """Of one study; of a share whether it counts."""
    harm: Harm
    share: bool = False
    """The values are yes and no."""
    judge: Judge | None = None
    """Says which of two bundles did better; None where neither can."""
    labelled: bool = True
    """Known only of studies whose header states what the answer is held against."""


def measures(heads: Mapping[str, ObservedHead]) -> list[Measure]:
    """Return what a bundle with these heads is measured by, in the order in which it is told."""
    found = [measure for name, head in heads.items() for measure in measures_of(name, head)]
    return [*found, REFUSED]


def measures_of(name: str, head: ObservedHead) -> Iterator[Measure]:
    """Yield what one head is measured by.

    One that is held against no attribute is not measured, unless it finds: then what it finds is
    counted.
    """
    if head.kind == "findings":
        yield from (_rate(name, label) for label in head.values)
    elif head.attribute:
        yield from _of_quantity(name, head) if head.kind == "quantity" else [_accuracy(name, head)]


def _of_quantity(name: str, head: ObservedHead) -> Iterator[Measure]:
    words, unit = spoken(name), unit_of(head)
    own = unless_age(name, f"{name}_")
    front = unless_age(name, f"{words} ")
    yield Measure(
        f"{own}mae",
        f"mean absolute error of the {words}, {unit}",
        _title(f"{front}MAE, {unit}"),
        f"{words} MAE, {unit}",
        partial(_absolute_error, head=name),
        Harm.HIGH,
        judge=smaller,
    )
    yield Measure(
        f"{own}bias",
        f"bias of the {words}, {unit}",
        _title(f"{front}bias, {unit}"),
        "",
        partial(error, head=name),
        Harm.EITHER,
    )
    yield Measure(
        f"{own}coverage",
        f"share of recorded {_plural(words)} within the 90 % interval",
        _title(f"{front}coverage of 90 %"),
        f"{front}coverage of 90 % intervals",
        partial(covered, head=name),
        Harm.LOW,
        share=True,
        judge=_nearer_to_nominal,
    )


def _accuracy(name: str, head: ObservedHead) -> Measure:
    words, is_part = spoken(name), head.attribute == "BodyPartExamined"
    meaning = "agree with what the images show" if is_part else "are the more probable one"
    return Measure(
        f"{name}_accuracy",
        f"share of recorded {_plural(words)} that {meaning}",
        _title(f"{words} right, %"),
        f"{words} accuracy",
        partial(agreeing if is_part else right, head=name),
        Harm.LOW,
        share=True,
        judge=larger,
    )


def _rate(name: str, label: str) -> Measure:
    found = f"{spoken(name)} {spoken(label)}"
    return Measure(
        f"{name}_{label}",
        f"share of studies with {found}",
        _title(f"{found}, %"),
        found,
        partial(_found, head=name, label=label),
        Harm.EITHER,
        share=True,
        labelled=False,
    )


def unless_age(head: str, text: str) -> str:
    """Return what names a head in front of its measure; nothing for the age.

    The measures of the age are older than heads and are called ``mae``, not ``age_mae``.
    """
    return "" if head == "age" else text


def spoken(name: str) -> str:
    """Return the name of a head or a label in words."""
    return name.replace("_", " ")


def unit_of(head: ObservedHead) -> str:
    """Return the unit of a quantity in words."""
    return {"a": "years"}.get(head.unit, head.unit)


def _plural(words: str) -> str:
    if words.endswith(("s", "x", "z", "ch", "sh")):
        return f"{words}es"
    return f"{words[:-1]}ies" if words.endswith("ty") else f"{words}s"


def _title(text: str) -> str:
    return text[:1].upper() + text[1:]


def error(one: Observation, head: str) -> float | None:
    """Estimate minus recorded value of a quantity, in its unit."""
    known = labelled(one, head)
    return None if known is None else known[0]["mu"] - known[1]


def covered(one: Observation, head: str) -> bool | None:
    """Whether the 90 % interval of a quantity holds the recorded value."""
    known = labelled(one, head)
    return None if known is None else known[0]["low90"] <= known[1] <= known[0]["high90"]


def right(one: Observation, head: str) -> bool | None:
    """Whether the most probable value of a category is the recorded one."""
    answer = answer_of(one, head, "category")
    if recorded_of(one, head) not in answer:
        return None
    return max(answer, key=answer.__getitem__) == recorded_of(one, head)


def agreeing(one: Observation, head: str) -> bool | None:
    """Whether the most probable body part has an area in common with the recorded one.

    An image of what lies around the organ that was asked for is no error of either.
    """
    answer, recorded = answer_of(one, head, "category"), recorded_of(one, head)
    if not answer or recorded not in BODY_PARTS:
        return None
    shown = max(answer, key=answer.__getitem__)
    return shown in BODY_PARTS and agree(shown, str(recorded))


def answer_of(one: Observation, head: str, kind: str) -> Mapping[str, float]:
    """Return the answer of a head of that kind; empty where there is none."""
    said = one.heads.get(head)
    return said.answer if said is not None and said.kind == kind else {}


def recorded_of(one: Observation, head: str) -> AttributeValue | None:
    """Return the recorded value that the answer of a head is held against."""
    return one.recorded.get(one.heads[head].attribute) if head in one.heads else None


def labelled(one: Observation, head: str) -> tuple[Mapping[str, float], float] | None:
    """Return the answer of a quantity and the recorded value, None unless both are known."""
    answer, recorded = answer_of(one, head, "quantity"), recorded_of(one, head)
    if not answer or recorded is None or isinstance(recorded, str):
        return None
    return answer, recorded


def _absolute_error(one: Observation, head: str) -> float | None:
    signed = error(one, head)
    return None if signed is None else abs(signed)


def _found(one: Observation, head: str, label: str) -> bool | None:
    probability = answer_of(one, head, "findings").get(label)
    return None if probability is None else probability >= 0.5


def _refused(one: Observation) -> bool | None:
    """Whether a gate let no image pass of those that the network saw."""
    return bool(one.gate) if one.seen else None


def smaller(live: float, shadow: float) -> bool:
    """Judge of what is better the smaller it is."""
    return shadow < live


def larger(live: float, shadow: float) -> bool:
    """Judge of what is better the larger it is."""
    return shadow > live


def _nearer_to_nominal(live: float, shadow: float) -> bool:
    return abs(shadow - NOMINAL) < abs(live - NOMINAL)


REFUSED = Measure(
    "refused",
    "share of studies that a gate refused",
    "Refused, %",
    "refused by a gate",
    _refused,
    Harm.HIGH,
    share=True,
    labelled=False,
)
