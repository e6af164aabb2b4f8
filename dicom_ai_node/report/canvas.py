"""A page that is filled from the top, so that long texts push the rest down.

Nothing on it overlaps. What would make it too tall is for the caller to count and leave out.
"""

from PIL import Image, ImageDraw, ImageFont

COLUMNS = 1024
MOST_ROWS = 1400
LEFT, RIGHT = 40, COLUMNS - 40
WHITE, LIGHT, GREY, DIM = 255, 205, 150, 70
TITLE, TEXT, SMALL = 28, 22, 18
_MOST_LINES, _MOST_LETTERS = 5, 500
"""Of one text."""


def line_height(size: int) -> int:
    """Return the pixels from one line to the next."""
    return size + 8


FOOTER = 5 * line_height(SMALL) + 60
"""Pixels that are kept for the end of the page."""


class Page:
    """A canvas that is filled from the top."""

    def __init__(self) -> None:
        self.image = Image.new("L", (COLUMNS, MOST_ROWS), 0)
        self.draw = ImageDraw.Draw(self.image)
        self.y = 24

    def write(self, words: str, *, size: int = TEXT, shade: int = LIGHT, left: int = LEFT) -> None:
        """Write ``words`` over as many lines as they need, up to a number that leaves room."""
        for line in shortened(words, size, RIGHT - left):
            self.draw.text((left, self.y), line, shade, ImageFont.load_default(size))
            self.y += line_height(size)

    def has_room(self, lines: int) -> bool:
        """Whether so many lines of text fit above what ends the page."""
        return self.y + lines * line_height(TEXT) <= MOST_ROWS - FOOTER

    def heading(self, words: str) -> None:
        """Begin a part."""
        self.y += 14
        self.draw.line((LEFT, self.y, RIGHT, self.y), DIM)
        self.y += 10
        self.write(words, size=SMALL, shade=GREY)

    def label(self, words: str, x: float, *, shade: int, size: int = TEXT) -> None:
        """Write one line centred on ``x``, moved to within the margins."""
        half = ImageFont.load_default(size).getlength(words) / 2
        x = min(max(x, LEFT + half), RIGHT - half)
        font = ImageFont.load_default(size)
        self.draw.text((x, self.y), words, shade, font, anchor="ma")


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


def shortened(words: str, size: int, width: int) -> list[str]:
    """Return the lines of ``words``, cut where they are too many: a header may hold anything."""
    lines = wrapped(words[:_MOST_LETTERS], size, width)
    cut = len(words) > _MOST_LETTERS or len(lines) > _MOST_LINES
    return [*lines[: _MOST_LINES - 1], "..."] if cut else lines
