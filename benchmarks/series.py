"""What a CT of a thousand slices costs, from the first C-STORE to the delivered report.

    python -m benchmarks.series [--slices 1000] [--bundle ct-mr-region] [--repeats 3] [--json]
        [--write]

One study of one series (512 x 512, 16 bit, the trunk of the demo's mannequin) is sent by DCMTK
``storescu`` over one association to a node whose ``[model] further`` names the bundle, which
reports to DCMTK ``storescp``. The same series is sent to a bare ``storescp`` in the same run, which
files it and does no more. Beside the times: processor seconds and the largest resident memory of
each role.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from pydicom.uid import CTImageStorage

from benchmarks.peers import PDU, tool, transmit
from benchmarks.report import Report, Table, add_options, disk_rate, publish
from dicom_ai_node.demo.images import section
from dicom_ai_node.demo.sections import abdomen, chest
from dicom_ai_node.study import State
from tests.acceptance.harness import SETTLED, Node, role_of
from tests.builders.ports import free_port
from tests.builders.waiting import listens, wait_until

SIDE = 512
QUIET = 1.0
"""Seconds without an image after which the node of the harness takes a study for complete."""
SPACING = 1.0
"""Millimetres between slices."""
SETTLE = 20.0
"""Seconds in which a node that has just started loads what it needs."""


def make_series(folder: Path, slices: int) -> None:
    """Write a CT series of a trunk, chest above abdomen, whose body part nobody has recorded."""
    folder.mkdir(parents=True)
    for number in range(slices):
        part, level = divmod(2 * number / slices, 1)
        image = section(
            (chest, abdomen)[int(part)](level, number, SIDE),
            study="series",
            number=number + 1,
            spacing=(0.78, SPACING),
            PatientAge="059Y",
            PatientSex="F",
            BodyPartExamined=None,
        )
        image.save_as(folder / f"{number:04}.dcm", enforce_file_format=True)


@contextmanager
def storescp(folder: Path) -> Iterator[tuple[int, psutil.Process]]:
    """A bare receiver, which says yes before anything is on the disk."""
    folder.mkdir(parents=True)
    port = free_port()
    command = [tool("storescp"), "--fork", "--max-pdu", PDU, "+xa", "-od", str(folder), str(port)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_until("storescp", lambda: listens(port))
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


class Watch:
    """Largest resident memory and processor time of each process of a node, until it is stopped."""

    def __init__(self, node: Node) -> None:
        assert node.process is not None
        self.root = psutil.Process(node.process.pid)
        self.roles: dict[int, str] = {}
        self.memory: Counter[int] = Counter()
        self.processor: Counter[int] = Counter()
        """Hundredths of a second."""
        self.look()
        self._idle = Counter(self.processor)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            self.look()

    def look(self) -> None:
        try:
            group = [self.root, *self.root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in group:
            try:
                times = process.cpu_times()
                resident = process.memory_info().rss
            except psutil.Error:
                continue
            self.roles[process.pid] = role_of(process).rstrip("-0123456789") or "serve"
            self.memory[process.pid] = max(self.memory[process.pid], resident)
            self.processor[process.pid] = round(100 * (times.user + times.system))

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self.look()

    def processor_seconds(self) -> dict[str, float]:
        """Of all processes of each role, since the watch began."""
        found: Counter[str] = Counter()
        for pid, spent in self.processor.items():
            found[self.roles[pid]] += spent - self._idle[pid]
        return {role: spent / 100 for role, spent in sorted(found.items())}

    def megabytes(self) -> dict[str, int]:
        """Of the largest process of each role."""
        return {
            role: max(self.memory[pid] for pid, own in self.roles.items() if own == role) // 2**20
            for role in sorted({*self.roles.values()})
        }


@dataclass(frozen=True)
class Run:
    """One series, sent to a node of its own."""

    acknowledged: float
    """Seconds from the first C-STORE on, as that below."""
    delivered: float
    processor: dict[str, float]
    """Seconds, by role."""
    megabytes: dict[str, int]
    """Largest resident memory, by role."""


def node_run(series: Path, work: Path, bundle: str) -> Run:
    """Send the series to a node of its own and wait for its report."""
    with storescp(work / "reports") as (port, _):
        extra = f'[model]\nfurther = ["{bundle}"]' if bundle else ""
        destinations = {"pacs": ("PACS", port)}
        kept = [] if bundle else [CTImageStorage]
        with Node(work / "node", destinations=destinations, extra=extra, kept_classes=kept) as node:
            time.sleep(SETTLE)
            watch = Watch(node)
            began = time.perf_counter()
            try:
                acknowledged, _ = transmit([series], node.port)
                wait_until("the report", lambda: _settled(node), seconds=600)
            finally:
                watch.stop()
            delivered = time.perf_counter() - began
            state = node.studies()[0].state
    if bundle and (state != State.DELIVERED or not [*(work / "reports").iterdir()]):
        sys.exit(f"the study is {state}, expected a delivered report")
    return Run(acknowledged, delivered, watch.processor_seconds(), watch.megabytes())


def _settled(node: Node) -> bool:
    rows = node.studies()
    return bool(rows) and all(row.state in SETTLED for row in rows)


def tabulate(bare: list[float], runs: list[Run], title: str) -> list[Table]:
    """Medians of all runs; the memory is the largest."""
    times = Table(title, ["side", "acknowledged, s", "report delivered, s"])
    times.rows.append(["DCMTK storescp alone, nothing on the disk", statistics.median(bare), None])
    both = [
        statistics.median(of)
        for of in zip(*((r.acknowledged, r.delivered) for r in runs), strict=True)
    ]
    times.rows.append(["this node, everything on the disk", *both])
    roles = Table("What each role of the node took", ["role", "processor, s", "largest MB"])
    for role in sorted({role for run in runs for role in run.processor}):
        spent = statistics.median(run.processor.get(role, 0.0) for run in runs)
        roles.rows.append([role, spent, max(run.megabytes.get(role, 0) for run in runs)])
    return [times, roles]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_options(parser)
    parser.add_argument("--slices", type=int, default=1000)
    parser.add_argument("--bundle", default="ct-mr-region", help="'' for none")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    slices, repeats = (60, 1) if options.quick else (options.slices, options.repeats)
    with tempfile.TemporaryDirectory(prefix="series-") as name:
        work = Path(name)
        make_series(work / "series", slices)
        runs, bare = [], []
        for number in range(repeats):
            with storescp(work / f"bare-{number}") as (port, _):
                bare.append(transmit([work / "series"], port)[0])
            runs.append(node_run(work / "series", work / f"ours-{number}", options.bundle))
        megabytes = sum(file.stat().st_size for file in (work / "series").iterdir()) / 1e6
        disk = disk_rate(work)
    title = f"{slices} slices, {megabytes:.0f} MB, median of {repeats}"
    notes = [
        f"of the time to the report {QUIET:g} s are the quiet time",
        f"the disk took {disk:.0f} MB/s of zeros in one file after it",
    ]
    question = " ".join(__doc__.partition("[--write]")[2].split())
    publish(Report("series", question, tabulate(bare, runs, title), notes), options)


if __name__ == "__main__":
    main()
