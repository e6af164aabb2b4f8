"""Wraps the prose of the documents at 100 columns: ``python -m tests.wrap [FILE...]``.

Only paragraphs and list items with a line that is too long are touched; tables, code blocks and
headings never are.
"""

import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 100
_BOUND = "\0"
_ITEM = re.compile(r"( *)([-*+] |\d+[.)] )?")
_BLOCK = re.compile(r" *([-*+] |\d+[.)] |#|>|\||```|<!--|$)")


def wrapped(text: str) -> str:
    """The same document, hard-wrapped."""
    lines: list[str] = []
    paragraph: list[str] = []
    code = False
    for line in text.splitlines():
        fence = line.lstrip().startswith("```")
        if code or fence or _BLOCK.match(line):
            lines += _filled(paragraph)
            paragraph = []
            code ^= fence
            if code or fence or not re.match(r" *([-*+] |\d+[.)] )", line):
                lines.append(line)
            else:
                paragraph = [line]
        else:
            paragraph.append(line)
    return "\n".join([*lines, *_filled(paragraph)]) + "\n"


def _filled(paragraph: list[str]) -> list[str]:
    if all(len(line) <= WIDTH for line in paragraph):
        return paragraph
    found = _ITEM.match(paragraph[0])
    assert found is not None
    first = found[1] + (found[2] or "")
    words = " ".join([paragraph[0][len(first) :], *(line.strip() for line in paragraph[1:])])
    # A word that would begin a list, a heading or a quotation stays behind the word before it.
    bound = re.sub(r" (?=(?:[-*+>#]|\d+[.)]) )", _BOUND, words)
    text = textwrap.fill(
        bound,
        WIDTH,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return text.replace(_BOUND, " ").split("\n")


if __name__ == "__main__":
    pages = map(Path, sys.argv[1:]) if sys.argv[1:] else (ROOT / "docs").rglob("*.md")
    for page in pages:
        page.write_text(wrapped(page.read_text()))
