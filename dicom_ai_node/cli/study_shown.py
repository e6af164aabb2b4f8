"""What ``show`` prints of one study: the verdict first, then each thing in full."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from dicom_ai_node.cli import verdict
from dicom_ai_node.cli.common import console, minute, when
from dicom_ai_node.cli.tables import print_lines
from dicom_ai_node.output import visible
from dicom_ai_node.store.queries import StudyDetail


def print_study(detail: StudyDetail, *, log_id: str) -> None:
    """Print the verdict in about ten lines, and below it what it was made from."""
    summary = Table.grid(padding=(0, 2))
    summary.add_column(style="bold", no_wrap=True)
    summary.add_column(overflow="fold")
    for name, text in _verdict(detail):
        summary.add_row(name, text)
    console.print(Text(f"study {visible(detail.study.study_instance_uid)}"), soft_wrap=True)
    console.print(summary)
    console.print(f"in the log: {log_id}", style="dim")
    _print_findings(detail.result)
    _print_images(detail)
    _print_rows("History", detail.transitions, ("at", "event", "from_state", "to_state", "reason"))
    _print_rows(
        "Deliveries",
        detail.deliveries,
        ("destination", "kind", "state", "attempts", "settled_at", "error"),
    )


def _verdict(detail: StudyDetail) -> Iterator[tuple[str, str]]:
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
        yield f"no {attribute}", reason
    for made in result["audit"]["proposals"]:
        yield "proposed", f"{made['keyword']} = {made['value']}, from {made['source']}"
    if model := result["model"]:
        yield "network", f"{model['name']} {model['version']}"
    if detail.deliveries:
        yield "sent", _sent(detail.deliveries)


def _sent(deliveries: Sequence[dict[str, Any]]) -> str:
    words = [f"{one['kind']} to {one['destination']}: {one['state']}" for one in deliveries]
    return ", ".join(dict.fromkeys(words))


def _print_findings(result: dict[str, Any] | None) -> None:
    found = list(verdict.findings(result)) if result else []
    if not found:
        return
    table = Table("Rule", "Finding", title="Findings", title_justify="left", box=None)
    for rule, reason in found:
        table.add_row(rule, reason)
    console.print(table)


def _print_images(detail: StudyDetail) -> None:
    if not detail.instances:
        return
    images = (detail.result or {}).get("images", ())
    said = {one["image"]["sop_instance_uid"]: _said(one) for one in images}
    console.print(Text("Images", style="italic"))
    print_lines(
        ("Received", "Version", "What became of it", "Forwarded"),
        [
            (
                minute(one["received_at"]),
                str(one["version"]),
                said.get(one["sop_instance_uid"], ""),
                ": ".join(filter(None, (one["forwarded"], one["forward_note"]))),
            )
            for one in detail.instances
        ],
        [one["sop_instance_uid"] for one in detail.instances],
        called="SOP Instance UID",
        gives=(2, 3),
    )


def _said(image: dict[str, Any]) -> str:
    reason, prediction = image["reason"], image["prediction"]
    if reason:
        return f"{image['outcome']}: {reason['text']}"
    if prediction is None:
        return str(image["outcome"])
    age, female = prediction["age"], prediction["probability_female"]
    return f"{age:.0f} years, {'F' if female >= 0.5 else 'M'}"


def _print_rows(title: str, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    if not rows:
        return
    names = [one.removesuffix("_at").replace("_state", "").replace("_", " ") for one in columns]
    table = Table(*map(str.capitalize, names), title=title, title_justify="left", box=None)
    for row in rows:
        table.add_row(*(_cell(name, row[name]) for name in columns))
    console.print(table)


def _cell(name: str, value: Any) -> str:
    if name == "at" or name.endswith("_at"):
        return when(value).replace("T", " ").rpartition("+")[0] if value else ""
    return "" if value is None else str(value)
