"""What a node holds and does at rest, with 0, 16 and 128 idle associations, beside its peers.

python -m benchmarks.memory [--quick] [--seconds 15]
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.report import Cell, Report, Table, add_options, publish
from benchmarks.startup import SIDES, Side, group, node_command, spent, started, wait_for_echo
from tests.acceptance.harness import role_of
from tests.builders.ports import free_port
from tests.builders.receiving import RawPeer

COUNTS = (0, 16, 128)
SHARE_MARK, RECEIVER_MARK, BEFORE_MB = 1.0, 120.0, 1045.0
"""Percent of a core, MB of a receiver, and what all of a node held when roles shared nothing."""
_MB = 1e6
_EXTRA = """\
[receive]
max_associations = 200
max_associations_per_address = 200
[[receive.callers]]
ae_title = "BENCH"
[[receive.callers]]
ae_title = "RAW"
"""


def of_node(seconds: float, settle: float) -> tuple[list[Table], list[str]]:
    """Run a node; return its tables, and which marks it meets."""
    shares = Table("Processor at rest, percent of a core", ("idle associations", *map(str, COUNTS)))
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        with started(node_command(folder, port, _EXTRA), folder) as root:
            wait_for_echo(port)
            time.sleep(settle)
            processes = {role_of(one) or "serve": one for one in group(root)}
            held = memory(processes)
            columns = [share_at(count, port, list(processes.values()), seconds) for count in COUNTS]
            busy = memory(processes)
    for number, who in enumerate(processes):
        shares.rows.append([who, *(column[number] for column in columns)])
    totals = [sum(column) for column in columns]
    shares.rows.append(["all", *totals])
    pss, receiver, after = sum(one.pss for one in held), receiver_of(held), receiver_of(busy)
    notes = [
        mark(f"all processes together hold {pss:.0f} MB (PSS)", pss <= BEFORE_MB / 2)
        + f" They held {BEFORE_MB:.0f} MB when each imported for itself.",
        mark(f"a receiver is {receiver:.0f} MB (RSS)", receiver < RECEIVER_MARK)
        + f" With {COUNTS[-1]} associations it was {after:.0f} MB.",
        mark(f"at rest a node uses {totals[0]:.2f} % of a core", totals[0] < SHARE_MARK),
    ]
    columns_of = ("process", "RSS", "PSS", "USS")
    table = Table("Memory of this node at rest, MB", columns_of, [list(one) for one in held])
    table.rows.append(["all", None, pss, sum(one.uss for one in held)])
    return [table, shares], notes


class Held(NamedTuple):
    """What a process holds, MB: resident, its part of what is shared, and what it alone has."""

    name: str
    rss: float
    pss: float
    uss: float


def memory(processes: dict[str, psutil.Process]) -> list[Held]:
    full = {name: process.memory_full_info() for name, process in processes.items()}
    return [Held(name, it.rss / _MB, it.pss / _MB, it.uss / _MB) for name, it in full.items()]


def receiver_of(held: Sequence[Held]) -> float:
    """Return the resident memory of the largest receiver."""
    return max(one.rss for one in held if one.name.startswith("receive"))


def share_at(
    count: int, port: int, processes: Sequence[psutil.Process], seconds: float
) -> list[float]:
    """Return each process's percent of a core while ``count`` associations are open and idle."""
    with ExitStack() as peers:
        for _ in range(count):
            peers.enter_context(RawPeer(port)).associate()
        time.sleep(1)
        before, began = [spent([one]) for one in processes], time.monotonic()
        time.sleep(seconds)
        after, wall = [spent([one]) for one in processes], time.monotonic() - began
    return [100 * (late - early) / wall for early, late in zip(before, after, strict=True)]


def beside(side: Side, seconds: float, settle: float) -> list[list[Cell]]:
    """Return what a whole side holds and does, a row for each number of associations."""
    rows: list[list[Cell]] = []
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        with started(side.command(folder, port), folder) as root:
            wait_for_echo(port)
            time.sleep(settle)
            for count in COUNTS:
                with ExitStack() as peers:
                    for _ in range(count):
                        peers.enter_context(RawPeer(port)).associate()
                    time.sleep(1)
                    processes = group(root)
                    before, began = spent(processes), time.monotonic()
                    time.sleep(seconds)
                    share = 100 * (spent(processes) - before) / (time.monotonic() - began)
                    pss = sum(one.memory_full_info().pss for one in processes) / _MB
                rows.append([side.name, count, len(processes), pss, share])
                time.sleep(1)
    return rows


def mark(what: str, met: bool) -> str:
    return f"Mark {'met' if met else 'MISSED'}: {what}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_options(parser)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--settle", type=float, default=12.0)
    options = parser.parse_args()
    seconds, settle = (2.0, 8.0) if options.quick else (options.seconds, options.settle)
    tables, notes = of_node(seconds, settle)
    peers = Table(
        "Whole sides",
        ("side", "idle associations", "processes", "PSS, MB", "percent of a core"),
    )
    for side in SIDES[1:]:
        peers.rows += beside(side, min(seconds, 5.0), 1.0)
    publish(
        Report(
            "memory",
            "What each process of a node holds at rest and how much of a core it uses, and what the"
            " peers do. PSS counts a page that several processes share in parts, USS only what"
            " would be free if the process ended. Idle associations are open and nothing is sent."
            f" Processor over {seconds:g} s, from the kernel's account of each process.",
            [*tables, peers],
            notes,
        ),
        options,
    )


if __name__ == "__main__":
    main()
