"""Prints what a command found: tables and lines for people, JSON or CSV for machines.

The one place that does. Cells of a table that fit a narrow terminal are cut where they say least.
"""

import sys
import textwrap
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import typer
from rich.cells import cell_len, set_cell_size
from rich.console import Console, RenderableType
from rich.table import Column, Table
from rich.text import Text

from dicom_ai_node.errors import ExitCode
from dicom_ai_node.output import Cell, CsvWriter, json_text, visible
from dicom_ai_node.terminal import complain, console

Form = Literal["table", "json", "csv"]
WIDE = 160
"""From so many columns on a UID has a column of its own, for grep; below that a line of its own."""
_LEAST = 12
_CUT = "\N{HORIZONTAL ELLIPSIS}"
_COUNTED = frozenset({"I4"})
"""Rules that hold of most files of an archive: counted below a table, not said of each file."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A line that only the terminal breaks: somebody copies a path or a UID from it."""

    text: str | Text
    style: str = ""


@dataclass(frozen=True, slots=True)
class Lines:
    """A table of one line a row, and under each row what needs a line of its own, if any.

    That is a UID, which is never broken, or a sentence, which is broken between words.

    Where the terminal is too narrow the columns ``gives`` are cut, the first of them first, to
    twelve characters at least. Where it is wide, what would stand below stands in front, in a
    column of the name ``called``.
    """

    names: Sequence[str]
    rows: Sequence[Sequence[str]]
    below: Sequence[str]
    called: str
    gives: Sequence[int] = ()


Block = RenderableType | Whole | Lines
"""What people see. A str is broken between words; a :class:`Whole` is not broken."""


@dataclass(frozen=True, slots=True)
class Csv:
    """How records are written as CSV."""

    columns: Sequence[str]
    row: Callable[[Any], Sequence[Cell]]


@dataclass(frozen=True, slots=True)
class Output:
    """What a command found, for people and for machines, and how it ends."""

    records: Iterable[Any] = ()
    """In order. A command that takes its time yields each when it is there."""
    json: Callable[[Any], Any] = lambda record: record
    """How a record is written as JSON, on a line; a str is JSON already."""
    each: Callable[[Any], Iterable[Block]] = lambda _: ()
    """What people see of a record as soon as it is there."""
    blocks: Iterable[Block] = ()
    """What people see below; evaluated after the last record, and for people only."""
    csv: Csv | None = None
    form: Form = "table"
    """How it is printed without ``--json``."""
    faults: Iterable[str] = ()
    """Said on standard error at the end."""
    ok: bool | Callable[[], bool] = True
    """False: exit code 1."""
    interrupted: Callable[[], str] | None = None
    """Says how far it came when Ctrl-C ends the records; None: nothing is printed then."""


def print_output(output: Output, *, as_json: bool = False) -> None:
    """Print what a command found and end with its exit code."""
    form: Form = "json" if as_json else output.form
    interrupted = False
    try:
        _print_records(output, form)
    except KeyboardInterrupt:
        if output.interrupted is None:
            raise
        interrupted = True
    finally:
        if isinstance(output.records, Generator):
            output.records.close()  # with the progress bar that it may show
    if form == "table":
        print_blocks(output.blocks)
    for fault in output.faults:
        complain(fault)
    if interrupted and output.interrupted:
        complain(f"interrupted: {output.interrupted()}")
        raise typer.Exit(ExitCode.INTERRUPTED)
    if not (output.ok() if callable(output.ok) else output.ok):
        raise typer.Exit(ExitCode.NO)


def _print_records(output: Output, form: Form) -> None:
    writer = CsvWriter(sys.stdout)
    if form == "csv" and output.csv:
        writer.writerow(output.csv.columns)
    for record in output.records:
        if form == "json":
            made = output.json(record)
            typer.echo(made if isinstance(made, str) else json_text(made))
        elif form == "csv" and output.csv:
            writer.writerow(output.csv.row(record))
        else:
            print_blocks(output.each(record))


def print_blocks(blocks: Iterable[Block], on: Console = console) -> None:
    """Print what people see."""
    for block in blocks:
        if isinstance(block, Whole):
            on.print(block.text, style=block.style or None, soft_wrap=True)
        elif isinstance(block, Lines):
            _print_lines(block, on)
        else:
            on.print(block)


def table(
    columns: Iterable[str | Column], rows: Iterable[Iterable[RenderableType]], *, title: str = ""
) -> Table:
    """Return a table without lines around its cells."""
    made = Table(*columns, box=None, title=title or None, title_justify="left")
    for row in rows:
        made.add_row(*row)
    return made


def pairs(rows: Iterable[tuple[str, str]]) -> Table:
    """Return names with what is said of each, one under the other."""
    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, text in rows:
        made.add_row(name, text)
    return made


def count_of(rows: Sequence[object], limit: int, what: str) -> str:
    """Say how many there are, and whether the limit may have cut others off."""
    return f"{len(rows)} {what}" + (" (more may follow)" if len(rows) == limit else "")


def when(seconds: float | None) -> str:
    """Return a time as ISO 8601 in local time, '' for None."""
    if not seconds:
        return ""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


def is_time(name: str) -> bool:
    """Whether a value of this name is a time, in seconds since the epoch."""
    return name == "at" or name.endswith(("_at", "not_before", "lease_until"))


def with_times(record: Any) -> dict[str, Any]:
    """Return a dataclass or row as it is written as JSON: times as :func:`when`, or None."""
    values = record if isinstance(record, dict) else asdict(record)
    return {name: (when(it) or None) if is_time(name) else it for name, it in values.items()}


def minute(seconds: float | None) -> str:
    """Return a time for a column of a table, local and to the minute, '' for None."""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M") if seconds else ""


def whole(name: str) -> Column:
    """Return a column whose values, such as UIDs, are broken rather than cut: one copies them."""
    return Column(name, overflow="fold")


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
    folders = [path for path in given if path.is_dir()]
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
    from dicom_ai_node.rules.check import RULES

    every = list(rules)
    found = {rule: sum(rule in fired for fired in every) for rule in sorted(_COUNTED)}
    return [
        f"{rule} in {count} of {len(every)}: {RULES[rule].reason}"
        for rule, count in found.items()
        if count
    ]


def _print_lines(lines: Lines, on: Console) -> None:
    names, rows, below, gives = lines.names, lines.rows, lines.below, lines.gives
    if on.width >= WIDE:
        names = (lines.called, *names)
        rows = [(under, *row) for row, under in zip(rows, below, strict=True)]
        gives, below = [column + 1 for column in gives], ()
    cells = [[visible(cell) for cell in row] for row in (names, *rows)]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    for column in gives:
        excess = sum(widths) + 2 * (len(widths) - 1) - on.width
        widths[column] -= min(max(excess, 0), max(widths[column] - _LEAST, 0))
    for number, row in enumerate(cells):
        fitted = [
            set_cell_size(cut_right(cell, width), width)
            for cell, width in zip(row, widths, strict=True)
        ]
        style = "bold" if number == 0 else ""
        on.print(Text("  ".join(fitted).rstrip(), style=style), soft_wrap=True)
        for line in _wrapped(below[number - 1], on.width - 2) if number and below else ():
            on.print(Text(f"  {line}", style="dim"), soft_wrap=True)


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(visible(text), width, break_long_words=False, break_on_hyphens=False)
