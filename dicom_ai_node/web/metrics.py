"""What Prometheus reads: made from the database at each scrape, so that restarts lose nothing.

Labels are states, roles, and names from the configuration; never a UID, a name or an address.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from dicom_ai_node.config import Config
from dicom_ai_node.errors import StorageError
from dicom_ai_node.monitor.measures import Measure, measures
from dicom_ai_node.monitor.observation import ObservedHead, Role
from dicom_ai_node.ops.health import Prober
from dicom_ai_node.ops.machine import bounds_of, room
from dicom_ai_node.ops.role import heard_of, places
from dicom_ai_node.store import Database
from dicom_ai_node.store.clock import count_ahead
from dicom_ai_node.store.fills import count_stuck
from dicom_ai_node.store.monitor import Flag, Mode, further_bundles, mode, newest_bundle, open_flags
from dicom_ai_node.store.node import clock_jumps, file_counts
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
        yield from self._about_the_machine()
        found = self._prober.readiness()
        yield _gauge("ready", "Whether every check of /health/ready passes", float(found.ready))
        check = _labelled("check", "Whether a check of /health/ready passes", "check")
        for made in found.checks:
            check.add_metric([made.name], float(made.ok))
        yield check
        try:
            if found.stuck:
                raise StorageError("the checks do not end")
            known = list(self._from_the_database(time.time()))
        except StorageError:
            known = []
        yield _gauge("database_up", "Whether the database answers", float(bool(known)))
        yield from known

    def _from_the_database(self, now: float) -> Iterator[Metric]:
        seen = overview(self._db, now=now)
        yield self._roles({*heard_of(self._db, now=now)})
        yield from _about_studies(seen, now)
        yield from self._about_deliveries(seen, now)
        files, jumps = file_counts(self._db), clock_jumps(self._db)
        damaged = "Files without a row that were damaged and put into quarantine"
        for name, text, total in (
            ("instances", "Instances filed", seen.instances),
            ("instances_dropped", "Files removed by retention", seen.dropped),
            ("quarantined", "Received files that could not be filed", seen.quarantined),
            ("reports", "Reports made", seen.reports),
            ("invalid_reports", "Reports that failed their own check", seen.invalid_reports),
            ("files_registered", "Files without a row that were filed again", files.registered),
            ("files_damaged", damaged, files.damaged),
            ("clock_jumps", "How often the clock was set while the node ran", jumps.count),
        ):
            yield CounterMetricFamily(f"{_PREFIX}_{name}", text, value=total)
        ahead = count_ahead(self._db, bounds_of(self._config), now=now)
        stuck, shadow = count_stuck(self._db), mode(self._db) is Mode.SHADOW
        for name, text, value in (
            ("associations", "Peers connected now", seen.associations),
            ("forwards_waiting", "Images not yet queued to be forwarded", seen.forwards_waiting),
            ("files_missing", "Rows whose file is not in the spool", files.missing),
            ("files_without_row", "Files too young to be filed again", files.waiting),
            ("times_ahead", "Times in the database that lie ahead of the clock", ahead),
            ("clock_jump_seconds", "By how much it was set last", jumps.seconds),
            ("stuck_fills", "Studies whose accepted proposals were not applied", stuck),
            ("shadow_mode", "Whether reports of the network are withheld", float(shadow)),
        ):
            yield _gauge(name, text, value)
        bundle, heads = newest_bundle(self._db, Role.LIVE)
        yield _drift(measures(heads), open_flags(self._db, bundle))
        if further := further_bundles(self._db):
            yield _further_drift(self._db, further)
        if model := newest_model(self._db):
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


def _about_studies(seen: Overview, now: float) -> Iterator[Metric]:
    count = _labelled("studies", "Studies by state", "state")
    for state, number in seen.studies.items():
        count.add_metric([state], number)
    oldest = _labelled("oldest_study_seconds", "Age of the oldest open study", "state")
    for state, at in seen.oldest_study.items():
        oldest.add_metric([state], max(0.0, now - at))
    yield from (count, oldest)


def _further_drift(db: Database, bundles: Mapping[str, Mapping[str, ObservedHead]]) -> Metric:
    drift = _labelled(
        "further_drift", "The same of further bundles, by the weights' hash", "bundle", "quantity"
    )
    for bundle, heads in bundles.items():
        raised = {flag.quantity for flag in open_flags(db, bundle)}
        for measure in measures(heads):
            drift.add_metric([bundle[:12], measure.name], float(measure.name in raised))
    return drift


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
