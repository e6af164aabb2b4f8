"""What the node knows: ``studies``, ``show``, ``quarantine``; and ``requeue``."""

import time
from collections import Counter
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from dicom_ai_node.cli import verdict
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
)
from dicom_ai_node.cli.study_shown import print_study
from dicom_ai_node.cli.tables import print_lines
from dicom_ai_node.errors import ConfigError
from dicom_ai_node.ops import logs
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database, deliveries, results
from dicom_ai_node.store import studies as study_queue
from dicom_ai_node.store.instances import quarantined
from dicom_ai_node.store.queries import StudyDetail, StudyRow, find
from dicom_ai_node.store.queries import show as find_one
from dicom_ai_node.study import State


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
    """List studies, newest first: recorded age and sex, estimate, verdict, rules to look at.

    In a wide terminal, or in a pipe, each study is one line that begins with its UID.

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
    print_lines(
        ("Date", "Recorded", "Estimate (90 %)", "Verdict", "Flags", "State"),
        [_line(row) for row in rows],
        [row.study_instance_uid for row in rows],
        called="Study",
        gives=(3, 4),
    )
    console.print(f"{len(rows)} studies" + (" (more may follow)" if len(rows) == limit else ""))


def show(
    study_uid: Annotated[str, typer.Argument(help="StudyInstanceUID")],
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show one study: the verdict, then findings, images, every transition and each delivery.

    The whole answer of the rules and the network is in --json.

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
    print_study(detail, log_id=logs.hashed(study_uid))


def quarantine(
    config: ConfigFile = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List what was received and could not be filed, with its reason, newest first.

    The files are below the spool; 'gone' are those that a person has removed since.

    Example: dicom-ai-node quarantine
    """
    settings = configuration(config)
    rows = quarantined(open_database(settings), limit=limit)
    spool = Spool(settings.storage.spool)
    there = [spool.path(row.path).exists() for row in rows]
    if as_json:
        for row, is_there in zip(rows, there, strict=True):
            print_json(asdict(row) | {"at": when(row.at), "gone": not is_there})
        return
    for reason, count in Counter(row.reason for row in rows).most_common():
        console.print(f"{count} x {reason}", soft_wrap=True)
    print_lines(
        ("Received", "From", "Reason"),
        [(minute(row.at), row.calling_ae, row.reason) for row in rows],
        [
            f"{Path(row.path).name}{'' if is_there else ' (gone)'}"
            for row, is_there in zip(rows, there, strict=True)
        ],
        called="File",
        gives=(2,),
    )
    console.print(f"in {spool.quarantine}", soft_wrap=True)
    console.print(f"{len(rows)} objects" + (" (more may follow)" if len(rows) == limit else ""))


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
        count, lost = results.requeue_withheld(db, now=now)
        if as_json:
            print_json({"studies": count, "without_images": lost})
        else:
            console.print(f"{count} studies to be analysed again, {lost} have no images any more")
        return
    count = deliveries.requeue_dead(db, study_uid=study_uid or None, now=now)
    deliveries.start_over(db)
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


def _line(row: StudyRow) -> tuple[str, ...]:
    result = row.result
    if result is None:
        return verdict.iso(row.study_date), "", "", row.reason, "", row.state
    return (
        verdict.iso(row.study_date),
        verdict.recorded(result),
        verdict.estimate(result),
        verdict.verdict(result),
        verdict.flags(result),
        row.state,
    )


def _row(row: StudyRow) -> dict[str, Any]:
    values = asdict(row)
    reason = {"code": values.pop("reason_code"), "text": values.pop("reason")}
    result = values.pop("result") or {}
    check = result.get("audit") or {}
    return values | {
        "reason": reason if reason["code"] else None,
        "received_at": when(row.received_at),
        "updated_at": when(row.updated_at),
        "outcome": result.get("outcome"),
        "recorded": check.get("recorded"),
        "status": {name: check[name] for name in ("age", "sex")} if check else None,
        "rules": list(dict.fromkeys(one["rule"] for one in check.get("findings", ()))),
        "age": result.get("age"),
        "sex": result.get("sex"),
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
