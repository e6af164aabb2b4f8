"""What a report says in words, the same in the Structured Report and in the Secondary Capture.

All of it is printable ASCII: the character set of a report is that of its source, and ASCII is the
part that every DICOM character set shares.
"""

import re
import unicodedata

from dicom_ai_node.types import (
    AgeEstimate,
    AttributeStatus,
    HeaderCheck,
    Reason,
    SexEstimate,
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


def age_line(age: AgeEstimate) -> str:
    """Return the estimated age with its interval."""
    low, high = age.interval90
    return f"{age.mu:.1f} years (90 % prediction interval {low:.0f} to {high:.0f})"


def sex_line(sex: SexEstimate) -> str:
    """Return the estimated sex with its certainty."""
    name = {"F": "female", "M": "male"}[sex.value]
    return f"{name} (certainty {percent(sex.certainty):.1f} %)"


def percent(probability: float) -> float:
    """Return a probability in percent to one decimal, rounded down: 0.9999 is not certainty."""
    return min(max(int(probability * 1000.0 + 1e-9), 0), 1000) / 10.0


def reason_line(reason: Reason | None) -> str:
    """Return why there is no estimate."""
    return plain(f"{reason.text} [{reason.code}]") if reason else "No reason was given."


def reported_sex(result: StudyResult) -> SexEstimate | None:
    """Return the estimated sex unless it must not be stated.

    NOT_ASSESSED stands for a recorded 'O', sex parameters for clinical use and the like: there an
    image can say nothing of the attribute, so nothing is said.
    """
    status = result.check.attributes["PatientSex"].status
    return None if status is AttributeStatus.NOT_ASSESSED else result.sex


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
