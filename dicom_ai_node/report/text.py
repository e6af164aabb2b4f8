"""What a report says in words, the same in the Structured Report and in the Secondary Capture.

:func:`summary` says it in a few sentences: the header, the image, and what differs.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from dicom_ai_node.answers import (
    Answer,
    BundleResult,
    Category,
    ImageResult,
    LabelProbabilities,
    Outcome,
    Reason,
    StudyResult,
)
from dicom_ai_node.dicom.body_parts import BODY_PARTS
from dicom_ai_node.report.words import (
    answer_line,
    body_part,
    listed,
    plain,
    quoted,
    spoken,
    spoken_age,
    value_word,
)
from dicom_ai_node.types import AttributeStatus, CheckedAttribute, HeaderCheck

AGE_AND_SEX = "Age and sex audit"
DISCLAIMER = (
    "Research software, not a medical device. Inferred from the image by a program and not verified"
    " by a person: appearance, not identity. Not for diagnosis."
)
RESEARCH = (
    "For research: not held against the record, and never proposed as a value. Not for diagnosis."
)
FINDINGS = (
    "Findings that were looked for, each with its probability, the most probable first. None is"
    " established or excluded by it. Not for diagnosis."
)
DIFFERS = "Inferred characteristics differ from the record; please review the record."
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


def named_line(name: str, answer: Answer) -> str:
    """Return what is estimated under the name of its head, unless that is plain from the answer."""
    line = answer_line(answer)
    return line if name in ("age", "sex") else f"{spoken(name)}: {line}"


def coverage_lines(part: BundleResult, answers: Mapping[str, Answer]) -> Iterator[str]:
    """Yield what of the body images show, and how many of them were read where not all were."""
    yield from span_lines(answers)
    if part.offered:
        yield f"{_of_all(part)}, spread over each series."


def span_lines(answers: Mapping[str, Answer]) -> Iterator[str]:
    """Yield which parts of the body images show, where those are several."""
    for answer in answers.values():
        if isinstance(answer, Category) and len(answer.covered) > 1:
            words = [value_word(answer, each) for each in answer.covered]
            yield f"Shown, from head to foot: {', '.join(words)}."


def uncertain_lines(answers: Mapping[str, Answer]) -> Iterator[str]:
    """Yield of each answer that is uncertain that it is."""
    for name, answer in answers.items():
        if not isinstance(answer, LabelProbabilities) and not answer.certain:
            yield (
                f"Uncertain: {named_line(name, answer)}. Too little is known to hold the"
                f" {spoken(name)} against the record, or to propose it as a value."
            )


def series_lines(part: BundleResult, *heads: str) -> Iterator[str]:
    """Yield of each of ``heads``, else of all, how many series show what, where series differ."""
    named = dict.fromkeys(name for one in part.differing for name in one.answers)
    for head in [name for name in named if not heads or name in heads]:
        said: Counter[str] = Counter()
        for one in part.differing:
            answer = one.answers[head]
            said[_category(answer) if isinstance(answer, Category) else "not stated"] += 1
        counts = [f"{words} in {count}" for words, count in said.items()]
        yield f"{spoken(head)} by series: {', '.join(counts)} of {len(part.differing)}"


def _category(answer: Category) -> str:
    return listed([value_word(answer, each) for each in answer.covered or (answer.value,)])


def _of_all(part: BundleResult) -> str:
    return f"{part.read} of {part.offered} images were read"


def counted_reasons(images: Iterable[ImageResult]) -> list[str]:
    """Return why images have no answer, and of how many that holds."""
    said = Counter(reason_line(one.reason) for one in images if one.reason is not None)
    return [
        f"No answer from {count} {'image' if count == 1 else 'images'}: {reason}"
        for reason, count in said.most_common()
    ]


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


def subject(result: StudyResult) -> str:
    """Return what the report on a study is about, as the name of its series."""
    asked = {head for part in result.parts for head in part.answers}
    return AGE_AND_SEX if asked <= {"age", "sex"} else "Header and image audit"


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
    wrong: dict[AttributeStatus, list[str]] = {}
    for name, status in check.statuses.items():
        if status in _STATUS:
            wrong.setdefault(status, []).append(spoken(name))
    if not wrong:
        names = listed([spoken(name) for name in check.statuses])
        return f"Nothing speaks against the recorded {names}."
    said = [
        f"recorded {listed(names)} {_STATUS[status][len(names) > 1]}"
        for status, names in wrong.items()
    ]
    sentence = listed(said)
    return _reviewed(sentence[0].upper() + sentence[1:], check)


def recorded(keyword: str, row: CheckedAttribute) -> str:
    """Return a value as recorded, and what it means where that is not plain."""
    if not row.recorded:
        return f"no {spoken(row.name)}"
    word = _WORDS[keyword](row) if keyword in _WORDS else ""
    said = f"{spoken(row.name)} {quoted(row.recorded)}"
    return f"{said} ({word})" if word else said


def _age_in_words(row: CheckedAttribute) -> str:
    bound = " or over" if row.censored else ""
    return f"{spoken_age(row.stated)}{bound}" if isinstance(row.stated, float) else ""


def _sex_in_words(row: CheckedAttribute) -> str:
    return _SEXES.get(row.recorded.strip(), "")


def _body_part_in_words(row: CheckedAttribute) -> str:
    term = str(row.stated or "")
    words = body_part(term) if term in BODY_PARTS else ""
    return "" if words.upper() == row.recorded.strip().upper() else words


_WORDS: Mapping[str, Callable[[CheckedAttribute], str]] = {
    "PatientAge": _age_in_words,
    "PatientSex": _sex_in_words,
    "BodyPartExamined": _body_part_in_words,
}


def _by(part: BundleResult, result: StudyResult) -> str:
    """Name the network of a further part, and what its answers are for."""
    is_first = part is result.parts[0]
    name = "" if is_first or part.model is None else f" by {plain(part.model.name)}"
    use = use_words(part)
    return f"{name} ({use})" if use else name


def use_words(part: BundleResult) -> str:
    """Return what the answers of a part are for, '' where that is a check of the record."""
    if part.research:
        return "for research, not for diagnosis"
    findings = any(isinstance(one, LabelProbabilities) for one in part.given.values())
    return "not for diagnosis" if findings else ""


def _image(part: BundleResult, check: HeaderCheck) -> str:
    """Return what the image suggests, and what it does not and why."""
    if part.outcome is not Outcome.ESTIMATED:
        return "; ".join(why_not(part)) or f"no estimate: {reason_line(part.reason)}"
    said = [named_line(*one) for one in reported(part, check).items()]
    read = [_of_all(part)] if part.offered else []
    answers = [" and ".join(said)] if said else []
    return "; ".join([*answers, *series_lines(part), *read, *why_not(part)])


def why_not(part: BundleResult) -> list[str]:
    """Return what has no estimate, with the reason; once where several heads share it."""
    missing: dict[str, list[str]] = {}
    for head, reason in part.unanswered.items():
        missing.setdefault(plain(reason.text), []).append(spoken(head))
    return [f"no {' and no '.join(names)}: {reason}" for reason, names in missing.items()]


def _reviewed(sentence: str, check: HeaderCheck) -> str:
    return f"{sentence}: please review the record." if differs(check) else f"{sentence}."
