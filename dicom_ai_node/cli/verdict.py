"""A study's answer in words: what was recorded, what the image says, what is to be looked at."""

from collections.abc import Iterator
from typing import Any

from dicom_ai_node.cli.printing import uncounted
from dicom_ai_node.types import AttributeStatus, Outcome, Severity

_STATUS = {
    AttributeStatus.CONSISTENT: "consistent",
    AttributeStatus.MISSING: "missing",
    AttributeStatus.MALFORMED: "malformed",
    AttributeStatus.IMPLAUSIBLE: "implausible",
    AttributeStatus.CONFLICT_HEADER: "against the header",
    AttributeStatus.CONFLICT_IMAGE: "against the image",
    AttributeStatus.NOT_ASSESSED: "not assessed",
}
_QUIET = {AttributeStatus.CONSISTENT, AttributeStatus.NOT_ASSESSED}
_SEVERITIES = (Severity.ERROR, Severity.WARNING, Severity.INFORMATION)

Result = dict[str, Any]
"""A StudyResult as JSON."""


def iso(day: str) -> str:
    """Return a StudyDate (VR DA) as YYYY-MM-DD, anything else as it is."""
    return f"{day[:4]}-{day[4:6]}-{day[6:]}" if len(day) == 8 and day.isdigit() else day


def recorded(result: Result) -> str:
    """Return PatientAge and PatientSex as they were sent."""
    check = result["audit"]
    return " ".join(check["recorded"][name] or "-" for name in statuses(check))


def statuses(check: dict[str, Any]) -> dict[str, str]:
    """Return the status of each attribute under check by its short name."""
    return {name: check[name] for name in check["recorded"] if name in check}


def estimate(result: Result) -> str:
    """Return age with its interval, and sex, in a few characters; else what became of it."""
    parts = []
    if result["age"]:
        low, high = result["age"]["interval90"]
        parts.append(f"{result['age']['mu']:.0f} ({low:.0f}-{high:.0f})")
    if result["sex"]:
        parts.append("F" if result["sex"]["probability_female"] >= 0.5 else "M")
    return " ".join(parts) or _outcome(result)


def estimate_in_words(result: Result) -> str:
    """Return the same in a sentence."""
    parts = []
    if result["age"]:
        low, high = result["age"]["interval90"]
        parts.append(f"{result['age']['mu']:.0f} years (90 % between {low:.0f} and {high:.0f})")
    if result["sex"]:
        female = result["sex"]["probability_female"]
        value, share = ("F", female) if female >= 0.5 else ("M", 1 - female)
        parts.append(f"sex {value} ({share:.1%})")
    return ", ".join(parts) or _outcome(result)


def verdict(result: Result) -> str:
    """Return what is wrong with what is recorded, 'consistent' when nothing is."""
    status = {name: AttributeStatus(one) for name, one in statuses(result["audit"]).items()}
    wrong = [name for name in status if status[name] not in _QUIET]
    if not wrong:
        unclear = [name for name in status if status[name] is AttributeStatus.NOT_ASSESSED]
        return f"{' and '.join(unclear)} not assessed" if unclear else "consistent"
    if len({status[name] for name in wrong}) == 1:
        return f"{' and '.join(wrong)} {_STATUS[status[wrong[0]]]}"
    return ", ".join(f"{name} {_STATUS[status[name]]}" for name in wrong)


def flags(result: Result) -> str:
    """Return the rules that ask for a look; those that only inform are in ``show``."""
    found = [one["rule"] for one in result["audit"]["findings"] if one["severity"] != "information"]
    return " ".join(dict.fromkeys(found))


def findings(result: Result) -> Iterator[tuple[str, str]]:
    """Return (rule, reason), the gravest first; what holds of most files comes last."""

    def order(one: dict[str, str]) -> tuple[int, bool]:
        return _SEVERITIES.index(Severity(one["severity"])), not uncounted([one["rule"]])

    for one in sorted(result["audit"]["findings"], key=order):
        yield one["rule"], one["reason"]


def unanswered(result: Result) -> Iterator[tuple[str, str]]:
    """Return (attribute, reason) of what is not stated."""
    for one in result.get("unanswered", ()):  # results of older versions have none
        yield one["attribute"], one["reason"]["text"]
    if not result.get("unanswered") and result["reason"]:
        yield "answer", result["reason"]["text"]


def _outcome(result: Result) -> str:
    return Outcome(result["outcome"]).replace("_", " ")
