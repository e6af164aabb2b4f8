"""``check-header``: the header rules over files, without network or PACS."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from dicom_ai_node.cli.commands import ConfigFile, Paths
from dicom_ai_node.cli.printing import (
    Block,
    Csv,
    Form,
    Output,
    counted,
    cut_left,
    file_column,
    shown_path,
    table,
    uncounted,
)
from dicom_ai_node.cli.verdict import by_gravity
from dicom_ai_node.config import load_config
from dicom_ai_node.output import visible

_CSV = (
    *("path", "age", "sex", "body_part", "status_age", "status_sex", "status_body_part"),
    *("rules", "proposals", "error"),
)


def check_header(
    paths: Paths,
    config: ConfigFile = None,
    form: Annotated[Form, typer.Option("--format", help="How to print.")] = "table",
) -> Output:
    """Hold headers against the rules, without network or PACS.

    Each file is checked on its own. Exit code 1 when a file could not be read as DICOM, or a folder
    holds no file.

    Example: dicom-ai-node check-header archive/

    Example: dicom-ai-node check-header archive/ --format csv > headers.csv
    """
    from dicom_ai_node.analyse.headers import check_file

    settings, today = load_config(config), datetime.now(UTC).date()
    files, empty = searched(paths)
    done: list[dict[str, Any]] = []

    def documents() -> Iterator[dict[str, Any]]:
        for path in files:
            document = check_file(path, settings.rules, today=today, limits=settings.limits.bounds)
            done.append(document)
            yield document

    return Output(
        documents(),
        csv=Csv(_CSV, _row),
        form=form,
        blocks=_blocks(done, paths),
        faults=[f"{folder}: no file in this folder" for folder in empty],
        ok=lambda: not empty and all(document["error"] is None for document in done),
        interrupted=lambda: f"{len(done)} of {len(files)} files are checked",
    )


def searched(paths: list[Path]) -> tuple[list[Path], list[Path]]:
    """Return the files below ``paths``, in order, and the folders in which there is none."""
    found = [(path, list(_below(path))) for path in paths]
    return [file for _, files in found for file in files], [
        folder for folder, files in found if not files
    ]


def _below(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(file for file in path.rglob("*") if file.is_file())
    else:
        yield path


def _blocks(done: Sequence[dict[str, Any]], paths: Sequence[Path]) -> Iterator[Block]:
    if not done:
        return
    shown = [shown_path(document["path"], paths) for document in done]
    column, width = file_column(shown)
    rows = []
    for path, document in zip(shown, done, strict=True):
        recorded = document["recorded"] or {}
        said = [recorded.get(name, "") for name in ("age", "sex", "body_part")]
        rows.append((cut_left(path, width), *said, Text("\n".join(_words(document)))))
    yield table((column, "Age", "Sex", "Body part", "What the header says"), rows)
    yield from counted(document["rules"] for document in done)
    wrong = sum(
        not document["error"]
        and set(document["status"].values()) - {"CONSISTENT", "NOT_ASSESSED"} != set()
        for document in done
    )
    unreadable = sum(document["error"] is not None for document in done)
    yield f"{len(done)} files, {wrong} to be looked at, {unreadable} unreadable"


def _words(document: dict[str, Any]) -> list[str]:
    """What is said of a file: each status, each finding with its reason, what is proposed."""
    if document["error"] is not None:
        return [visible(document["error"])]
    statuses = document["status"].items()
    lines = [", ".join(f"{name.replace('_', ' ')} {status}" for name, status in statuses)]
    for finding in by_gravity(document["findings"]):
        if uncounted([finding["rule"]]) or finding["severity"] != "information":
            lines.append(f"{finding['rule']} {visible(finding['reason'])}")
    for made in document["proposals"]:
        value = visible(made["value"])
        lines.append(f"proposed {made['keyword']} = {value}, from {made['source']}")
    return lines


def _row(document: dict[str, Any]) -> list[str]:
    recorded, status = document["recorded"] or {}, document["status"] or {}
    proposals = [f"{proposal['keyword']}={proposal['value']}" for proposal in document["proposals"]]
    return [
        document["path"],
        recorded.get("age", ""),
        recorded.get("sex", ""),
        recorded.get("body_part", ""),
        status.get("age", ""),
        status.get("sex", ""),
        status.get("body_part", ""),
        " ".join(document["rules"]),
        " ".join(proposals),
        document["error"] or "",
    ]
