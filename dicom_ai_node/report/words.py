"""Names, values and answers in words, as reports say them.

All of it is printable ASCII: the character set of a report is that of its source, and ASCII is the
part that every DICOM character set shares.
"""

import re
import unicodedata
from collections.abc import Sequence

from dicom_ai_node.answers import Answer, Category, Quantity
from dicom_ai_node.dicom.body_parts import BODY_PARTS

_UNITS = {"a": "years", "mo": "months", "wk": "weeks", "d": "days", "1": "", "[hnsf'U]": "HU"}
"""UCUM units as they are said, where that differs from their code."""
_VALUES = {"PatientSex": {"F": "female", "M": "male"}}
_FEW = 3
"""Findings that are named in a sentence."""


def plain(text: str) -> str:
    """Return ``text`` on one line of printable ASCII, accents dropped, the rest as '?'."""
    folded = unicodedata.normalize("NFKD", text)
    ascii_only = "".join(char for char in folded if not unicodedata.combining(char))
    printable = ascii_only.encode("ascii", "replace").decode("ascii").replace("\\", "/")
    return re.sub(r"\s+", " ", re.sub(r"[^\x20-\x7e\s]", "?", printable)).strip()


def quoted(value: str) -> str:
    """Return a raw header value with what is not printable ASCII escaped, in quotes."""
    return ascii(value)


def spoken(name: str) -> str:
    """Return the name of a head or an attribute as it is said."""
    return plain(name.replace("_", " "))


def listed(words: Sequence[str]) -> str:
    """Return words as they stand in a sentence: ``age, sex and body part``."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def unit_words(unit: str) -> str:
    """Return a UCUM unit as it is said."""
    return _UNITS.get(unit, plain(unit))


def value_word(answer: Category, value: str) -> str:
    """Return a coded value in a word, where its attribute has one."""
    if answer.attribute == "BodyPartExamined":
        return body_part(value)
    return _VALUES.get(answer.attribute, {}).get(value) or plain(value)


def body_part(term: str) -> str:
    """Return a defined term of BodyPartExamined in words, another value as it is."""
    part = BODY_PARTS.get(term)
    return plain(part.meaning[:1].lower() + part.meaning[1:]) if part else plain(term)


def answer_line(answer: Answer) -> str:
    """Return what is estimated, with its interval or certainty; of findings the most probable."""
    if isinstance(answer, Quantity):
        low, high = answer.interval90
        estimate = f"{answer.mu:.1f} {unit_words(answer.unit)}".strip()
        return f"{estimate}{_doubt(answer)} (90 % prediction interval {low:.0f} to {high:.0f})"
    if isinstance(answer, Category):
        sure = percent(answer.certainty)
        return f"{_category(answer)}{_doubt(answer)} (certainty {sure:.1f} %)"
    shares = [f"{spoken(label)} {percent(share):.1f} %" for label, share in answer.ordered]
    rest = len(shares) - _FEW
    more = f", the most probable of {len(shares)} that were looked for" if rest > 0 else ""
    return ", ".join(shares[:_FEW]) + more


def _doubt(answer: Quantity | Category) -> str:
    return "" if answer.certain else ", uncertain"


def _category(answer: Category) -> str:
    """Return a value in words; of a body part also as the header would say it."""
    value = plain(answer.value)
    words = listed([value_word(answer, each) for each in answer.covered or (answer.value,)])
    is_part = answer.attribute == "BodyPartExamined"
    return f"{value}, that is {words}" if is_part and words.upper() != value else words


def percent(probability: float) -> float:
    """Return a probability in percent to one decimal, rounded down: 0.9999 is not certainty."""
    return min(max(int(probability * 1000.0 + 1e-9), 0), 1000) / 10.0


def spoken_age(years: float) -> str:
    """Return an age in words: years, and below two of them months or days."""
    if years >= 2:
        return f"{years:.0f} years"
    if years >= 1 / 12:
        return f"{years * 12:.0f} months"
    return f"{years * 365.25:.0f} days"
