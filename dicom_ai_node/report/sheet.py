"""The picture of a result: scales and bars that are grasped at once, then the words.

First each attribute under check, with what is recorded and what the image suggests, by each bundle
that says something of it; then what is held against no attribute, such as findings; then what the
check found. What would make the picture too tall is counted, not drawn.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFont

from dicom_ai_node.answers import (
    Answer,
    BundleResult,
    Category,
    LabelProbabilities,
    Outcome,
    Quantity,
    StudyResult,
)
from dicom_ai_node.report import text
from dicom_ai_node.report.canvas import (
    COLUMNS,
    DIM,
    GREY,
    LEFT,
    LIGHT,
    MOST_ROWS,
    RIGHT,
    SMALL,
    TEXT,
    TITLE,
    WHITE,
    Page,
    line_height,
    shortened,
)
from dicom_ai_node.report.words import answer_line, percent, plain, spoken, spoken_age, value_word
from dicom_ai_node.rules.attributes import AGE, SEX, recorded_age
from dicom_ai_node.types import HeaderCheck

_AXIS_LEFT, _AXIS_RIGHT = 70, COLUMNS - 70
_TURN = 20
"""Years between the numbers of the age scale."""
_NEAR = 30
"""Pixels from the mark of the recorded age at which a number of the scale would be under it."""
_MOST_BARS = 8
_LONGEST_NAME = 250
"""Pixels of the name beside a bar."""
_BY_NAME = {"age": AGE, "sex": SEX}
"""What a head is held against whose bundle is not at hand."""


def draw_sheet(result: StudyResult, *, study_date: str) -> NDArray[np.uint8]:
    """Return the picture of ``result``, grey, shape (rows, COLUMNS), an even number of rows."""
    page = Page()
    age_and_sex = text.subject(result) == text.AGE_AND_SEX
    asked = "Age and sex: header and image" if age_and_sex else "Header and image"
    page.write(f"{asked} compared", size=TITLE, shade=WHITE)
    page.write("RESEARCH - NOT A MEDICAL DEVICE", shade=WHITE)
    date = plain(study_date) or "of unknown date"
    names = ", ".join(f"{model.name} {model.version}" for model in result.asked)
    network = f"; network {names}" if names else ""
    line = f"Study {date}, UID ...{result.study_uid[-12:]}{network}"
    page.write(plain(line), size=SMALL, shade=GREY)
    page.y += 12
    page.write(text.verdict(result.check), size=TITLE, shade=WHITE)
    for keyword in result.check.attributes:
        _attribute(page, result, keyword)
    for part in result.parts:
        _others(page, part, result)
    _findings(page, list(finding_words(result.check)))
    page.heading("")
    page.y -= line_height(SMALL)
    page.write(text.DISCLAIMER, size=SMALL, shade=GREY)
    rows = min(page.y + 24, MOST_ROWS) // 2 * 2
    return np.asarray(page.image, dtype=np.uint8)[:rows]


def finding_words(check: HeaderCheck) -> Iterator[str]:
    """Yield each finding and each proposal as a sentence, without codes."""
    for found in check.findings:
        reason = plain(found.reason)
        yield f"{found.severity.value.capitalize()}: {reason[:1].upper()}{reason[1:]}"
    for one in check.proposals:
        yield plain(f"Proposed, not applied: {one.keyword} {one.value}, from {one.source}")


def _held_against(part: BundleResult, head: str) -> str:
    """Return the keyword of what a head's answer is held against, '' for nothing."""
    return part.terms.attributes.get(head) or _BY_NAME.get(head, "")


def _said(part: BundleResult, check: HeaderCheck) -> Mapping[str, Answer]:
    return text.reported(part, check) if part.outcome is Outcome.ESTIMATED else {}


def _attribute(page: Page, result: StudyResult, keyword: str) -> None:
    """Draw what is recorded of an attribute, and what each bundle says of it."""
    check = result.check
    row = check.attributes[keyword]
    page.heading(spoken(row.name).upper())
    page.write(f"Recorded: {text.recorded(keyword, row)}")
    draw = _DRAWN.get(keyword, _nothing)
    asked = [
        (part, head)
        for part in result.parts
        for head in part.answers
        if _held_against(part, head) == keyword
    ]
    answers = [_said(part, check).get(head) for part, head in asked]
    for number, ((part, head), answer) in enumerate(zip(asked, answers, strict=True)):
        if number and not page.has_room(8):
            page.write(_left_out(len(asked) - number), shade=GREY)
            return
        _suggestion(page, part, head, answer, result)
        if answer is not None:
            draw(page, check, answer)
    if not any(answers):
        draw(page, check, None)


def _left_out(answers: int) -> str:
    return f"[{answers} more {'answer' if answers == 1 else 'answers'} in the report]"


def _suggestion(
    page: Page, part: BundleResult, head: str, answer: Answer | None, result: StudyResult
) -> None:
    """Write what a bundle says under the name of a head, or why it says nothing."""
    is_further = part is not result.parts[0] and part.model is not None
    whose = [plain(part.model.name)] if is_further and part.model else []
    use = text.use_words(part)
    marks = "; ".join([*whose, *([use] if use else [])])
    if answer is not None:
        line = f"The image suggests {answer_line(answer)}"
        page.write(f"{line} [{marks}]" if marks else line, shade=WHITE)
        for more in text.coverage_lines(part, {head: answer}):
            page.write(more)
    if (reason := part.unanswered.get(head)) is not None:
        whose_words = f" [{', '.join(whose)}]" if whose else ""
        why = f"No {spoken(head)} from the image: {plain(reason.text)}"
        page.write(f"{why}{whose_words}", shade=WHITE)
    for line in text.series_lines(part, head):
        page.write(f"{line[:1].upper()}{line[1:]}")


def _others(page: Page, part: BundleResult, result: StudyResult) -> None:
    """Draw what the image says of heads that are held against no attribute under check."""
    said = _said(part, result.check)
    under_check = result.check.attributes
    names = [name for name in part.answers if _held_against(part, name) not in under_check]
    for number, name in enumerate(names):
        answer = said.get(name)
        bars = answer.probabilities if isinstance(answer, LabelProbabilities) else ()
        if not page.has_room(5 + min(len(bars), _MOST_BARS)):
            page.write(_left_out(len(names) - number), shade=GREY)
            return
        page.heading(spoken(name).upper())
        if isinstance(answer, LabelProbabilities):
            _labels(page, part, answer)
        else:
            _suggestion(page, part, name, answer, result)


def _labels(page: Page, part: BundleResult, answer: LabelProbabilities) -> None:
    """Draw the probability of the most probable findings."""
    whose = f" by {plain(part.model.name)}" if part.model else ""
    page.write(f"Looked for{whose}; {text.use_words(part)}:", shade=WHITE)
    page.y += 6
    shown = answer.ordered[:_MOST_BARS]
    bars = [(plain(spoken(name)), share, f"{percent(share):.1f} %", False) for name, share in shown]
    _bars(page, bars, left=_AXIS_LEFT + _LONGEST_NAME)
    if rest := len(answer.probabilities) - len(shown):
        page.write(f"[{rest} less probable ones in the report]", size=SMALL, shade=GREY)


def _age(page: Page, check: HeaderCheck, answer: Answer | None) -> None:
    age, years = answer if isinstance(answer, Quantity) else None, recorded_age(check)
    if age is not None or years is not None:
        _scale(page, age, years)


def _sex(page: Page, check: HeaderCheck, answer: Answer | None) -> None:
    """Draw the probability of each sex, with a mark at the one that is recorded."""
    if not isinstance(answer, Category):
        return
    page.y += 6
    sure = percent(answer.certainty)  # rounded down once, so that both add up to 100
    recorded = check.attributes[SEX].stated
    bars = []
    for letter, share in answer.probabilities.items():
        said = sure if letter == answer.value else 100.0 - sure
        bars.append((value_word(answer, letter), share, f"{said:.1f} %", letter == recorded))
    _bars(page, bars, left=180)


def _nothing(page: Page, check: HeaderCheck, answer: Answer | None) -> None:
    """Draw nothing: the words say it all."""


_DRAWN: Mapping[str, Callable[[Page, HeaderCheck, Answer | None], None]] = {AGE: _age, SEX: _sex}
"""By keyword: what is drawn below the words, None where no bundle says anything."""


def _scale(page: Page, age: Quantity | None, years: float | None) -> None:
    """Draw the ages from 0 to 100, or as far as is needed, with the interval and the record."""
    known = [*(age.interval90 if age else ()), *([years] if years is not None else ())]
    last = max(100, int(-(-max(known) // _TURN) * _TURN))

    def place(years: float) -> float:
        share = min(max(years / last, 0.0), 1.0)
        return _AXIS_LEFT + share * (_AXIS_RIGHT - _AXIS_LEFT)

    page.y += 8
    if age is not None:
        page.label(f"image {age.mu:.0f}", place(age.mu), shade=WHITE)
    page.y += line_height(TEXT)
    top, axis = page.y, page.y + 26
    if age is not None:
        low, high = (place(end) for end in age.interval90)
        page.draw.rectangle((low, top + 4, high, axis - 2), fill=DIM, outline=GREY)
        page.draw.line((place(age.mu), top, place(age.mu), axis), WHITE, 5)
    page.draw.line((_AXIS_LEFT, axis, _AXIS_RIGHT, axis), LIGHT, 2)
    for tick in range(0, last + 1, _TURN // 2):
        page.draw.line((place(tick), axis, place(tick), axis + 7), LIGHT, 2)
    page.y = axis + 10
    mark = place(years) if years is not None else -COLUMNS
    for tick in range(0, last + 1, _TURN):
        if abs(place(tick) - mark) > _NEAR:
            page.label(f"{tick}", place(tick), shade=GREY, size=SMALL)
    page.y += line_height(SMALL)
    if years is not None:
        x = place(years)
        page.draw.line((x, axis, x, page.y), WHITE, 2)
        page.draw.polygon([(x, axis + 2), (x - 11, axis + 20), (x + 11, axis + 20)], fill=WHITE)
        page.label(f"recorded {spoken_age(years)}", x, shade=WHITE)
        page.y += line_height(TEXT)


def _bars(page: Page, bars: Sequence[tuple[str, float, str, bool]], *, left: int) -> None:
    """Draw a bar for each name, share and what is said of it; the last marks the recorded one."""
    right = 760
    font = ImageFont.load_default(TEXT)
    for name, share, said, is_recorded in bars:
        page.draw.text((_AXIS_LEFT, page.y), _cut(name, left - _AXIS_LEFT - 20), LIGHT, font)
        box = (left, page.y + 4, right, page.y + line_height(TEXT) - 6)
        page.draw.rectangle(box, outline=DIM)
        if share > 0:
            page.draw.rectangle((left, box[1], left + share * (right - left), box[3]), fill=LIGHT)
        if is_recorded:
            said += "  recorded"
            tip = (right + 12, (box[1] + box[3]) / 2)
            page.draw.polygon(
                [tip, (tip[0] + 14, tip[1] - 9), (tip[0] + 14, tip[1] + 9)], fill=WHITE
            )
        page.draw.text((right + 36, page.y), said, WHITE, font)
        page.y += line_height(TEXT)


def _cut(name: str, width: int) -> str:
    """Return as much of a name as fits beside its bar."""
    font = ImageFont.load_default(TEXT)
    while font.getlength(name) > width:
        name = name[:-1]
    return name


def _findings(page: Page, found: Sequence[str]) -> None:
    page.heading("WHAT THE CHECK FOUND")
    if not found:
        page.write("Nothing.")
    for number, words in enumerate(found):
        if not page.has_room(len(shortened(words, TEXT, RIGHT - LEFT)) + 1):
            page.write(f"[{len(found) - number} more in the report]", shade=GREY)
            return
        page.write(words)
