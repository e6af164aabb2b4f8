"""The network on the site's own studies: ``monitor``, ``monitor resume``, ``monitor shadow``."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from dicom_ai_node.cli.commands import MARKUP, ConfigFile, Weeks, printed
from dicom_ai_node.cli.common import account, configuration, open_database, person, signed
from dicom_ai_node.cli.printing import WIDE, Block, Output, when, with_times
from dicom_ai_node.config import Config
from dicom_ai_node.monitor.charts import PLAIN, Point
from dicom_ai_node.monitor.figures import MonitorFigure, Summary, tabulate
from dicom_ai_node.monitor.observation import Role, week_name
from dicom_ai_node.ops.drift import Charts, draw
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
Who = Annotated[str, typer.Option(help="Who decides.")]
Why = Annotated[str, typer.Option(help="Why.")]
_MODES = {
    Mode.LIVE: "live: reports are sent",
    Mode.SHADOW: "in shadow mode: what the network took part in is kept and not sent",
}


class By(StrEnum):
    """The keys of :data:`dicom_ai_node.monitor.figures.GROUPS`."""

    ALL = "all"
    STATION = "station"
    MANUFACTURER = "manufacturer"
    MODEL = "model"
    SOFTWARE = "software"
    VIEW = "view"
    SEX = "sex"
    AGE = "age"
    WEEK = "week"


def figures(
    context: typer.Context,
    by: Annotated[By, typer.Option(help="One line for each.")] = By.ALL,
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
    groups = tabulate(observations, by=by)
    flags, decisions = open_flags(db, charts.model_sha256), switches(db)
    record = {
        "model_sha256": charts.model_sha256 or None,
        "mode": mode(db),
        "by": by,
        "weeks": weeks,
        "groups": [asdict(group) for group in groups],
        "drift": _drift(charts, flags),
        "switches": [with_times(decision) for decision in decisions],
    }
    blocks = [
        _table(by, groups),
        *_words(charts, flags, settings),
        *_switches(decisions, mode(db)),
    ]
    return Output([record], blocks=blocks)


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


monitor = typer.Typer(add_completion=False, rich_markup_mode=MARKUP)
monitor.callback(invoke_without_command=True)(printed(figures))
monitor.command("resume")(printed(resume))
monitor.command("shadow")(printed(shadow))


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


def _table(by: By, groups: Sequence[Summary]) -> Table:
    columns = (
        "Studies",
        "MAE, years",
        "Bias, years",
        "Coverage of 90 %",
        "Sex right, %",
        "Refused, %",
    )
    name = by.value.capitalize()
    table = Table(name, *columns, box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for group in groups:
        figures = (
            _years(group.mae),
            _years(group.bias),
            _percent(group.coverage),
            _percent(group.sex_accuracy),
            _percent(group.refused),
        )
        table.add_row(group.group, str(group.n), *map(Text, figures))
    return table


def _years(figure: MonitorFigure) -> str:
    return _text(figure, lambda value: f"{value:.1f}")


def _percent(figure: MonitorFigure) -> str:
    return _text(figure, lambda value: f"{100 * value:.1f}")


def _text(figure: MonitorFigure, form: Any) -> str:
    if figure.value is None:
        return "-"
    if figure.low is None or figure.high is None:
        return f"{form(figure.value)} (n {figure.n})"
    between = f"{form(figure.low)} to {form(figure.high)}"
    if console.width >= WIDE:
        return f"{form(figure.value)} ({between}; n {figure.n})"
    return f"{form(figure.value)}\n{between}\nn {figure.n}"


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
        drawn = sorted({PLAIN[point.quantity] for point in charts.points})
        watched = f"; watched: {'; '.join(drawn)}" if drawn else ""
        return [f"drift: none in {points} points since the reference weeks{watched}"]
    rate = f"; where nothing changes there is a flag once in {settings.false_alarm_weeks:g} points:"
    return [Text.assemble(("drift", "bold red"), rate), *(f"  {flag.text}" for flag in flags)]


def _switches(decisions: Sequence[Switch], now: Mode) -> Iterator[Block]:
    yield f"the model is {_MODES[now]}"
    for decision in decisions:
        who = signed(decision.actor, decision.account)
        yield f"  {when(decision.at)} {decision.mode} by {who}: {decision.reason}"


def _drift(charts: Charts, flags: list[Flag]) -> dict[str, Any]:
    reference = charts.reference
    return {
        "reference": None
        if reference is None
        else {
            "begin": week_name(reference.begin),
            "end": week_name(reference.end),
            **reference.tally.to_json(),
        },
        "points": [_point(point) for point in charts.points],
        "flags": [with_times(flag) for flag in flags],
    }


def _point(point: Point) -> dict[str, Any]:
    weeks = {"begin": week_name(point.begin), "end": week_name(point.end)}
    return asdict(point) | weeks | {"flagged": point.flagged}
