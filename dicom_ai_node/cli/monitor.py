"""The network on the site's own studies: ``monitor``, ``monitor resume``, ``monitor shadow``."""

import time
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from dicom_ai_node.cli.common import (
    AsJson,
    ConfigFile,
    configuration,
    console,
    open_database,
    print_json,
    when,
)
from dicom_ai_node.cli.tables import WIDE
from dicom_ai_node.cli.who import account, person, signed
from dicom_ai_node.config import Config
from dicom_ai_node.monitor.charts import Point
from dicom_ai_node.monitor.figures import Figure, Summary, tabulate
from dicom_ai_node.monitor.observation import Role, week_name
from dicom_ai_node.monitor.tally import PLAIN
from dicom_ai_node.ops.drift import Charts, draw
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

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
_WEEK = 7 * 86400.0


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


Who = Annotated[str, typer.Option(help="Who decides.")]
Why = Annotated[str, typer.Option(help="Why.")]


def _open(path: Path | None) -> tuple[Config, Database]:
    config = configuration(path)
    return config, open_database(config)


@app.callback(invoke_without_command=True)
def monitor(
    context: typer.Context,
    by: Annotated[By, typer.Option(help="One line for each.")] = By.ALL,
    weeks: Annotated[int, typer.Option(min=1, help="Studies of so many weeks.")] = 12,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show error, coverage, sex accuracy and gate refusals against trusted headers, and drift.

    Intervals are 95 % ones; a patient counts once a week. The last weeks need not be over; a chart
    has points of whole weeks only.

    Example: dicom-ai-node monitor --by station --weeks 12
    """
    if context.invoked_subcommand is not None:
        return
    settings, db = _open(config)
    now = time.time()
    charts = draw(db, settings.monitor, now=now)
    observations = load_observations(
        db, since=now - weeks * _WEEK, model_sha256=charts.model_sha256, role=Role.LIVE
    )
    groups = tabulate(observations, by=by)
    flags = open_flags(db, charts.model_sha256)
    if as_json:
        print_json(
            {
                "model_sha256": charts.model_sha256 or None,
                "mode": mode(db),
                "by": by,
                "weeks": weeks,
                "groups": [asdict(group) for group in groups],
                "drift": _drift(charts, flags),
                "switches": [asdict(one) | {"at": when(one.at)} for one in switches(db)],
            }
        )
        return
    _print_groups(by, groups)
    for line in _words(charts, flags, settings):
        console.print(line)
    _print_switches(switches(db), mode(db))


@app.command()
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
) -> None:
    """Accept how things are: close the flags, and send what the network says again.

    Studies withheld meanwhile stay so until 'requeue --withheld'. The decision is kept for good.

    Example: dicom-ai-node monitor resume --by "A. Person" --reason "detector 2 was replaced"
    """
    _switch(config, Mode.LIVE, by, reason, new_reference=new_reference)


@app.command()
def shadow(by: Who, reason: Why, config: ConfigFile = None) -> None:
    """Keep what the network says and send none of it, until 'monitor resume'.

    Example: dicom-ai-node monitor shadow --by "A. Person" --reason "first weeks of a new bundle"
    """
    _switch(config, Mode.SHADOW, by, reason)


def _switch(
    path: Path | None, wanted: Mode, by: str, reason: str, *, new_reference: bool = False
) -> None:
    for name, text in (("--by", by), ("--reason", reason)):
        if not text.strip():
            raise typer.BadParameter("must not be empty", param_hint=name)
    _, db = _open(path)
    switch(
        db,
        wanted,
        actor=person(by),
        account=account(),
        reason=reason.strip(),
        now=time.time(),
        new_reference=new_reference,
    )
    console.print(f"the model is {_MODES[wanted]}")


_MODES = {
    Mode.LIVE: "live: reports are sent",
    Mode.SHADOW: "in shadow mode: what the network took part in is kept and not sent",
}


def _print_groups(by: By, groups: list[Summary]) -> None:
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
    console.print(table)


def _years(figure: Figure) -> str:
    return _text(figure, lambda value: f"{value:.1f}")


def _percent(figure: Figure) -> str:
    return _text(figure, lambda value: f"{100 * value:.1f}")


def _text(figure: Figure, form: Any) -> str:
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


def _print_switches(decisions: list[Switch], now: Mode) -> None:
    console.print(f"the model is {_MODES[now]}")
    for one in decisions:
        console.print(
            f"  {when(one.at)} {one.mode} by {signed(one.actor, one.account)}: {one.reason}"
        )


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
        "flags": [asdict(flag) | {"found_at": when(flag.found_at)} for flag in flags],
    }


def _point(point: Point) -> dict[str, Any]:
    weeks = {"begin": week_name(point.begin), "end": week_name(point.end)}
    return asdict(point) | weeks | {"flagged": point.flagged}
