"""What a step of the queue costs with 10^3, 10^5 and 10^6 studies done, on SQLite and PostgreSQL.

    python -m benchmarks.queue [--quick] [--repeats 5]

The times are those of the functions that the node itself calls, commit and fsync included, with
the database files on the disk of the temporary folder. The databases of the three sizes take turns
within each repeat, so that other work on the machine hits all of them.
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from benchmarks.history import CR, MODEL, NOW, RESULT, ROOT, SR, fill
from benchmarks.report import Report, Table, add_options, publish
from dicom_ai_node.answers import ImageRef, Outcome
from dicom_ai_node.config import Config, parse_config
from dicom_ai_node.config.stages import StudySettings
from dicom_ai_node.monitor.observation import Observation, ObservedHead, Role
from dicom_ai_node.ops.health import Prober, readiness
from dicom_ai_node.ops.machine import bounds_of
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database, deliveries, queries, retention, study_queue
from dicom_ai_node.store.clock import count_ahead
from dicom_ai_node.store.instances import StoredInstance, record
from dicom_ai_node.store.patients import StudyHeader
from dicom_ai_node.store.reports import NewReport, StoredFile
from dicom_ai_node.store.results import NewAnalysis, finish
from dicom_ai_node.store.study_queue import ClaimedStudy
from dicom_ai_node.study import State
from dicom_ai_node.web.metrics import NodeCollector
from tests.builders.postgres import find_server, fresh_database, running_server

SIZES = (1_000, 100_000, 1_000_000)
QUICK = (1_000, 10_000)
WORKERS = {"SQLite": 2, "PostgreSQL": 2}
MARKS = {"SQLite": 300, "PostgreSQL": 1000}
MOST = 1.3
"""How many times slower a step may be in the fullest database than in the emptiest."""
_BATCH = 16
_PATIENCE = 120.0
_MARKED = (
    "file an image",
    "claim a study",
    "claim and finish",
    "newest 100",
    "newest failed",
    "newest 100 flagged",
)
_SETTINGS = StudySettings(quiet_seconds=1, max_wait_seconds=1)
_numbers = count(int(time.time() * 1000) % 10_000_000_000)


@dataclass
class Node:
    """A database with a history, and the node that it is of."""

    size: int
    config: Config
    db: Database
    rates: list[float] = field(default_factory=list)
    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


def new_image(uid: str) -> StoredInstance:
    return StoredInstance(
        ImageRef(CR, f"{uid}.1", f"{uid}.9"),
        "1.2.840.10008.1.2.1",
        f"instances/ab/{uid}.dcm",
        uid.rpartition(".")[2] * 4,
        10_000_000,
        calling_ae="MODALITY",
        association="receive-1",
    )


def file_image(node: Node) -> None:
    uid = f"{ROOT}{next(_numbers) % 11}.{next(_numbers)}"
    record(
        node.db, new_image(uid), study_instance_uid=uid, analysable=True, settings=_SETTINGS,
        now=NOW,
    )  # fmt: skip


def claim(node: Node, limit: int = 1, owner: str = "benchmark") -> list[ClaimedStudy]:
    return study_queue.claim(
        node.db, owner=owner, now=NOW + 9, lease_seconds=600, limit=limit, max_attempts=3
    )


def answer(study_uid: str) -> NewAnalysis:
    """One report in its three SOP classes, and one observation."""
    head = ObservedHead("quantity", "PatientAge", unit="a", answer={"mu": 61.0})
    seen = Observation(
        study_uid, MODEL, Role.LIVE, Outcome.ESTIMATED, manufacturer="ACME", model_name="DX",
        station="ROOM1", software="1", view="PA", reason_code="", gate="",
        recorded={"PatientAge": 61.0}, heads={"age": head},
    )  # fmt: skip
    files = tuple(StoredFile(SR, f"{study_uid}.7.{n}", f"reports/{n}") for n in range(3))
    return NewAnalysis(
        study_uid[-64:],
        RESULT,
        True,
        (NewReport("sr", files),),
        observations=(seen,),
        inferred=True,
    )


def finish_one(db: Database, claimed: ClaimedStudy) -> None:
    header = StudyHeader(claimed.study_uid, "20300101", "M", "19690101", 61.0)
    done = finish(
        db, claimed, answer(claimed.study_uid), header=header,
        destinations={"pacs": frozenset({"sr"})}, reason=None, now=NOW + 10,
    )  # fmt: skip
    assert done


def send(node: Node) -> None:
    """Deliver what is queued, as far as one batch goes."""
    for found in deliveries.claim(
        node.db, "pacs", owner="benchmark", now=NOW + 11, lease_seconds=600, limit=20
    ):
        assert deliveries.delivered(node.db, found, found.files[0], status=0, now=NOW + 11)


def claim_and_finish(node: Node) -> None:
    for claimed in claim(node):
        finish_one(node.db, claimed)


def retain(node: Node) -> None:
    """Look for everything that retention removes; nothing is due."""
    images, reports, rows = (NOW - days * 86400 for days in (7, 90, 1095))
    gone: Any = {"limit": 50, "remove": str.isspace}  # of no file
    retention.drop_expired(node.db, before=images, now=NOW, **gone)
    retention.drop_sent(node.db, before=images, **gone)
    retention.drop_reports(node.db, before=reports, **gone)
    retention.forget_studies(node.db, before=rows, now=NOW, limit=50)


def scrape(node: Node) -> None:
    registry = CollectorRegistry()
    prober = Prober(lambda begin: readiness(node.config, node.db, begin=begin))
    registry.register(NodeCollector(node.config, node.db, prober))
    generate_latest(registry)


STEPS: dict[str, tuple[Callable[[Node], Any], int]] = {
    "file an image": (file_image, 60),
    "claim a study": (claim, 20),
    "claim and finish": (claim_and_finish, 40),
    "send 20 reports": (send, 2),
    "newest 100": (lambda node: queries.find(node.db, limit=100), 5),
    "newest failed": (lambda node: queries.find(node.db, states=[State.FAILED], limit=1), 5),
    "newest 100 flagged": (lambda node: queries.find(node.db, flagged=True, limit=100), 5),
    "depth of the queues": (lambda node: queries.overview(node.db, now=NOW), 5),
    "times ahead": (lambda node: count_ahead(node.db, bounds_of(node.config), now=NOW), 5),
    "status": (lambda node: readiness(node.config, node.db, now=NOW), 3),
    "scrape of the metrics": (scrape, 3),
    "retention, nothing due": (retain, 3),
}
"""What is timed, and how often in a repeat. What comes first fills the queue for the next."""


def measure(nodes: list[Node], repeats: int) -> None:
    for repeat in range(repeats + 1):
        for name, (step, times) in STEPS.items():
            for node in nodes:
                for _ in range(times):
                    started = time.perf_counter()
                    step(node)
                    took = (time.perf_counter() - started) * 1000
                    if repeat:  # the first is to warm up
                        node.times[name].append(took)
                if name == "file an image":
                    study_queue.close_due(node.db, now=NOW + 8, settings=_SETTINGS)


def _work(url: str, begin: Any, done: Any) -> None:
    """Be one analyser: claim in batches, finish one by one, until there is nothing left."""
    db = Database(url)
    node = Node(0, parse_config({}), db)
    owner, finished = f"worker-{os.getpid()}", 0
    queries.overview(db, now=NOW)  # opens the connection
    begin.wait(_PATIENCE)
    while batch := claim(node, _BATCH, owner):
        for claimed in batch:
            finish_one(db, claimed)
        finished += len(batch)
    done.put(finished)
    db.close()


def rate(node: Node, studies: int, workers: int) -> float:
    """Return how many studies a second several analysers claim and finish."""
    for _ in range(studies):
        file_image(node)
    study_queue.close_due(node.db, now=NOW + 8, settings=_SETTINGS)
    context = multiprocessing.get_context("spawn")
    begin, done = context.Barrier(workers + 1), context.Queue()
    url = node.db.url.render_as_string(hide_password=False)
    processes = [context.Process(target=_work, args=(url, begin, done)) for _ in range(workers)]
    for process in processes:
        process.start()
    begin.wait(_PATIENCE)
    started = time.perf_counter()
    finished: int = sum(done.get(timeout=_PATIENCE) for _ in processes)
    took = time.perf_counter() - started
    for process in processes:
        process.join()
    return finished / took


@contextmanager
def databases(engine: str, sizes: tuple[int, ...], folder: Path) -> Iterator[list[Node]]:
    """Make one database of each size, still empty."""
    with ExitStack() as stack:
        nodes = []
        server = find_server()
        if engine == "PostgreSQL":
            assert server is not None
            url = stack.enter_context(running_server(server, durable=True))
        for size in sizes:
            if engine == "PostgreSQL":
                db = stack.enter_context(fresh_database(url))
            else:
                db = Database(f"sqlite:///{folder / f'{size}.db'}")
                db.upgrade()
                stack.callback(db.close)
            place = db.url.render_as_string(hide_password=False)
            spool = folder / f"{engine}-{size}"
            config = parse_config({"storage": {"spool": str(spool), "database": place}})
            Spool(config.storage.spool).create()
            nodes.append(Node(size, config, db))
        yield nodes


def table_of(engine: str, nodes: list[Node]) -> Table:
    last, first = nodes[-1], nodes[0]
    columns = ["ms, median", *(f"{node.size:,} done" for node in nodes), "ratio"]
    table = Table(f"{engine}: one step", columns)
    for name in STEPS:
        medians = [statistics.median(node.times[name]) for node in nodes]
        table.rows.append([name, *medians, medians[-1] / medians[0]])
    rates = [node.rates[0] if node.rates else None for node in nodes]
    slowdown = first.rates[0] / last.rates[0]
    title = f"claimed and finished a second, {WORKERS[engine]} analysers"
    table.rows.append([title, *rates, slowdown])
    return table


def notes_of(engine: str, table: Table) -> list[str]:
    ratios = {str(row[0]): float(row[-1] or 0) for row in table.rows}
    slower = [f"{name} {ratios[name]:.2f}" for name in _MARKED if ratios[name] > MOST]
    kept = "met" if not slower else f"missed by {', '.join(slower)}"
    reached = float(table.rows[-1][-2] or 0)
    verdict = "met" if reached >= MARKS[engine] else "missed"
    return [
        f"{engine}: claim, filing and lists at most {MOST} times slower in the fullest: {kept}.",
        f"{engine}: claim and finish at least {MARKS[engine]} studies/s in the fullest: {verdict}"
        f" ({reached:.0f}).",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--engine", choices=[*WORKERS], action="append")
    add_options(parser)
    options = parser.parse_args()
    sizes = QUICK if options.quick else SIZES
    report = Report("queue", " ".join((__doc__ or "").split("\n\n")[-1].split()))
    engines = list(options.engine or WORKERS)
    if find_server() is None and "PostgreSQL" in engines:
        engines.remove("PostgreSQL")
        report.notes.append("PostgreSQL is not installed: not measured.")
    with tempfile.TemporaryDirectory(prefix="queue-") as folder, ExitStack() as stack:
        made = {
            engine: stack.enter_context(databases(engine, sizes, Path(folder)))
            for engine in engines
        }
        largest_first = sorted(
            (node for nodes in made.values() for node in nodes), key=lambda node: -node.size
        )
        with ThreadPoolExecutor(len(engines)) as pool:
            list(pool.map(lambda node: fill(node.db, node.size), largest_first))
        for engine, nodes in made.items():
            measure(nodes, options.repeats)
            for node in (nodes[0], nodes[-1]):
                studies = 200 if options.quick else 1500
                node.rates.append(rate(node, studies, WORKERS[engine]))
            table = table_of(engine, nodes)
            report.tables.append(table)
            report.notes += notes_of(engine, table)
    publish(report, options)


if __name__ == "__main__":
    main()
