"""The picture of a result: an age scale and two bars that are grasped at once, then the words.

Drawn from top to bottom; each part returns where the next begins, so that long texts push the rest
down and nothing overlaps. What would make the picture too tall is counted, not drawn.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dicom_ai_node.answers import Answer, BundleResult, Category, Outcome, Quantity, StudyResult
from dicom_ai_node.report import text
from dicom_ai_node.report.words import answer_line, percent, plain, spoken_age, value_word
from dicom_ai_node.rules.attributes import AGE, SEX, recorded_age
from dicom_ai_node.types import AttributeValue, HeaderCheck

COLUMNS = 1024
MOST_ROWS = 1400
_LEFT, _RIGHT = 40, COLUMNS - 40
_AXIS_LEFT, _AXIS_RIGHT = 70, COLUMNS - 70
_WHITE, _LIGHT, _GREY, _DIM = 255, 205, 150, 70
_TITLE, _TEXT, _SMALL = 28, 22, 18
_MOST_LINES, _MOST_LETTERS = 5, 500
"""Of one text."""
_TURN = 20
"""Years between the numbers of the age scale."""
_NEAR = 30
"""Pixels from the mark of the recorded age at which a number of the scale would be under it."""


def line_height(size: int) -> int:
    """Return the pixels from one line to the next."""
    return size + 8


_FOOTER = 5 * line_height(_SMALL) + 60
"""Pixels that are kept for the end of the page."""


class _Sheet:
    """A canvas that is filled from the top."""

    def __init__(self) -> None:
        self.image = Image.new("L", (COLUMNS, MOST_ROWS), 0)
        self.draw = ImageDraw.Draw(self.image)
        self.y = 24

    def write(
        self, words: str, *, size: int = _TEXT, shade: int = _LIGHT, left: int = _LEFT
    ) -> None:
        """Write ``words`` over as many lines as they need, up to a number that leaves room."""
        for line in _shortened(words, size, _RIGHT - left):
            self.draw.text((left, self.y), line, shade, ImageFont.load_default(size))
            self.y += line_height(size)

    def heading(self, words: str) -> None:
        """Begin a part."""
        self.y += 14
        self.draw.line((_LEFT, self.y, _RIGHT, self.y), _DIM)
        self.y += 10
        self.write(words, size=_SMALL, shade=_GREY)

    def label(self, words: str, x: float, *, shade: int, size: int = _TEXT) -> None:
        """Write one line centred on ``x``, moved to within the margins."""
        half = ImageFont.load_default(size).getlength(words) / 2
        x = min(max(x, _LEFT + half), _RIGHT - half)
        font = ImageFont.load_default(size)
        self.draw.text((x, self.y), words, shade, font, anchor="ma")


def draw_sheet(result: StudyResult, *, study_date: str) -> NDArray[np.uint8]:
    """Return the picture of ``result``, grey, shape (rows, COLUMNS), an even number of rows."""
    page = _Sheet()
    page.write("Age and sex: header and image compared", size=_TITLE, shade=_WHITE)
    page.write("RESEARCH - NOT A MEDICAL DEVICE", shade=_WHITE)
    date = plain(study_date) or "of unknown date"
    names = ", ".join(f"{model.name} {model.version}" for model in result.asked)
    network = f"; network {names}" if names else ""
    line = f"Study {date}, UID ...{result.study_uid[-12:]}{network}"
    page.write(plain(line), size=_SMALL, shade=_GREY)
    page.y += 12
    page.write(text.verdict(result.check), size=_TITLE, shade=_WHITE)
    first, *further = result.parts
    said = _said(first, result.check)
    _age(page, result.check, said.get("age"), first)
    _sex(page, result.check, said.get("sex"), first)
    _others(page, first, said, "", besides=("age", "sex"))
    for part in further:
        network = f", {part.model.name}" if part.model else ""
        _others(page, part, _said(part, result.check), network)
    _findings(page, list(finding_words(result.check)))
    page.heading("")
    page.y -= line_height(_SMALL)
    page.write(text.DISCLAIMER, size=_SMALL, shade=_GREY)
    rows = min(page.y + 24, MOST_ROWS) // 2 * 2
    return np.asarray(page.image, dtype=np.uint8)[:rows]


def _said(part: BundleResult, check: HeaderCheck) -> dict[str, Answer]:
    return text.reported(part, check) if part.outcome is Outcome.ESTIMATED else {}


def finding_words(check: HeaderCheck) -> Iterator[str]:
    """Yield each finding and each proposal as a sentence, without codes."""
    for found in check.findings:
        reason = plain(found.reason)
        yield f"{found.severity.value.capitalize()}: {reason[:1].upper()}{reason[1:]}"
    for one in check.proposals:
        yield plain(f"Proposed, not applied: {one.keyword} {one.value}, from {one.source}")


def wrapped(words: str, size: int, width: int) -> list[str]:
    """Return the lines of ``words``; a word that is too long for a line is broken."""
    font = ImageFont.load_default(size)
    lines = [""]
    for word in words.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        while font.getlength(word) > width:
            fits = next(n for n in range(len(word), 0, -1) if font.getlength(word[:n]) <= width)
            lines[-1], word = word[:fits], word[fits:]
            lines.append("")
        lines[-1] = word
    return lines


def _shortened(words: str, size: int, width: int) -> list[str]:
    """Return the lines of ``words``, cut where they are too many: a header may hold anything."""
    lines = wrapped(words[:_MOST_LETTERS], size, width)
    cut = len(words) > _MOST_LETTERS or len(lines) > _MOST_LINES
    return [*lines[: _MOST_LINES - 1], "..."] if cut else lines


def _age(page: _Sheet, check: HeaderCheck, answer: Answer | None, part: BundleResult) -> None:
    page.heading("AGE")
    page.write(f"Recorded: {text.recorded(AGE, check.attributes[AGE])}")
    age = answer if isinstance(answer, Quantity) else None
    if age is not None:
        page.write(f"The image suggests {answer_line(age)}", shade=_WHITE)
    _why_not(page, part, "age")
    years = recorded_age(check)
    if age is not None or years is not None:
        _scale(page, age, years)


def _scale(page: _Sheet, age: Quantity | None, years: float | None) -> None:
    """Draw the ages from 0 to 100, or as far as is needed, with the interval and the record."""
    known = [*(age.interval90 if age else ()), *([years] if years is not None else ())]
    last = max(100, int(-(-max(known) // _TURN) * _TURN))
    place = _ScalePosition(last)
    page.y += 8
    if age is not None:
        page.label(f"image {age.mu:.0f}", place(age.mu), shade=_WHITE)
    page.y += line_height(_TEXT)
    top, axis = page.y, page.y + 26
    if age is not None:
        low, high = (place(end) for end in age.interval90)
        page.draw.rectangle((low, top + 4, high, axis - 2), fill=_DIM, outline=_GREY)
        page.draw.line((place(age.mu), top, place(age.mu), axis), _WHITE, 5)
    page.draw.line((_AXIS_LEFT, axis, _AXIS_RIGHT, axis), _LIGHT, 2)
    for tick in range(0, last + 1, _TURN // 2):
        page.draw.line((place(tick), axis, place(tick), axis + 7), _LIGHT, 2)
    page.y = axis + 10
    mark = place(years) if years is not None else -COLUMNS
    for tick in range(0, last + 1, _TURN):
        if abs(place(tick) - mark) > _NEAR:
            page.label(f"{tick}", place(tick), shade=_GREY, size=_SMALL)
    page.y += line_height(_SMALL)
    if years is not None:
        x = place(years)
        page.draw.line((x, axis, x, page.y), _WHITE, 2)
        page.draw.polygon([(x, axis + 2), (x - 11, axis + 20), (x + 11, axis + 20)], fill=_WHITE)
        page.label(f"recorded {spoken_age(years)}", x, shade=_WHITE)
        page.y += line_height(_TEXT)


class _ScalePosition:
    """Where an age lies on the scale."""

    def __init__(self, last: int) -> None:
        self._last = last

    def __call__(self, years: float) -> float:
        share = min(max(years / self._last, 0.0), 1.0)
        return _AXIS_LEFT + share * (_AXIS_RIGHT - _AXIS_LEFT)


def _sex(page: _Sheet, check: HeaderCheck, answer: Answer | None, part: BundleResult) -> None:
    page.heading("SEX")
    row = check.attributes[SEX]
    page.write(f"Recorded: {text.recorded(SEX, row)}")
    if isinstance(answer, Category):
        page.write(f"The image suggests {answer_line(answer)}", shade=_WHITE)
        page.y += 6
        _bars(page, answer, row.stated)
    _why_not(page, part, "sex")


def _others(
    page: _Sheet,
    part: BundleResult,
    said: Mapping[str, Answer],
    network: str,
    besides: Sequence[str] = (),
) -> None:
    """Write what the image says of heads that no attribute of the header is drawn beside."""
    names = [name for name in part.answers if name not in besides]
    for number, name in enumerate(names):
        if page.y + 8 * line_height(_TEXT) > MOST_ROWS - _FOOTER:
            page.write(f"[{len(names) - number} more answers in the report]", shade=_GREY)
            return
        page.heading(plain(name.replace("_", " ") + network).upper())
        if name in said:
            page.write(f"The image suggests {answer_line(said[name])}", shade=_WHITE)
        _why_not(page, part, name)


def _bars(page: _Sheet, sex: Category, recorded: AttributeValue | None) -> None:
    """Draw the probability of each sex, with a mark at the one that is recorded."""
    left, right = 180, 760
    sure = percent(sex.certainty)  # rounded down once, so that both add up to 100
    font = ImageFont.load_default(_TEXT)
    for letter, share in sex.probabilities.items():
        name = value_word(sex, letter)
        page.draw.text((_AXIS_LEFT, page.y), name, _LIGHT, font)
        box = (left, page.y + 4, right, page.y + line_height(_TEXT) - 6)
        page.draw.rectangle(box, outline=_DIM)
        if share > 0:
            page.draw.rectangle((left, box[1], left + share * (right - left), box[3]), fill=_LIGHT)
        said = f"{sure if letter == sex.value else 100.0 - sure:.1f} %"
        if letter == recorded:
            said += "  recorded"
            tip = (right + 12, (box[1] + box[3]) / 2)
            page.draw.polygon(
                [tip, (tip[0] + 14, tip[1] - 9), (tip[0] + 14, tip[1] + 9)], fill=_WHITE
            )
        page.draw.text((right + 36, page.y), said, _WHITE, font)
        page.y += line_height(_TEXT)


def _why_not(page: _Sheet, part: BundleResult, attribute: str) -> None:
    """Write why the image says nothing of an attribute."""
    if (reason := part.unanswered.get(attribute)) is not None:
        page.write(f"No {attribute} from the image: {plain(reason.text)}", shade=_WHITE)


def _findings(page: _Sheet, found: Sequence[str]) -> None:
    page.heading("WHAT THE CHECK FOUND")
    if not found:
        page.write("Nothing.")
    for number, words in enumerate(found):
        lines = len(_shortened(words, _TEXT, _RIGHT - _LEFT))
        if page.y + (lines + 1) * line_height(_TEXT) > MOST_ROWS - _FOOTER:
            page.write(f"[{len(found) - number} more in the report]", shade=_GREY)
            return
        page.write(words)
