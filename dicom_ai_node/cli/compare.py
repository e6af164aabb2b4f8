"""``model compare``: the live bundle and the one in its shadow on the site's trusted headers."""

import time
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from dicom_ai_node.cli.common import (
    AsJson,
    ConfigFile,
    ExitCode,
    configuration,
    console,
    open_database,
    print_json,
)
from dicom_ai_node.monitor.compare import Difference, verdict
from dicom_ai_node.monitor.compare import compare as differences
from dicom_ai_node.monitor.observation import Role
from dicom_ai_node.store.monitor import load_observations, newest_bundle

_WEEK = 7 * 86400.0


def compare(
    weeks: Annotated[int, typer.Option(min=1, help="Studies of so many weeks.")] = 12,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Say which bundle did better on the site's own trusted headers: the live one or the shadow.

    Differences are paired, shadow minus live, with 95 % intervals; a patient counts once a week.
    Exit code 1 when there is nothing to compare.

    Example: dicom-ai-node model compare --weeks 8
    """
    settings = configuration(config)
    db = open_database(settings)
    bundles = {role: newest_bundle(db, role) for role in Role}
    since = time.time() - weeks * _WEEK
    # By bundle, not by role: one of them may have changed places meanwhile.
    live, shadow = (
        load_observations(db, since=since, model_sha256=bundles[role]) if bundles[role] else []
        for role in (Role.LIVE, Role.SHADOW)
    )
    found = differences(live, shadow)
    if as_json:
        print_json(
            {
                "live": bundles[Role.LIVE] or None,
                "shadow": bundles[Role.SHADOW] or None,
                "weeks": weeks,
                "differences": [asdict(one) for one in found],
                "verdict": verdict(found),
            }
        )
    else:
        _print(found)
        console.print(verdict(found))
        if not found and not settings.model.shadow:
            console.print("[model] shadow names no second bundle", style="yellow")
    if not found:
        raise typer.Exit(ExitCode.NO)


def _print(found: list[Difference]) -> None:
    table = Table("", "Studies", "Live", "Shadow", "Difference (95 % interval)", box=None)
    for one in found:
        interval = "" if one.low is None else f" ({one.low:+.3f} to {one.high:+.3f})"
        table.add_row(
            one.quantity,
            str(one.n),
            f"{one.live:.3f}",
            f"{one.shadow:.3f}",
            f"{one.difference:+.3f}{interval}",
        )
    if found:
        console.print(table)
