"""What a benchmark prints and writes, and the page that is made of all of them.

    python -m benchmarks.report > docs/performance.md

Each benchmark makes a :class:`Report` and hands it to :func:`publish`: a table for the terminal,
and with ``--write`` the file of ``benchmarks/results`` from which the page is printed.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from textwrap import fill
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table as RichTable

RESULTS = Path(__file__).parent / "results"
ORDER = (
    "ingest",
    "decode",
    "infer",
    "gpu",
    "queue",
    "end_to_end",
    "audit",
    "memory",
    "startup",
    "series",
)
"""The benchmarks as the page shows them."""
Cell = str | float | int | None


@dataclass
class Table:
    """Rows under columns; a number is printed to three significant digits."""

    title: str
    columns: Sequence[str]
    rows: list[list[Cell]] = field(default_factory=list)


@dataclass
class Report:
    """One run of one benchmark."""

    name: str
    """As in ``python -m benchmarks.NAME``."""
    question: str
    """What is measured, and how, in a few sentences."""
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What a reader must know beside the tables: what the disk did, which marks were missed."""
    machine: str = field(default_factory=lambda: machine())
    day: str = field(default_factory=lambda: time.strftime("%Y-%m-%d"))


def machine() -> str:
    """Describe the machine without naming it."""
    memory = psutil.virtual_memory().total / 2**30
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text("ascii", "replace").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return (
        f"{os.cpu_count()} cores ({model}), {memory:.0f} GB,"
        f" {platform.system()} {platform.release().partition('-')[0]},"
        f" Python {platform.python_version()}"
    )


def disk_rate(folder: Path, megabytes: int = 1000) -> float:
    """Return how many MB/s the disk takes now: zeros in one file, with one fsync at the end."""
    block = bytes(2**20)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        started = time.perf_counter()
        for _ in range(megabytes * 1_000_000 // len(block)):
            file.write(block)
        os.fsync(file.fileno())
        return megabytes / (time.perf_counter() - started)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every benchmark has."""
    parser.add_argument("--quick", action="store_true", help="small: does it run at all?")
    parser.add_argument("--json", action="store_true", help="print JSON in place of tables")
    parser.add_argument("--write", action="store_true", help="keep it in benchmarks/results")


def publish(report: Report, options: argparse.Namespace) -> None:
    """Print the report, and keep it where ``--write`` asks for it."""
    text = json.dumps(asdict(report), indent=1) + "\n"
    if options.json:
        print(text, end="")
    else:
        console = Console(width=100)
        for table in report.tables:
            console.print(_rich(table))
        for note in [*report.notes, report.machine]:
            console.print(note, highlight=False)
    if options.write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{report.name}.json").write_text(text, encoding="utf-8")


def shown(value: Cell) -> str:
    """Return a cell as it is printed."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else value


def _rich(table: Table) -> RichTable:
    made = RichTable(title=table.title, title_justify="left", box=None, pad_edge=False)
    for number, column in enumerate(table.columns):
        made.add_column(column, justify="right" if number else "left")
    for row in table.rows:
        made.add_row(*map(shown, row))
    return made


def _page(reports: Sequence[dict[str, Any]]) -> str:
    lines = [
        "# Performance",
        "",
        "Printed by `python -m benchmarks.report` from what `make bench` measured; each part names",
        "its machine and day. Compare within a table: both sides ran in turns in one run.",
        "",
    ]
    for report in reports:
        lines += [
            f"## `python -m benchmarks.{report['name']}`",
            "",
            fill(report["question"], 100),
            "",
        ]
        for table in report["tables"]:
            lines += [f"**{table['title']}**", ""]
            lines += [_row(table["columns"])]
            lines += ["|---|" + "--:|" * (len(table["columns"]) - 1)]
            lines += [_row([shown(cell) for cell in row]) for row in table["rows"]]
            lines += [""]
        notes = [*report["notes"], f"{report['machine']}; {report['day']}"]
        lines += [fill(note, 100, initial_indent="- ", subsequent_indent="  ") for note in notes]
        lines += [""]
    return "\n".join(lines[:-1]) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    files = [RESULTS / f"{name}.json" for name in ORDER]
    reports = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.exists()]
    print(_page(reports), end="")


if __name__ == "__main__":
    main()
