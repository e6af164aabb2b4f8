"""A study's answer in words: what was recorded, what the image says, what is to be looked at."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from dicom_ai_node.answers import Answer, Category, LabelProbabilities, Outcome, Quantity
from dicom_ai_node.cli.printing import uncounted
from dicom_ai_node.decide.stored import (
    answer_from_json,
    answers_in,
    heads_in,
    parts_in,
    read_prediction,
)
from dicom_ai_node.report.words import listed, spoken, unit_words
from dicom_ai_node.types import AttributeStatus

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
_FEW = 3
"""Findings that are named."""
_SEVERITIES = ("error", "warning", "information")

Result = dict[str, Any]
"""A StudyResult as JSON."""


def iso(day: str) -> str:
    """Return a StudyDate (VR DA) as YYYY-MM-DD, anything else as it is."""
    return f"{day[:4]}-{day[4:6]}-{day[6:]}" if len(day) == 8 and day.isdigit() else day


def recorded(result: Result) -> str:
    """Return what is recorded of each attribute as it was sent."""
    check = result["audit"]
    return " ".join(check["recorded"][name] or "-" for name in statuses(check))


def statuses(check: dict[str, Any]) -> dict[str, str]:
    """Return the status of each attribute under check by its short name."""
    return {name: check[name] for name in check["recorded"] if name in check}


def estimate(result: Result) -> str:
    """Return what each head answers in a few characters; else what became of the study."""
    return " ".join(brief(answer) for _, answer in answers_in(result)) or _outcome(result)


def brief(answer: Answer) -> str:
    """Return an age with its interval, a sex, or the labels that are more probable than not.

    What is uncertain has a question mark.
    """
    if isinstance(answer, Quantity):
        low, high = answer.interval90
        return f"{answer.mu:.0f}{'' if answer.certain else '?'} ({low:.0f}-{high:.0f})"
    if isinstance(answer, Category):
        return answer.value if answer.certain else f"{answer.value}?"
    return ",".join(label for label, p in answer.probabilities.items() if p >= 0.5) or "-"


def in_unit(answer: Quantity) -> str:
    """Return the point estimate with its unit."""
    return f"{answer.mu:.0f} {unit_words(answer.unit)}".strip()


def estimate_in_words(result: Result) -> str:
    """Return the same as :func:`estimate` in a sentence."""
    said = [line for part in parts_in(result) for line in _of_part(part)]
    return ", ".join(said) or _outcome(result)


def _of_part(part: Mapping[str, Any]) -> Iterator[str]:
    """Yield what one bundle answers, and what that is for where it is less than a check."""
    for name in heads_in(part):
        if part[name]:
            answer = answer_from_json(name, part[name])
            use = ["for research"] if part.get("research") else []
            if use or isinstance(answer, LabelProbabilities):
                use.append("not for diagnosis")
            words = _in_words(name, answer)
            yield f"{words} [{', '.join(use)}]" if use else words


def _in_words(name: str, answer: Answer) -> str:
    if isinstance(answer, Quantity):
        low, high = answer.interval90
        return f"{in_unit(answer)}{_doubt(answer)} (90 % between {low:.0f} and {high:.0f})"
    if isinstance(answer, Category):
        return f"{spoken(name)} {answer.value}{_doubt(answer)} ({answer.certainty:.1%})"
    shown = ", ".join(f"{spoken(label)} ({p:.1%})" for label, p in answer.ordered[:_FEW])
    rest = len(answer.probabilities) - _FEW
    return f"{spoken(name)} {shown}{f' and {rest} less probable' if rest > 0 else ''}"


def _doubt(answer: Quantity | Category) -> str:
    return "" if answer.certain else ", uncertain"


def verdict(result: Result) -> str:
    """Return what is wrong with what is recorded, 'consistent' when nothing is."""
    stored = statuses(result["audit"])
    status = {name: AttributeStatus(value) for name, value in stored.items()}
    wrong = [name for name in status if status[name] not in _QUIET]
    if not wrong:
        unclear = [name for name in status if status[name] is AttributeStatus.NOT_ASSESSED]
        return f"{_named(unclear)} not assessed" if unclear else "consistent"
    if len({status[name] for name in wrong}) == 1:
        return f"{_named(wrong)} {_STATUS[status[wrong[0]]]}"
    return ", ".join(f"{spoken(name)} {_STATUS[status[name]]}" for name in wrong)


def _named(names: Sequence[str]) -> str:
    return listed([spoken(name) for name in names])


def of_image(image: dict[str, Any]) -> str:
    """Return what became of one image: what the heads answer, or why they do not."""
    reason, prediction = image["reason"], image["prediction"]
    if reason:
        return f"{image['outcome']}: {reason['text']}"
    if prediction is None:
        return str(image["outcome"])
    answers = read_prediction(prediction).answers.values()
    return ", ".join(in_unit(it) if isinstance(it, Quantity) else brief(it) for it in answers)


def flags(result: Result) -> str:
    """Return the rules that ask for a look; those that only inform are in ``show``."""
    findings = result["audit"]["findings"]
    graver = [finding["rule"] for finding in findings if finding["severity"] != "information"]
    return " ".join(dict.fromkeys(graver))


def by_gravity(findings: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    """Return findings, the gravest first; what holds of most files comes last."""

    def order(finding: dict[str, str]) -> tuple[int, bool]:
        return _SEVERITIES.index(finding["severity"]), not uncounted([finding["rule"]])

    return sorted(findings, key=order)


def unanswered(result: Result) -> Iterator[tuple[str, str]]:
    """Return (attribute, reason) of what is not stated."""
    for part in parts_in(result):
        for head in part.get("unanswered", ()):  # results of older versions have none
            yield head["attribute"], head["reason"]["text"]
        if not part.get("unanswered") and part["reason"]:
            yield "answer", part["reason"]["text"]


def _outcome(result: Result) -> str:
    return Outcome(result["outcome"]).replace("_", " ")
