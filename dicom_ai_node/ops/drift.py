"""Draws the control charts from what the database holds, and acts on them."""

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from dicom_ai_node.config.stages import MonitorSettings
from dicom_ai_node.monitor.charts import Point, Reference, chart, learn, weekly
from dicom_ai_node.monitor.measures import REFUSED, Measure, measures
from dicom_ai_node.monitor.observation import ObservedHead, Role, week_begin
from dicom_ai_node.store import Database
from dicom_ai_node.store.monitor import (
    Mode,
    accepted_at,
    further_bundles,
    learning_since,
    load_observations,
    newest_bundle,
    open_flags,
    raise_flags,
    reference_of,
    set_reference,
    switch,
)

NODE = "node"
"""Who it was when the node switched by itself."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Charts:
    """The control charts of one bundle."""

    model_sha256: str
    """'' before the first observation."""
    measured: tuple[Measure, ...]
    """What the bundle is measured by, a chart each."""
    reference: Reference | None
    """None while it is being learned."""
    points: tuple[Point, ...]
    """Since the reference, and since a person last accepted how things are."""


def draw(db: Database, settings: MonitorSettings, *, now: float) -> Charts:
    """Return the charts of the live bundle as they are; changes nothing."""
    return _drawn(db, settings, *newest_bundle(db, Role.LIVE), now=now)


def draw_further(db: Database, settings: MonitorSettings, *, now: float) -> list[Charts]:
    """Return the charts of each further bundle; each has its own rate of false alarms."""
    found = further_bundles(db).items()
    return [_drawn(db, settings, bundle, heads, now=now) for bundle, heads in found]


def _drawn(
    db: Database,
    settings: MonitorSettings,
    bundle: str,
    heads: Mapping[str, ObservedHead],
    *,
    now: float,
) -> Charts:
    measured = tuple(measures(heads))
    if not bundle:
        return Charts("", measured, None, ())
    reference = reference_of(db, bundle)
    since = learning_since(db) if reference is None else week_begin(reference.end)
    observations = load_observations(db, since=since, model_sha256=bundle)
    if reference is None:
        reference = learn(weekly(observations, measured, since=since, now=now), measured, settings)
    if reference is None:
        return Charts(bundle, measured, None, ())
    weeks = weekly(observations, measured, since=accepted_at(db), now=now)
    return Charts(bundle, measured, reference, tuple(chart(weeks, measured, reference, settings)))


def watch(db: Database, settings: MonitorSettings, *, now: float) -> bool:
    """Keep new references and new flags; return whether they put the model in shadow mode.

    A further bundle's flags do not: its answers stand beside those of the live one, and withholding
    every report for them would cost more than they do.
    """
    for charts in draw_further(db, settings, now=now):
        _keep(db, charts, now=now)
    charts = draw(db, settings, now=now)
    _keep(db, charts, now=now)
    flags = open_flags(db, charts.model_sha256)
    if charts.reference is None or not flags or not settings.shadow_on_drift:
        return False
    reason = "; ".join(flag.text for flag in flags)
    switched = switch(db, Mode.SHADOW, actor=NODE, reason=reason, now=now, unless=Mode.SHADOW)
    if switched:
        log.error("shadow_mode", flags=len(flags))
    return switched


def _keep(db: Database, charts: Charts, *, now: float) -> None:
    if charts.reference is None:
        return
    bundle = charts.model_sha256
    if reference_of(db, bundle) is None:
        set_reference(db, bundle, charts.reference, now=now)
        studies = charts.reference.tally[REFUSED.name].n
        log.info("drift_reference_set", studies=studies, bundle=bundle[:12])
    for point in raise_flags(db, bundle, charts.points, now=now):
        value = round(point.value, 4)
        log.warning("drift_found", quantity=point.measure.name, value=value, bundle=bundle[:12])
