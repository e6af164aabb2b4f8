"""What a report says in words, the same in the Structured Report and in the Secondary Capture.

All of it is printable ASCII: the character set of a report is that of its source, and ASCII is the
part that every DICOM character set shares.
"""

import re
import unicodedata

from dicom_ai_node.types import (
    Answer,
    AttributeStatus,
    Category,
    HeaderCheck,
    Quantity,
    Reason,
    StudyResult,
)

DISCLAIMER = (
    "Research software, not a medical device. Inferred from the image by a program and not verified"
    " by a person: appearance, not identity. Not for diagnosis."
)
DIFFERS = "Inferred characteristics differ from the record; please review the record."


def plain(text: str) -> str:
    """Return ``text`` on one line of printable ASCII, accents dropped, the rest as '?'."""
    folded = unicodedata.normalize("NFKD", text)
    ascii_only = "".join(char for char in folded if not unicodedata.combining(char))
    printable = ascii_only.encode("ascii", "replace").decode("ascii").replace("\\", "/")
    return re.sub(r"\s+", " ", re.sub(r"[^\x20-\x7e\s]", "?", printable)).strip()


def quoted(value: str) -> str:
    """Return a raw header value with what is not printable ASCII escaped, in quotes."""
    return ascii(value)


_UNITS = {"a": "years"}
_VALUES = {"PatientSex": {"F": "female", "M": "male"}}


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


def reported(result: StudyResult) -> dict[str, Answer]:
    """Return the answers by the names of their heads, unless they must not be stated.

    NOT_ASSESSED stands for a recorded 'O', sex parameters for clinical use and the like: there an
    image can say nothing of the attribute, so nothing is said.
    """
    rows = result.check.attributes
    return {
        name: answer
        for name, answer in result.stated.items()
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
