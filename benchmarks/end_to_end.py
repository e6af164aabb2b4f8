"""From the last image of a study to its delivered report, at rates below saturation.

    python -m benchmarks.end_to_end [--quick] [--studies 40] [--json] [--write]

A node of its own, with the shipped bundle, gets frontal chests of 5.2 megapixels (10.5 MB, native)
from DCMTK ``storescu``, one study an association, and reports to DCMTK ``storescp``. First come
all studies from four senders at once: reports a second, between the first and the last that comes
out, are the saturation. Then studies come at a quarter and at half of it, evenly spread. Latency is
from the end of ``storescu``, which has its last acknowledgement then, to when ``storescp`` has
written the report, without the quiet time that the node waits for more images. The parts are the
times at which the database says that the study went on.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.uid import generate_uid
from sqlalchemy import func, select

from benchmarks.peers import PDU, tool
from benchmarks.report import Report, Table, add_options, disk_rate, publish
from benchmarks.series import Watch, storescp
from dicom_ai_node.demo import phantom
from dicom_ai_node.demo.images import radiograph
from dicom_ai_node.store import Database
from dicom_ai_node.store.tables import delivery, instance, transition
from dicom_ai_node.study import State
from tests.acceptance.harness import Node
from tests.builders.waiting import wait_until

ROWS, COLUMNS = 2560, 2048
QUIET = 1.0
"""Seconds without an image after which a study is complete."""
SETTLE = 8.0
"""Seconds in which a node that has just started loads what it needs."""
P50, P99 = 1.0, 3.0
"""Marks, seconds."""
SENDERS = 4
SHARES: dict[str, float | None] = {"all at once": None, "at a quarter": 0.25, "at half": 0.5}
"""How fast studies come, as a share of saturation."""
ROLES = ("receive", "analyse", "deliver", "keep", "audit", "web", "serve")
PARTS = ("waits for an analyser", "rules, pixels, network, report", "waits for, and is, delivery")
QUESTION = " ".join(__doc__.partition("[--write]")[2].split())


@dataclass
class Run:
    """Studies sent, and what became of them."""

    acknowledged: dict[str, float] = field(default_factory=dict)
    """By StudyInstanceUID, seconds of the epoch."""
    reported: dict[str, float] = field(default_factory=dict)
    processor: dict[str, float] = field(default_factory=dict)
    """Seconds, by role."""

    @property
    def latencies(self) -> list[float]:
        """Sorted, beyond the quiet time, seconds."""
        return sorted(self.reported[uid] - at - QUIET for uid, at in self.acknowledged.items())

    @property
    def saturation(self) -> float:
        """Reports a second that came out."""
        times = sorted(self.reported.values())
        return (len(times) - 1) / (times[-1] - times[0])


def make_studies(folder: Path, count: int) -> list[Path]:
    """Write so many studies of one image each; their pixels are of a few people."""
    folder.mkdir(parents=True)
    left = (ROWS - COLUMNS) // 2
    people = [
        np.ascontiguousarray(
            phantom.chest(40 + 10 * seed, "FM"[seed % 2], seed, size=ROWS)[:, left : ROWS - left]
        )
        for seed in range(3)
    ]
    paths = []
    for number in range(count):
        sex, age = "FM"[number % 3 % 2], 40 + 10 * (number % 3)
        ds = radiograph(
            people[number % 3],
            study=f"end-to-end-{number}",
            PatientAge=f"{age:03}Y",
            PatientSex=sex,
            StudyInstanceUID=generate_uid(),
            SeriesInstanceUID=generate_uid(),
            SOPInstanceUID=generate_uid(),
        )
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        paths.append(folder / f"{number:04}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
    return paths


def send(path: Path, port: int, run: Run) -> None:
    """Send one study, and note when its last acknowledgement was there."""
    command = [tool("storescu"), "--max-pdu", PDU, "-aec", "DICOMAINODE", "127.0.0.1", str(port)]
    done = subprocess.run([*command, str(path)], capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"storescu failed: {done.stderr.decode()[-500:]}")
    uid = str(dcmread(path, specific_tags=["StudyInstanceUID"]).StudyInstanceUID)
    run.acknowledged[uid] = time.time()


def drive(node: Node, paths: Sequence[Path], reports: Path, rate: float | None) -> Run:
    """Send ``paths``, so many a second or all at once, and wait for a report of each."""
    run = Run()
    watch = Watch(node)
    before = {*reports.iterdir()}
    began = time.monotonic()

    def one(number: int) -> None:
        if rate is not None:
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
        send(paths[number], node.port, run)

    try:
        with ThreadPoolExecutor(SENDERS if rate is None else len(paths)) as pool:
            list(pool.map(one, range(len(paths))))
        wait_until(
            "reports", lambda: len([*reports.iterdir()]) - len(before) >= len(paths), seconds=300
        )
        time.sleep(1.0)  # storescp may be writing the last one, and the node note that it has it
    finally:
        watch.stop()
    for file in {*reports.iterdir()} - before:
        uid = str(dcmread(file, specific_tags=["StudyInstanceUID"]).StudyInstanceUID)
        run.reported[uid] = file.stat().st_mtime
    run.processor = watch.processor_seconds()
    return run


def parts(node: Node, run: Run) -> list[list[float]]:
    """Return the seconds that each study of a run spent in each of :data:`PARTS`."""
    last = select(instance.c.study_instance_uid, func.max(instance.c.received_at))
    moved = select(transition.c.study_instance_uid, func.max(transition.c.at))
    settled = select(delivery.c.study_instance_uid, func.max(delivery.c.settled_at))
    db = Database(node.config.storage.database)
    try:
        times: list[dict[str, float]] = [
            {row[0]: row[1] for row in db.rows(query.group_by(query.selected_columns[0]))}
            for query in (
                last,
                moved.where(transition.c.to_state == State.ANALYSING),
                moved.where(transition.c.to_state == State.REPORTED),
                settled,
            )
        ]
    finally:
        db.close()
    arrived, claimed, reported, delivered = times
    return [
        [
            claimed[uid] - arrived[uid] - QUIET,
            reported[uid] - claimed[uid],
            delivered[uid] - reported[uid],
        ]
        for uid in run.acknowledged
    ]


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that so large a share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 100) * len(ordered) // 100) - 1)]


def measure(work: Path, studies: int) -> Report:
    """Run the node at saturation and below it."""
    latency = Table(
        "Seconds from the last acknowledgement to the report, beyond the quiet time",
        ["studies come", "a second", "studies", "p50", "p99", "longest"],
    )
    spent = Table("Where the time of a study goes: seconds, p50 / p99", ["studies come", *PARTS])
    processor = Table("Processor milliseconds of each study", ["studies come", *ROLES])
    saturation, median, last = 0.0, 0.0, 0.0
    with (
        storescp(work / "reports") as (port, _),
        Node(work / "node", destinations={"pacs": ("PACS", port)}, quiet_seconds=QUIET) as node,
    ):
        time.sleep(SETTLE)
        for name, share in SHARES.items():
            paths = make_studies(work / name, studies)
            run = drive(node, paths, work / "reports", saturation * share if share else None)
            shutil.rmtree(work / name)
            saturation = saturation or run.saturation
            median, last, longest = (quantile(run.latencies, at) for at in (0.5, 0.99, 1.0))
            rate = saturation * share if share else saturation
            latency.rows.append([name, rate, studies, median, last, longest])
            columns = [*zip(*parts(node, run), strict=True)]
            both = [f"{quantile(one, 0.5):.2f} / {quantile(one, 0.99):.2f}" for one in columns]
            spent.rows.append([name, *both])
            each = [1000 * run.processor.get(role, 0.0) / studies for role in ROLES]
            processor.rows.append([name, *each])
    notes = [
        f"{words} at half of saturation: {value:.2f} s, mark under {mark:g} s:"
        f" {'met' if value < mark else 'missed'}"
        for words, value, mark in (("p50", median, P50), ("p99", last, P99))
    ]
    return Report("end_to_end", QUESTION, [latency, spent, processor], notes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_options(parser)
    parser.add_argument("--studies", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-end-") as name:
        rate = disk_rate(Path(name))
        report = measure(Path(name), 8 if options.quick else options.studies)
    report.notes.append(f"the disk took {rate:.0f} MB/s of zeros in one file before it")
    publish(report, options)


if __name__ == "__main__":
    main()
