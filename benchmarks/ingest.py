"""How fast images come in: this node against DCMTK storescp and Orthanc.

    python -m benchmarks.ingest [--quick] [--repeats 3]

The same sender (DCMTK ``storescu --max-pdu 131072``) sends the same images to each side. The sides
take turns within each repeat, so that other work on the machine hits all of them. Images of noise:
what compresses flatters somebody.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers import (
    SIDES,
    Side,
    family,
    make_images,
    memory,
    processor_time,
    running,
    sync_file_system,
    transmit,
)
from benchmarks.report import Report, Table, add_options, disk_rate, publish

_SIZES = [50_000, 500_000, 2_000_000, 6_000_000, 10_485_760]
"""Bytes of pixel data: those of dcm4chee's benchmarks, and a large radiograph."""
_MOST = 2.6e9
"""Bytes of one run at most."""
_COLUMNS = (
    "object x associations",
    "MB/s",
    "objects/s",
    "times the faster peer",
    "p50 ms",
    "p99 ms",
    "processor ms/MB",
    "memory MB",
)
_QUESTION = (
    "DCMTK's `storescu` sends the same images of noise to each side, which take turns. Durable:"
    " until all is on the disk (`syncfs` after the last acknowledgement), so that a side that"
    " acknowledges earlier has its work counted, too. p50 and p99: of one C-STORE, from request to"
    " response. The sender's socket buffer is 32 KB: where a receiver leaves acknowledging to TCP's"
    " timer, each image waits 40 ms or twice that, which is most of what small images show."
)


@dataclass
class Figures:
    """What was measured of one side, a value a repeat."""

    durable: list[float] = field(default_factory=list)
    """Seconds until everything is on the disk: ``syncfs`` after the last acknowledgement."""
    processor: list[float] = field(default_factory=list)
    """Seconds, which other work on the machine hardly changes."""
    stores: list[float] = field(default_factory=list)
    """Seconds of each C-STORE from request to response."""
    memory_mb: list[float] = field(default_factory=list)


def measure(side: Side, folders: list[Path], work: Path, figures: Figures) -> None:
    with running(side, work) as (port, processes):
        sync_file_system(work)
        before = processor_time(processes)
        started = time.perf_counter()
        _, took = transmit(folders, port)
        sync_file_system(work)
        figures.durable.append(time.perf_counter() - started)
        figures.processor.append(processor_time(processes) - before)
        figures.stores += took
        figures.memory_mb.append(memory(processes) / 1e6)


def compare(table: Table, size: int, folders: list[Path], work: Path, repeats: int) -> float:
    """Add a row a side; return how many times the faster peer's rate this node's is."""
    megabytes = sum(path.stat().st_size for folder in folders for path in folder.iterdir()) / 1e6
    found = {side.name: Figures() for side in SIDES}
    for _ in range(repeats):
        for side in SIDES:
            measure(side, folders, work, found[side.name])
    ours, *theirs = (statistics.median(found[side.name].durable) for side in SIDES)
    for number, side in enumerate(SIDES):
        figures = found[side.name]
        durable = statistics.median(figures.durable)
        hundredths = statistics.quantiles(figures.stores, n=100, method="inclusive")
        table.rows.append(
            [
                f"{size / 1e6:.3g} MB x {len(folders)}, {side.name}",
                megabytes / durable,
                len(figures.stores) / repeats / durable,
                None if number else min(theirs) / ours,
                hundredths[49] * 1000,
                hundredths[98] * 1000,
                statistics.median(figures.processor) / megabytes * 1000,
                statistics.median(figures.memory_mb),
            ]
        )
    return min(theirs) / ours


def flat_memory(work: Path, count: int) -> Table:
    """Return the memory of the receivers while ``count`` images come over four associations."""
    table = Table(
        "Resident memory of each receiver, MB", ["images received", "first", "second", "growth"]
    )
    folders = [work / f"many-{number}" for number in range(4)]
    for folder in folders:
        make_images(folder, count // 40, _SIZES[0])
    with running(SIDES[0], work) as (port, processes):
        first = 0.0
        for tenth in range(1, 11):
            transmit(folders, port)
            each = [one.memory_info().rss / 1e6 for one in family(processes)[:-1]]
            first = first or sum(each)
            growth = f"{100 * (sum(each) / first - 1):+.1f} %"
            if tenth in (1, 5, 10):
                table.rows.append([f"{tenth * count // 10:,}", *each, growth])
    for folder in folders:
        shutil.rmtree(folder)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", type=Path, help="folder on the disk to measure")
    parser.add_argument("--sizes", type=float, nargs="+", help="MB; all of them without it")
    add_options(parser)
    options = parser.parse_args()
    report = Report("ingest", _QUESTION)
    table = Table(
        f"Durable, median of {options.repeats}",
        _COLUMNS,
    )
    sizes = [int(size * 1e6) for size in options.sizes] if options.sizes else _SIZES
    work = Path(tempfile.mkdtemp(dir=options.work, prefix="ingest-"))
    try:
        before, ratios = disk_rate(work), {}
        for size in sizes:
            for associations in (1, 4, 16):
                each = max(4, min(60, int(_MOST / size / associations)))
                folders = [work / f"sender-{number}" for number in range(associations)]
                for folder in folders:
                    make_images(folder, 2 if options.quick else each, size)
                ratio = compare(table, size, folders, work, options.repeats)
                ratios[f"{size / 1e6:.3g} MB x {associations}"] = ratio
                for folder in folders:
                    shutil.rmtree(folder)
        report.tables = [table, flat_memory(work, 400 if options.quick else 10_000)]
        report.notes = [
            *(f"{side.name}: an acknowledgement promises {side.durable}" for side in SIDES),
            f"the disk took 1 GB with one fsync at {before:.0f} MB/s before, at"
            f" {disk_rate(work):.0f} MB/s after",
            *marks(ratios),
        ]
        publish(report, options)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def marks(ratios: dict[str, float]) -> list[str]:
    """Say which marks are met."""
    large = {
        name: ratio for name, ratio in ratios.items() if name in ("10.5 MB x 1", "10.5 MB x 4")
    }
    others = {name: ratio for name, ratio in ratios.items() if ratio < 1}
    return [
        f"mark >= 2 times the faster peer at 10 MB, one and four associations: {verdict(large, 2)}",
        f"mark not slower at any size or number: {verdict(ratios, 1)}"
        + "".join(f"; {name} {ratio:.2f}" for name, ratio in others.items()),
    ]


def verdict(ratios: dict[str, float], least: float) -> str:
    """Return 'met' or 'missed'."""
    return "met" if ratios and min(ratios.values()) >= least else "missed"


if __name__ == "__main__":
    main()
