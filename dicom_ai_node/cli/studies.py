"""What the node knows: ``studies``, ``show``, ``quarantine``; and ``requeue``."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from dicom_ai_node.cli import verdict
from dicom_ai_node.cli.by_series import MOST_NAMED, of_stored
from dicom_ai_node.cli.commands import ConfigFile, Limit, StudyUid
from dicom_ai_node.cli.common import configuration, open_database
from dicom_ai_node.cli.printing import (
    Block,
    Lines,
    Output,
    Whole,
    count_of,
    is_time,
    minute,
    pairs,
    table,
    when,
    with_times,
)
from dicom_ai_node.decide.stored import heads_in, parts_in
from dicom_ai_node.errors import ConfigError, NodeError
from dicom_ai_node.ops import logs
from dicom_ai_node.output import visible
from dicom_ai_node.report.words import spoken
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import deliveries, results, study_queue
from dicom_ai_node.store.instances import quarantined
from dicom_ai_node.store.queries import StudyDetail, StudyRow, find, place_of
from dicom_ai_node.store.queries import show as find_one
from dicom_ai_node.study import State


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
    after: Annotated[
        str, typer.Option(help="A StudyInstanceUID: those that follow it in the list.")
    ] = "",
    limit: Limit = 100,
) -> Output:
    """List studies, newest first: recorded age and sex, estimate, verdict, rules to look at.

    In a wide terminal, or in a pipe, each study is one line that begins with its UID.

    Example: dicom-ai-node studies --state failed --state undelivered --since 2026-01-31
    """
    db = open_database(configuration(config))
    place = place_of(db, after) if after else None
    if after and place is None:
        raise NodeError(f"no study {after}")
    rows = find(
        db,
        states=state or (),
        flagged=flagged,
        since=since.timestamp() if since else None,
        until=until.timestamp() if until else None,
        after=place,
        limit=limit,
    )
    lines = Lines(
        ("Date", "Recorded", "Estimate (90 %)", "Verdict", "Flags", "State"),
        [_line(row) for row in rows],
        [row.study_instance_uid for row in rows],
        called="Study",
        gives=(3, 4),
    )
    return Output(rows, json=_record, blocks=[lines, count_of(rows, limit, "studies")])


def show(
    study_uid: StudyUid,
    images: Annotated[
        bool, typer.Option("--images", help="List every image, however many there are.")
    ] = False,
    config: ConfigFile = None,
) -> Output:
    """Show one study: the verdict, then findings, images, every transition and each delivery.

    Of more than eight images each series is a line: how many images it has, how many of them the
    network saw, and what they show. The whole answer of the rules and the network is in --json.

    Example: dicom-ai-node show 1.2.840.99999.1.2.3 --json
    """
    settings = configuration(config)
    logs.use_key(settings.log, settings.storage.spool)
    detail = find_one(open_database(settings), study_uid)
    if detail is None:
        raise NodeError(f"no study {study_uid}")
    log_id = logs.hashed(study_uid)
    return Output(
        [detail],
        json=lambda found: _detail(found) | {"log_id": log_id},
        blocks=_study_blocks(detail, log_id, each=images),
    )


def quarantine(config: ConfigFile = None, limit: Limit = 100) -> Output:
    """List what was received and could not be filed, with its reason, newest first.

    The files are below the spool; 'gone' are those that a person has removed since.

    Example: dicom-ai-node quarantine
    """
    settings = configuration(config)
    rows = quarantined(open_database(settings), limit=limit)
    spool = Spool(settings.storage.spool)
    gone = {row.path for row in rows if not spool.path(row.path).exists()}
    counts = Counter(row.reason for row in rows).most_common()
    lines = Lines(
        ("Received", "From", "Reason"),
        [(minute(row.at), row.calling_ae, row.reason) for row in rows],
        [f"{Path(row.path).name}{' (gone)' if row.path in gone else ''}" for row in rows],
        called="File",
        gives=(2,),
    )
    return Output(
        rows,
        json=lambda row: with_times(row) | {"gone": row.path in gone},
        blocks=[
            *(Whole(f"{count} x {reason}") for reason, count in counts),
            lines,
            Whole(f"in {spool.quarantine}"),
            count_of(rows, limit, "objects"),
        ],
    )


def requeue(
    study_uid: StudyUid = "",
    dead: Annotated[bool, typer.Option("--dead", help="All dead letters, of every study.")] = False,
    withheld: Annotated[
        bool, typer.Option("--withheld", help="All studies whose report shadow mode withheld.")
    ] = False,
    config: ConfigFile = None,
) -> Output:
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
    db, now = open_database(configuration(config)), time.time()
    if withheld:
        count, lost = results.requeue_withheld(db, now=now)
        said = f"{count} studies to be analysed again, {lost} have no images any more"
        return Output([{"studies": count, "without_images": lost}], blocks=[said])
    count = deliveries.requeue_dead(db, study_uid=study_uid or None, now=now)
    deliveries.start_over(db)
    state = None
    if study_uid and not count:
        state = study_queue.requeue(db, study_uid, now=now)
        if state is None:
            raise NodeError(f"no study {study_uid}")
    said = f"{study_uid} is {state}" if state else f"{count} deliveries back in their queue"
    return Output([{"deliveries": count, "study_state": state}], blocks=[said])


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


def _record(row: StudyRow) -> dict[str, Any]:
    values = with_times(row)
    reason = {"code": values.pop("reason_code"), "text": values.pop("reason")}
    result = values.pop("result") or {}
    check = result.get("audit") or {}
    return values | {
        "reason": reason if reason["code"] else None,
        "outcome": result.get("outcome"),
        "recorded": check.get("recorded"),
        "status": verdict.statuses(check) if check else None,
        "rules": list(dict.fromkeys(finding["rule"] for finding in check.get("findings", ()))),
        **dict.fromkeys(("age", "sex")),
        **{name: result[name] for name in heads_in(result)},
        **{key: result[key] for key in ("further",) if key in result},
    }


def _detail(detail: StudyDetail) -> dict[str, Any]:
    parts = ("instances", "transitions", "reports", "deliveries")
    return _record(detail.study) | {
        **{part: [with_times(row) for row in getattr(detail, part)] for part in parts},
        "result": detail.result,
    }


def _study_blocks(detail: StudyDetail, log_id: str, *, each: bool) -> Iterator[Block]:
    """The verdict in about ten lines, and below it what it was made from."""
    yield Whole(Text(f"study {visible(detail.study.study_instance_uid)}"))
    yield pairs(_summary(detail))
    yield Text(f"in the log: {log_id}", style="dim")
    if detail.result and detail.result["audit"]["findings"]:
        findings = verdict.by_gravity(detail.result["audit"]["findings"])
        cells = [(finding["rule"], finding["reason"]) for finding in findings]
        yield table(("Rule", "Finding"), cells, title="Findings")
    if detail.result and len(detail.instances) > MOST_NAMED and not each:
        yield Text("Series", style="italic")
        yield from of_stored(detail.result, detail.instances)
        yield Text("--images lists each image", style="dim")
    elif detail.instances:
        yield Text("Images", style="italic")
        yield _images(detail)
    yield from _history(
        "History", detail.transitions, ("at", "event", "from_state", "to_state", "reason")
    )
    yield from _history(
        "Deliveries",
        detail.deliveries,
        ("destination", "kind", "state", "attempts", "settled_at", "error"),
    )


def _summary(detail: StudyDetail) -> Iterator[tuple[str, str]]:
    row, result = detail.study, detail.result
    yield "state", ": ".join(filter(None, (row.state, row.reason)))
    dates = [f"of {verdict.iso(row.study_date)}"] if row.study_date else []
    came = f"received {minute(row.received_at)}"
    yield "images", ", ".join([f"{row.instances}", *dates, came])
    if result is None:
        return
    yield "recorded", verdict.recorded(result)
    yield "estimate", verdict.estimate_in_words(result)
    yield "verdict", verdict.verdict(result)
    if found := verdict.flags(result):
        yield "flags", found
    for attribute, reason in verdict.unanswered(result):
        yield f"no {spoken(attribute)}", reason
    for made in result["audit"]["proposals"]:
        yield "proposed", f"{made['keyword']} = {made['value']}, from {made['source']}"
    for model in filter(None, (part["model"] for part in parts_in(result))):
        yield "network", f"{model['name']} {model['version']}"
    if detail.deliveries:
        sent = [f"{it['kind']} to {it['destination']}: {it['state']}" for it in detail.deliveries]
        yield "sent", ", ".join(dict.fromkeys(sent))


def _images(detail: StudyDetail) -> Lines:
    said: dict[str, str] = {}
    for part in parts_in(detail.result) if detail.result else ():
        for image in part["images"]:
            uid = image["image"]["sop_instance_uid"]
            said[uid] = "; ".join(filter(None, (said.get(uid), verdict.of_image(image))))
    return Lines(
        ("Received", "Version", "What became of it", "Forwarded"),
        [
            (
                minute(instance["received_at"]),
                str(instance["version"]),
                said.get(instance["sop_instance_uid"], ""),
                ": ".join(filter(None, (instance["forwarded"], instance["forward_note"]))),
            )
            for instance in detail.instances
        ],
        [instance["sop_instance_uid"] for instance in detail.instances],
        called="SOP Instance UID",
        gives=(2, 3),
    )


def _history(title: str, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> Iterator[Block]:
    if rows:
        short = (name.removesuffix("_at").replace("_state", "") for name in columns)
        cells = [[_cell(name, row[name]) for name in columns] for row in rows]
        yield table(map(str.capitalize, short), cells, title=title)


def _cell(name: str, value: Any) -> str:
    if is_time(name):
        return when(value).replace("T", " ").rpartition("+")[0] if value else ""
    return "" if value is None else str(value)
