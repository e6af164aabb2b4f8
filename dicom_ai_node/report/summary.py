"""What a report says in a few sentences, for people: the header, the image, and what differs.

Printable ASCII, as all text of a report.
"""

from collections.abc import Callable, Mapping

from dicom_ai_node.report import text
from dicom_ai_node.types import (
    AttributeStatus,
    CheckedAttribute,
    HeaderCheck,
    Outcome,
    StudyResult,
)

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


def summary(result: StudyResult) -> str:
    """Return what the report says: header, image, verdict, and that nobody has verified it."""
    return " ".join(
        [
            f"Header: {', '.join(recorded(*one) for one in result.check.attributes.items())}.",
            f"Image: {_image(result)}.",
            verdict(result.check),
            NOT_VERIFIED,
        ]
    )


def verdict(check: HeaderCheck) -> str:
    """Return what is wrong with what is recorded, in one sentence."""
    if check.exempt:
        return f"Not assessed: {text.plain(check.exempt)}."
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
    said = f"{row.name} {text.quoted(row.recorded)}"
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


def _image(result: StudyResult) -> str:
    """Return what the image suggests, and what it does not and why."""
    if result.outcome is not Outcome.ESTIMATED:
        return "; ".join(why_not(result)) or f"no estimate: {text.reason_line(result.reason)}"
    said = [text.answer_line(answer) for answer in text.reported(result).values()]
    return "; ".join([" and ".join(said), *why_not(result)])


def why_not(result: StudyResult) -> list[str]:
    """Return what has no estimate, with the reason; once where several heads share it."""
    missing: dict[str, list[str]] = {}
    for one in result.unanswered:
        missing.setdefault(text.plain(one.reason.text), []).append(one.attribute)
    return [f"no {' and no '.join(names)}: {reason}" for reason, names in missing.items()]


def _reviewed(sentence: str, check: HeaderCheck) -> str:
    return f"{sentence}: please review the record." if text.differs(check) else f"{sentence}."
