"""What the node knows: ``status``, ``studies``, ``show``, ``requeue``."""

import time
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from dicom_ai_node.cli.common import (
    AsJson,
    ConfigFile,
    ExitCode,
    complain,
    configuration,
    console,
    minute,
    open_database,
    print_json,
    when,
    whole,
)
from dicom_ai_node.errors import ConfigError
from dicom_ai_node.ops import logs
from dicom_ai_node.store import Database, destinations
from dicom_ai_node.store import deliveries as delivery_queue
from dicom_ai_node.store import studies as study_queue
from dicom_ai_node.store.queries import StudyDetail, StudyRow, find
from dicom_ai_node.store.queries import show as find_one
from dicom_ai_node.study import State


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (studies, show, requeue):
        app.command()(command)


def _open(path: Path | None) -> Database:
    return open_database(configuration(path))


def studies(
    config: ConfigFile = None,
    state: Annotated[
        list[State] | None, typer.Option(help="Only these states (may be repeated).")
    ] = None,
    flagged: Annotated[
        bool | None,
        typer.Option("--flagged/--not-flagged", help="Only studies that the rules flagged."),
    ] = None,
    since: Annotated[datetime | None, typer.Option(help="Received at or after.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Received before.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List studies, newest first.

    Example: dicom-ai-node studies --state failed --state undelivered --since 2026-01-31
    """
    rows = find(
        _open(config),
        states=state or (),
        flagged=flagged,
        since=since.timestamp() if since else None,
        until=until.timestamp() if until else None,
        limit=limit,
    )
    if as_json:
        for row in rows:
            print_json(_row(row))
        return
    table = Table(whole("Study"), "State", "Images", "Flagged", "Received", "Reason", box=None)
    for row in rows:
        flag = {None: "", True: "yes", False: "no"}[row.flagged]
        table.add_row(
            row.study_instance_uid,
            row.state,
            str(row.instances),
            flag,
            minute(row.received_at),
            row.reason,
        )
    console.print(table)
    console.print(f"{len(rows)} studies" + (" (more may follow)" if len(rows) == limit else ""))


def show(
    study_uid: Annotated[str, typer.Argument(help="StudyInstanceUID")],
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show one study: state, reason, every transition, the result and each delivery.

    Example: dicom-ai-node show 1.2.840.99999.1.2.3 --json
    """
    settings = configuration(config)
    logs.use_key(settings.log, settings.storage.spool)
    detail = find_one(_open(config), study_uid)
    if detail is None:
        complain(f"no study {study_uid}")
        raise typer.Exit(ExitCode.NO)
    if as_json:
        print_json(_detail(detail) | {"log_id": logs.hashed(study_uid)})
        return
    row = detail.study
    uid = (row.study_instance_uid, "bold")
    console.print(Text.assemble(uid, f"  {row.state}  {row.reason}"))
    console.print(f"in the log: {logs.hashed(study_uid)}")
    _print(
        "Instances",
        detail.instances,
        ("sop_instance_uid", "version", "received_at", "forwarded", "forward_note"),
    )
    _print("History", detail.transitions, ("at", "event", "from_state", "to_state", "reason"))
    _print(
        "Deliveries",
        detail.deliveries,
        ("destination", "kind", "state", "attempts", "settled_at", "error"),
    )
    if detail.result:
        console.print("Result", style="bold")
        console.print_json(data=detail.result)


def requeue(
    study_uid: Annotated[str, typer.Argument(help="StudyInstanceUID")] = "",
    dead: Annotated[bool, typer.Option("--dead", help="All dead letters, of every study.")] = False,
    withheld: Annotated[
        bool, typer.Option("--withheld", help="All studies whose report shadow mode withheld.")
    ] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Analyse a study again, or send dead letters again.

    A study with dead letters has them put back in their queue; any other is analysed again. An
    unchanged result is not sent twice. What shadow mode withheld is analysed again too, and sent
    once the model is live; studies that retention has taken the images of stay as they are.
    Destinations that are waited for are tried at once, and are
    offered the best kind of report again, whatever they accepted before.

    Example: dicom-ai-node requeue --dead
    """
    if bool(study_uid) + dead + withheld != 1:
        raise ConfigError("give either a StudyInstanceUID, --dead or --withheld")
    db, now = _open(config), time.time()
    if withheld:
        count, lost = study_queue.requeue_withheld(db, now=now)
        if as_json:
            print_json({"studies": count, "without_images": lost})
        else:
            console.print(f"{count} studies to be analysed again, {lost} have no images any more")
        return
    count = delivery_queue.requeue_dead(db, study_instance_uid=study_uid or None, now=now)
    destinations.start_over(db)
    state = None
    if study_uid and not count:
        state = study_queue.requeue(db, study_uid, now=now)
        if state is None:
            complain(f"no study {study_uid}")
            raise typer.Exit(ExitCode.NO)
    if as_json:
        print_json({"deliveries": count, "study_state": state})
    elif state:
        console.print(f"{study_uid} is {state}")
    else:
        console.print(f"{count} deliveries back in their queue")


def _row(row: StudyRow) -> dict[str, Any]:
    values = asdict(row)
    reason = {"code": values.pop("reason_code"), "text": values.pop("reason")}
    return values | {
        "reason": reason if reason["code"] else None,
        "received_at": when(row.received_at),
        "updated_at": when(row.updated_at),
    }


def _detail(detail: StudyDetail) -> dict[str, Any]:
    parts = ("instances", "transitions", "reports", "deliveries")
    return _row(detail.study) | {
        "instances": [],
        **{part: [_times(one) for one in getattr(detail, part)] for part in parts},
        "result": detail.result,
    }


def _times(values: dict[str, Any]) -> dict[str, Any]:
    def text(key: str, value: Any) -> Any:
        return (
            (when(value) or None) if key.endswith(("_at", "not_before")) or key == "at" else value
        )

    return {key: text(key, value) for key, value in values.items()}


def _print(title: str, rows: tuple[dict[str, Any], ...], columns: tuple[str, ...]) -> None:
    if not rows:
        return
    table = Table(*map(whole, columns), title=title, title_justify="left", box=None)
    for row in rows:
        table.add_row(*(str(value or "") for value in (_times(row)[one] for one in columns)))
    console.print(table)
