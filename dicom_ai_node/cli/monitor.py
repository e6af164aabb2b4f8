"""The network on the site's own studies: ``monitor``, ``monitor resume``, ``monitor shadow``."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table
from rich.text import Text

from dicom_ai_node.cli.commands import ConfigFile, Weeks
from dicom_ai_node.cli.common import account, configuration, open_database, person, signed
from dicom_ai_node.cli.printing import WIDE, Block, Output, when, with_times
from dicom_ai_node.config import Config
from dicom_ai_node.monitor.charts import Point, Reference
from dicom_ai_node.monitor.figures import MonitorFigure, Summary, tabulate
from dicom_ai_node.monitor.measures import Measure
from dicom_ai_node.monitor.observation import Role, week_name
from dicom_ai_node.ops.drift import Charts, draw, draw_further
from dicom_ai_node.store import Database
from dicom_ai_node.store.monitor import (
    Flag,
    Mode,
    Switch,
    load_observations,
    mode,
    open_flags,
    switch,
    switches,
)
from dicom_ai_node.terminal import console

_WEEK = 7 * 86400.0
_MOST_COLUMNS = 7
"""Measures that have a column each."""
Who = Annotated[str, typer.Option(help="Who decides.")]
Why = Annotated[str, typer.Option(help="Why.")]
_MODES = {
    Mode.LIVE: "live: reports are sent",
    Mode.SHADOW: "in shadow mode: what the network took part in is kept and not sent",
}


By = Literal["all", "station", "manufacturer", "model", "software", "view", "age", "sex", "week"]
_OLDER = {
    "mae": {"aged": "n", "absolute": "total"},
    "bias": {"signed": "total", "squared": "squares"},
    "coverage": {"covered": "total"},
    "sex_accuracy": {"sexed": "n", "right": "total"},
    "refused": {"seen": "n", "refused": "total"},
}
"""Sums of age and sex in JSON: they are older than heads, and have names of their own."""


def figures(
    context: typer.Context,
    by: Annotated[By, typer.Option(help="One line for each.")] = "all",
    weeks: Weeks = 12,
    config: ConfigFile = None,
) -> Output:
    """Show error, coverage, sex accuracy and gate refusals against trusted headers, and drift.

    Intervals are 95 % ones; a patient counts once a week. The last weeks need not be over; a chart
    has points of whole weeks only.

    Example: dicom-ai-node monitor --by station --weeks 12
    """
    if context.invoked_subcommand is not None:
        return Output()
    settings = configuration(config)
    db, now = open_database(settings), time.time()
    charts = draw(db, settings.monitor, now=now)
    observations = load_observations(
        db, since=now - weeks * _WEEK, model_sha256=charts.model_sha256, role=Role.LIVE
    )
    groups = tabulate(observations, charts.measured, by=by)
    flags, decisions = open_flags(db, charts.model_sha256), switches(db)
    further = list(_further(db, settings, by, since=now - weeks * _WEEK, now=now))
    record = {
        "model_sha256": charts.model_sha256 or None,
        "mode": mode(db),
        "by": by,
        "weeks": weeks,
        "groups": [_group(group) for group in groups],
        "drift": _drift(charts, flags),
        "switches": [with_times(decision) for decision in decisions],
    }
    if further:
        record["further"] = [
            {
                "model_sha256": one.charts.model_sha256,
                "groups": [_group(group) for group in one.groups],
                "drift": _drift(one.charts, one.flags),
            }
            for one in further
        ]
    blocks = [
        *([_table(by, charts.measured, groups)] if charts.model_sha256 else []),
        *_words(charts, flags, settings),
        *_further_blocks(by, further, settings),
        *_switches(decisions, mode(db)),
    ]
    return Output([record], blocks=blocks)


@dataclass(frozen=True, slots=True)
class _Further:
    """What is told of a further bundle."""

    charts: Charts
    groups: list[Summary]
    flags: list[Flag]


def _further(
    db: Database, settings: Config, by: str, *, since: float, now: float
) -> Iterator[_Further]:
    """Yield the further bundles that have observed a study since then, or have a flag."""
    for charts in draw_further(db, settings.monitor, now=now):
        bundle = charts.model_sha256
        observations = load_observations(db, since=since, model_sha256=bundle, role=Role.FURTHER)
        flags = open_flags(db, bundle)
        if observations or flags:
            yield _Further(charts, tabulate(observations, charts.measured, by=by), flags)


def _further_blocks(by: str, further: Sequence[_Further], config: Config) -> Iterator[Block]:
    if not further:
        return
    from dicom_ai_node.config.bundles import reporting_bundles
    from dicom_ai_node.inference.bundle import load_manifest

    known = [load_manifest(path).identity for path in reporting_bundles(config.model)]
    names = {one.sha256: f"{one.name} {one.version}" for one in known}
    for one in further:
        bundle = one.charts.model_sha256
        name = names.get(bundle, f"{bundle[:12]}, no longer configured")
        yield Text(f"further bundle: {name}", style="bold")
        yield _table(by, one.charts.measured, one.groups)
        yield from _words(one.charts, one.flags, config)


def resume(
    by: Who,
    reason: Why,
    new_reference: Annotated[
        bool,
        typer.Option(
            "--new-reference", help="What comes from now on is the new normal: learn it anew."
        ),
    ] = False,
    config: ConfigFile = None,
) -> str:
    """Accept how things are: close the flags, and send what the network says again.

    Studies withheld meanwhile stay so until 'requeue --withheld'. The decision is kept for good.

    Example: dicom-ai-node monitor resume --by "A. Person" --reason "detector 2 was replaced"
    """
    return _switch(config, Mode.LIVE, by, reason, new_reference=new_reference)


def shadow(by: Who, reason: Why, config: ConfigFile = None) -> str:
    """Keep what the network says and send none of it, until 'monitor resume'.

    Example: dicom-ai-node monitor shadow --by "A. Person" --reason "first weeks of a new bundle"
    """
    return _switch(config, Mode.SHADOW, by, reason)


def _switch(
    path: Path | None, wanted: Mode, by: str, reason: str, *, new_reference: bool = False
) -> str:
    for name, text in (("--by", by), ("--reason", reason)):
        if not text.strip():
            raise typer.BadParameter("must not be empty", param_hint=name)
    switch(
        open_database(configuration(path)),
        wanted,
        actor=person(by),
        account=account(),
        reason=reason.strip(),
        now=time.time(),
        new_reference=new_reference,
    )
    return f"the model is {_MODES[wanted]}"


def _table(by: str, measured: Sequence[Measure], groups: Sequence[Summary]) -> Table:
    """Return a line for each group; of more than a few measures a line for each of them, too."""
    if len(measured) > _MOST_COLUMNS:
        return _long_table(by, measured, groups)
    columns = (by.capitalize(), "Studies", *(measure.column for measure in measured))
    table = Table(*columns, box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for group in groups:
        cells = (_text(group.figures[m.name], 100 if m.share else 1) for m in measured)
        table.add_row(group.group, str(group.n), *map(Text, cells))
    return table


def _long_table(by: str, measured: Sequence[Measure], groups: Sequence[Summary]) -> Table:
    columns = (by.capitalize(), "What", "Value", "95 %", "Studies")
    made = Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for group in groups:
        for measure in measured:
            figure, scale = group.figures[measure.name], 100 if measure.share else 1
            value, low, high = (
                "-" if one is None else f"{scale * one:.1f}"
                for one in (figure.value, figure.low, figure.high)
            )
            between = "" if figure.low is None else f"{low} to {high}"
            made.add_row(group.group, measure.column, value, between, str(figure.n))
    return made


def _text(figure: MonitorFigure, scale: float) -> str:
    if figure.value is None:
        return "-"
    value, low, high = (
        "" if one is None else f"{scale * one:.1f}"
        for one in (figure.value, figure.low, figure.high)
    )
    if figure.low is None:
        return f"{value} (n {figure.n})"
    between = f"{low} to {high}"
    if console.width >= WIDE:
        return f"{value} ({between}; n {figure.n})"
    return f"{value}\n{between}\nn {figure.n}"


def _words(charts: Charts, flags: list[Flag], config: Config) -> list[str | Text]:
    """Say what the charts show."""
    if not charts.model_sha256:
        return ["no study has been observed yet"]
    settings = config.monitor
    if charts.reference is None:
        return [
            "drift: not judged yet; the reference is learned from the first"
            f" {settings.reference_weeks} weeks and at least {4 * settings.min_studies} studies"
        ]
    if not flags:
        points = len({point.end for point in charts.points})
        drawn = sorted({point.measure.words for point in charts.points})
        watched = f"; watched: {'; '.join(drawn)}" if drawn else ""
        return [f"drift: none in {points} points since the reference weeks{watched}"]
    rate = f"; where nothing changes there is a flag once in {settings.false_alarm_weeks:g} points:"
    return [Text.assemble(("drift", "bold red"), rate), *(f"  {flag.text}" for flag in flags)]


def _switches(decisions: Sequence[Switch], now: Mode) -> Iterator[Block]:
    yield f"the model is {_MODES[now]}"
    for decision in decisions:
        who = signed(decision.actor, decision.account)
        yield f"  {when(decision.at)} {decision.mode} by {who}: {decision.reason}"


def _group(group: Summary) -> dict[str, Any]:
    figures = {name: asdict(figure) for name, figure in group.figures.items()}
    return {"group": group.group, "n": group.n, **figures}


def _drift(charts: Charts, flags: list[Flag]) -> dict[str, Any]:
    return {
        "reference": None if charts.reference is None else _reference(charts.reference),
        "points": [_point(point) for point in charts.points],
        "flags": [with_times(flag) for flag in flags],
    }


def _reference(reference: Reference) -> dict[str, Any]:
    written: dict[str, Any] = _weeks(reference)
    for name, sums in reference.tally.items():
        own = asdict(sums)
        older = _OLDER.get(name)
        written |= {name: own} if older is None else {key: own[of] for key, of in older.items()}
    return written


def _point(point: Point) -> dict[str, Any]:
    told = {name: getattr(point, name) for name in ("n", "value", "reference", "low", "high")}
    return {"quantity": point.measure.name, **_weeks(point), **told, "flagged": point.flagged}


def _weeks(of: Reference | Point) -> dict[str, str]:
    return {"begin": week_name(of.begin), "end": week_name(of.end)}
