"""What a report says in words, the same in the Structured Report and in the Secondary Capture.

All of it is printable ASCII: the character set of a report is that of its source, and ASCII is the
part that every DICOM character set shares. :func:`summary` says it in a few sentences: the header,
the image, and what differs.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping

from dicom_ai_node.answers import (
    Answer,
    BundleResult,
    Category,
    Outcome,
    Quantity,
    Reason,
    StudyResult,
)
from dicom_ai_node.types import AttributeStatus, CheckedAttribute, HeaderCheck

DISCLAIMER = (
    "Research software, not a medical device. Inferred from the image by a program and not verified"
    " by a person: appearance, not identity. Not for diagnosis."
)
DIFFERS = "Inferred characteristics differ from the record; please review the record."


_UNITS = {"a": "years"}
_VALUES = {"PatientSex": {"F": "female", "M": "male"}}
NOT_VERIFIED = "Inferred by a program, not verified by a person; not a medical device."
_STATUS = {
    AttributeStatus.MISSING: ("is missing", "are missing"),
    AttributeStatus.MALFORMED: ("is not in the required form", "are not in the required form"),
    AttributeStatus.IMPLAUSIBLE: ("is implausible", "are implausible"),
    AttributeStatus.CONFLICT_HEADER: (
        "is contradicted by the header itself",
        "are contradicted by the header itself",
    ),
    AttributeStatus.CONFLICT_IMAGE: (
        "differs from what the image suggests",
        "differ from what the image suggests",
    ),
}
_SEXES = {"F": "female", "M": "male", "O": "other"}


def plain(text: str) -> str:
    """Return ``text`` on one line of printable ASCII, accents dropped, the rest as '?'."""
    folded = unicodedata.normalize("NFKD", text)
    ascii_only = "".join(char for char in folded if not unicodedata.combining(char))
    printable = ascii_only.encode("ascii", "replace").decode("ascii").replace("\\", "/")
    return re.sub(r"\s+", " ", re.sub(r"[^\x20-\x7e\s]", "?", printable)).strip()


def quoted(value: str) -> str:
    """Return a raw header value with what is not printable ASCII escaped, in quotes."""
    return ascii(value)


def value_word(answer: Category, value: str) -> str:
    """Return a coded value in a word, where its attribute has one."""
    return _VALUES.get(answer.attribute, {}).get(value) or plain(value)


def answer_line(answer: Answer) -> str:
    """Return what is estimated, with its interval or certainty."""
    if isinstance(answer, Quantity):
        low, high = answer.interval90
        unit = _UNITS.get(answer.unit, answer.unit)
        return f"{answer.mu:.1f} {unit} (90 % prediction interval {low:.0f} to {high:.0f})"
    if isinstance(answer, Category):
        name = value_word(answer, answer.value)
        return f"{name} (certainty {percent(answer.certainty):.1f} %)"
    shares = answer.probabilities.items()
    return ", ".join(f"{plain(label)} {percent(share):.1f} %" for label, share in shares)


def percent(probability: float) -> float:
    """Return a probability in percent to one decimal, rounded down: 0.9999 is not certainty."""
    return min(max(int(probability * 1000.0 + 1e-9), 0), 1000) / 10.0


def reason_line(reason: Reason | None) -> str:
    """Return why there is no estimate."""
    return plain(f"{reason.text} [{reason.code}]") if reason else "No reason was given."


def reported(part: BundleResult, check: HeaderCheck) -> dict[str, Answer]:
    """Return the answers by the names of their heads, unless they must not be stated.

    NOT_ASSESSED stands for a recorded 'O', sex parameters for clinical use and the like: there an
    image can say nothing of the attribute, so nothing is said.
    """
    rows = check.attributes
    return {
        name: answer
        for name, answer in part.stated.items()
        if not isinstance(answer, Category)
        or answer.attribute not in rows
        or rows[answer.attribute].status is not AttributeStatus.NOT_ASSESSED
    }


def recorded_line(check: HeaderCheck) -> str:
    """Return the raw values that were checked."""
    said = [f"{keyword}={quoted(row.recorded)}" for keyword, row in check.attributes.items()]
    for keyword, row in check.attributes.items():
        if row.censored:
            said.append(f"{keyword} is a de-identified lower bound")
    if check.exempt:
        said.append(f"not held against the image: {plain(check.exempt)}")
    return "; ".join(said)


def finding_lines(check: HeaderCheck) -> list[str]:
    """Return one line per finding and per proposal of the rules."""
    findings = [
        plain(f"{found.rule} {found.severity.value}: {found.reason}") for found in check.findings
    ]
    proposals = [
        plain(f"Proposed, not applied: {p.keyword}={p.value} from {p.source} [{p.rule}]")
        for p in check.proposals
    ]
    return findings + proposals


def differs(check: HeaderCheck) -> bool:
    """Return whether image and record disagree."""
    return AttributeStatus.CONFLICT_IMAGE in check.statuses.values()


def summary(result: StudyResult) -> str:
    """Return what the report says: header, image, verdict, and that nobody has verified it."""
    return " ".join(
        [
            f"Header: {', '.join(recorded(*one) for one in result.check.attributes.items())}.",
            *(f"Image{_by(part, result)}: {_image(part, result.check)}." for part in result.parts),
            verdict(result.check),
            NOT_VERIFIED,
        ]
    )


def verdict(check: HeaderCheck) -> str:
    """Return what is wrong with what is recorded, in one sentence."""
    if check.exempt:
        return f"Not assessed: {plain(check.exempt)}."
    names, statuses = " and ".join(check.statuses), set(check.statuses.values())
    if len(check.statuses) > 1 and len(statuses) == 1 and statuses <= _STATUS.keys():
        return _reviewed(f"Recorded {names} {_STATUS[statuses.pop()][1]}", check)
    said = [
        f"recorded {name} {_STATUS[status][0]}"
        for name, status in check.statuses.items()
        if status in _STATUS
    ]
    if not said:
        return f"Nothing speaks against the recorded {names}."
    sentence = " and ".join(said)
    return _reviewed(sentence[0].upper() + sentence[1:], check)


def recorded(keyword: str, row: CheckedAttribute) -> str:
    """Return a value as recorded, and what it means where that is not plain."""
    if not row.recorded:
        return f"no {row.name}"
    word = _WORDS[keyword](row) if keyword in _WORDS else ""
    said = f"{row.name} {quoted(row.recorded)}"
    return f"{said} ({word})" if word else said


def _age_in_words(row: CheckedAttribute) -> str:
    bound = " or over" if row.censored else ""
    return f"{spoken_age(row.stated)}{bound}" if isinstance(row.stated, float) else ""


def _sex_in_words(row: CheckedAttribute) -> str:
    return _SEXES.get(row.recorded.strip(), "")


_WORDS: Mapping[str, Callable[[CheckedAttribute], str]] = {
    "PatientAge": _age_in_words,
    "PatientSex": _sex_in_words,
}


def spoken_age(years: float) -> str:
    """Return an age in words: years, and below two of them months or days."""
    if years >= 2:
        return f"{years:.0f} years"
    if years >= 1 / 12:
        return f"{years * 12:.0f} months"
    return f"{years * 365.25:.0f} days"


def _by(part: BundleResult, result: StudyResult) -> str:
    """Name the network of a further part."""
    is_first = part is result.parts[0]
    return "" if is_first or part.model is None else f" by {plain(part.model.name)}"


def _image(part: BundleResult, check: HeaderCheck) -> str:
    """Return what the image suggests, and what it does not and why."""
    if part.outcome is not Outcome.ESTIMATED:
        return "; ".join(why_not(part)) or f"no estimate: {reason_line(part.reason)}"
    said = [answer_line(answer) for answer in reported(part, check).values()]
    return "; ".join([" and ".join(said), *why_not(part)])


def why_not(part: BundleResult) -> list[str]:
    """Return what has no estimate, with the reason; once where several heads share it."""
    missing: dict[str, list[str]] = {}
    for head, reason in part.unanswered.items():
        missing.setdefault(plain(reason.text), []).append(head)
    return [f"no {' and no '.join(names)}: {reason}" for reason, names in missing.items()]


def _reviewed(sentence: str, check: HeaderCheck) -> str:
    return f"{sentence}: please review the record." if differs(check) else f"{sentence}."
