"""What Prometheus reads: made from the database at each scrape, so that restarts lose nothing.

Labels are states, roles, and names from the configuration; never a UID, a name or an address.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from dicom_ai_node.config import Config
from dicom_ai_node.errors import StorageError
from dicom_ai_node.monitor.measures import Measure, measures
from dicom_ai_node.monitor.observation import Role
from dicom_ai_node.ops.health import Prober, Readiness
from dicom_ai_node.ops.machine import bounds_of, room
from dicom_ai_node.ops.role import heard_of, places
from dicom_ai_node.store import Database
from dicom_ai_node.store.clock import count_ahead
from dicom_ai_node.store.fills import count_stuck
from dicom_ai_node.store.monitor import Flag, Mode, mode, newest_bundle, open_flags
from dicom_ai_node.store.node import ClockJumps, FileCounts, clock_jumps, file_counts
from dicom_ai_node.store.queries import Overview, newest_model, overview
from dicom_ai_node.study import DeliveryState

_PREFIX = "dicom_ai_node"


class NodeCollector(Collector):
    """Collects the metrics of one node."""

    def __init__(self, config: Config, db: Database, prober: Prober) -> None:
        self._config = config
        self._db = db
        self._prober = prober

    def describe(self) -> Iterable[Metric]:
        """Name nothing in advance: registering must not ask the database."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield every metric; without a database, what is known without it."""
        now = time.time()
        yield from self._about_the_machine()
        found = self._prober.readiness()
        yield from _about_health(found)
        try:
            if found.stuck:
                raise StorageError("the checks do not end")
            seen = overview(self._db, now=now)
            fresh = heard_of(self._db, now=now)
            model = newest_model(self._db)
            bundle, heads = newest_bundle(self._db, Role.LIVE)
            flags = open_flags(self._db, bundle)
            shadow = mode(self._db) is Mode.SHADOW
            stuck = count_stuck(self._db)
            ahead = count_ahead(self._db, bounds_of(self._config), now=now)
            jumps = clock_jumps(self._db)
            files = file_counts(self._db)
        except StorageError:
            yield _gauge("database_up", "Whether the database answers", 0)
            return
        yield _gauge("database_up", "Whether the database answers", 1)
        yield self._roles(fresh)
        yield from _about_studies(seen, now)
        yield from self._about_deliveries(seen, now)
        yield from _totals(seen)
        yield from _about_the_clock(ahead, jumps)
        yield from _about_files(files)
        yield _drift(measures(heads), flags)
        yield _gauge("stuck_fills", "Studies whose accepted proposals were not applied", stuck)
        yield _gauge("shadow_mode", "Whether reports of the network are withheld", float(shadow))
        if model:
            yield InfoMetricFamily(
                f"{_PREFIX}_model", "The network that answered last", dict(model)
            )

    def _about_the_machine(self) -> Iterator[Metric]:
        yield InfoMetricFamily(f"{_PREFIX}_build", "This program", {"version": _version()})
        for name, path in (("spool", self._config.storage.spool), ("database", self._db.file)):
            with suppress(OSError):
                if path is not None:
                    text = f"Free space of the {name}'s file system"
                    yield _gauge(f"{name}_free_bytes", text, room(path).free)

    def _roles(self, fresh: set[str]) -> Metric:
        up = _labelled("role_up", "Whether a process gave a sign of life lately", "worker", "role")
        for place in places(self._config):
            up.add_metric([place.worker, place.role], float(place.worker in fresh))
        return up

    def _about_deliveries(self, seen: Overview, now: float) -> Iterator[Metric]:
        # Also those that are no longer configured and still have deliveries waiting.
        names = sorted({*self._config.destinations, *(name for name, _ in seen.deliveries)})
        count = _labelled("deliveries", "Reports by destination", "destination", "state")
        oldest = _labelled("oldest_delivery_seconds", "Age of the oldest unsent", "destination")
        failures = _labelled("destination_failures", "Failures in a row", "destination")
        for name in names:
            for state in DeliveryState:
                count.add_metric([name, state], seen.deliveries.get((name, state), 0))
            oldest.add_metric([name], max(0.0, now - seen.oldest_delivery.get(name, now)))
            failures.add_metric([name], seen.failures.get(name, 0))
        yield from (count, oldest, failures)


def _about_health(found: Readiness) -> Iterator[Metric]:
    yield _gauge("ready", "Whether every check of /health/ready passes", float(found.ready))
    check = _labelled("check", "Whether a check of /health/ready passes", "check")
    for made in found.checks:
        check.add_metric([made.name], float(made.ok))
    yield check


def _about_studies(seen: Overview, now: float) -> Iterator[Metric]:
    count = _labelled("studies", "Studies by state", "state")
    for state, number in seen.studies.items():
        count.add_metric([state], number)
    oldest = _labelled("oldest_study_seconds", "Age of the oldest open study", "state")
    for state, at in seen.oldest_study.items():
        oldest.add_metric([state], max(0.0, now - at))
    yield from (count, oldest)


def _about_files(files: FileCounts) -> Iterator[Metric]:
    text = "Files without a row that were filed again"
    yield CounterMetricFamily(f"{_PREFIX}_files_registered", text, value=files.registered)
    text = "Files without a row that were damaged and put into quarantine"
    yield CounterMetricFamily(f"{_PREFIX}_files_damaged", text, value=files.damaged)
    yield _gauge("files_missing", "Rows whose file is not in the spool", files.missing)
    yield _gauge("files_without_row", "Files too young to be filed again", files.waiting)


def _about_the_clock(ahead: int, jumps: ClockJumps) -> Iterator[Metric]:
    yield _gauge("times_ahead", "Times in the database that lie ahead of the clock", ahead)
    text = "How often the clock was set while the node ran"
    yield CounterMetricFamily(f"{_PREFIX}_clock_jumps", text, value=jumps.count)
    yield _gauge("clock_jump_seconds", "By how much it was set last", jumps.seconds)


def _totals(seen: Overview) -> Iterator[Metric]:
    totals = {
        "instances": ("Instances filed", seen.instances),
        "instances_dropped": ("Files removed by retention", seen.dropped),
        "quarantined": ("Received files that could not be filed", seen.quarantined),
        "reports": ("Reports made", seen.reports),
        "invalid_reports": ("Reports that failed their own check", seen.invalid_reports),
    }
    for name, (text, number) in totals.items():
        yield CounterMetricFamily(f"{_PREFIX}_{name}", text, value=number)
    yield _gauge("associations", "Peers connected now", seen.associations)
    yield _gauge("forwards_waiting", "Images not yet queued to be forwarded", seen.forwards_waiting)


def _drift(measured: Sequence[Measure], flags: Sequence[Flag]) -> Metric:
    drift = _labelled("drift", "Whether a control chart has a flag nobody accepted", "quantity")
    raised = {flag.quantity for flag in flags}
    for measure in measured:
        drift.add_metric([measure.name], float(measure.name in raised))
    return drift


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", text, value=value)


def _labelled(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", text, labels=labels)


def _version() -> str:
    try:
        return version("dicom-ai-node")
    except PackageNotFoundError:
        return "unknown"
