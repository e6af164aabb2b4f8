"""Cells of tables that fit a narrow terminal: what is cut is cut where it says least."""

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.cells import cell_len, set_cell_size
from rich.table import Column
from rich.text import Text

from dicom_ai_node.output import visible
from dicom_ai_node.terminal import console

WIDE = 160
"""From so many columns on a UID has a column of its own, for grep; below that a line of its own."""
_LEAST = 12
_CUT = "\N{HORIZONTAL ELLIPSIS}"
_COUNTED = frozenset({"I4"})
"""Rules that hold of most files of an archive: counted below a table, not said of each file."""


def cut_left(text: str, width: int) -> str:
    """Return the end of ``text``, as of a path: the last part tells one from another."""
    text = visible(text)
    while cell_len(text) > width:
        text = _CUT + text.removeprefix(_CUT)[1:]
    return text


def cut_right(text: str, width: int) -> str:
    """Return the beginning of ``text``."""
    text = visible(text)
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + _CUT


def shown_path(path: str, given: Sequence[Path]) -> str:
    """Return a path as it is told from its neighbours: relative to the folder that was given."""
    folders = [one for one in given if one.is_dir()]
    for folder in folders:
        try:
            inside = Path(path).relative_to(folder)
        except ValueError:
            continue
        return str(inside if len(given) == 1 else Path(folder.name) / inside)
    return path


def file_column(paths: Iterable[str]) -> tuple[Column, int]:
    """Return a column for paths and how wide it may be: at most a third of the terminal."""
    longest = max((cell_len(visible(path)) for path in paths), default=0)
    width = max(min(longest, console.width // 3), 4)
    return Column("File", no_wrap=True, min_width=width), width


def uncounted(rules: Iterable[str]) -> str:
    """Return the rules to be said of a single file."""
    return " ".join(rule for rule in rules if rule not in _COUNTED)


def counted(rules: Iterable[Sequence[str]]) -> list[str]:
    """Say of how many files the other rules hold, a line for each."""
    from dicom_ai_node.rules.registry import RULES

    every = list(rules)
    found = {rule: sum(rule in one for one in every) for rule in sorted(_COUNTED)}
    return [
        f"{rule} in {count} of {len(every)}: {RULES[rule].reason}"
        for rule, count in found.items()
        if count
    ]


def print_lines(
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    below: Sequence[str],
    *,
    called: str,
    gives: Sequence[int] = (),
) -> None:
    """Print a table of one line a row, and under each row what needs a line of its own, if any.

    That is a UID, which is never broken, or a sentence, which is broken between words.

    Where the terminal is too narrow the columns ``gives`` are cut, the first of them first, to
    twelve characters at least. Where it is wide, what would stand below stands in front, in a
    column of the name ``called``.
    """
    if console.width >= WIDE:
        names = (called, *names)
        rows = [(under, *row) for row, under in zip(rows, below, strict=True)]
        gives, below = [one + 1 for one in gives], ()
    cells = [[visible(cell) for cell in row] for row in (names, *rows)]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    for column in gives:
        excess = sum(widths) + 2 * (len(widths) - 1) - console.width
        widths[column] -= min(max(excess, 0), max(widths[column] - _LEAST, 0))
    for number, row in enumerate(cells):
        fitted = [
            set_cell_size(cut_right(cell, width), width)
            for cell, width in zip(row, widths, strict=True)
        ]
        style = "bold" if number == 0 else ""
        console.print(Text("  ".join(fitted).rstrip(), style=style), soft_wrap=True)
        for line in _wrapped(below[number - 1]) if number and below else ():
            console.print(Text(f"  {line}", style="dim"), soft_wrap=True)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        visible(text), console.width - 2, break_long_words=False, break_on_hyphens=False
    )
