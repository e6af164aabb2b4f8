"""Runs the demo: PACS and node on loopback, studies out, reports back, a table."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from rich import box
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.table import Table

from dicom_ai_node.answers import Answer, Category, Quantity
from dicom_ai_node.config.peers import Destination
from dicom_ai_node.decide.stored import answer_to_json, answers_in, heads_in
from dicom_ai_node.deliver.association import Offer, StoreAssociation, connect
from dicom_ai_node.demo.pacs import EmbeddedPacs
from dicom_ai_node.demo.studies import DemoStudy, from_folder, synthetic
from dicom_ai_node.demo.validators import dciodvfy
from dicom_ai_node.dicom.classes import VERIFICATION
from dicom_ai_node.dicom.status import SUCCESS
from dicom_ai_node.errors import NodeError, PeerUnavailable
from dicom_ai_node.output import json_text
from dicom_ai_node.rules.attributes import ATTRIBUTES
from dicom_ai_node.store import Database
from dicom_ai_node.store.queries import StudyDetail, show
from dicom_ai_node.study import State
from dicom_ai_node.terminal import GuardedConsole

_START_SECONDS = 90.0
_STUDY_SECONDS = 20.0
_LONGEST_WORD = {"Study": 10, "Estimate, 90 %": 12, "Decision": 10, "SR": 5}
"""Width of the words that a terminal of 80 columns would cut short, such as CHESTABDOMEN."""
_SETTLED = {State.DELIVERED, State.SKIPPED, State.FAILED, State.UNDELIVERED}


def run_demo(images: Path | None, *, keep: Path | None, as_json: bool) -> bool:
    """Run the demo and print its table; return whether every expected report arrived valid.

    Raises NodeError: the node does not start, or there is no image to send.
    """
    console = GuardedConsole(stderr=as_json)
    studies = synthetic() if images is None else from_folder(images)
    if not studies:
        raise NodeError(f"{images}: no DICOM, PNG or JPEG image in it")
    folder = (
        Path(tempfile.mkdtemp(prefix="dicom-ai-node-demo-")) if keep is None else keep.absolute()
    )
    folder.mkdir(parents=True, exist_ok=True)
    if images is None:
        console.print("The images are [bold]synthetic[/]: drawn from a statistical model.")
    with EmbeddedPacs(folder / "pacs", ae_title="PACS") as pacs:
        config = _write_config(folder, pacs.port)
        with _node(config, folder) as port, _progress(console, quiet=as_json) as say:
            say("waiting for the node to start")
            _wait_for_echo(port)
            say(f"sending {len(studies)} studies")
            for study in studies:
                _send(study.datasets, port)
            say("waiting for the reports")
            details = _wait(folder, studies)
        reports = _reports(pacs, studies)
    results = [details[one.uid].result or {} if one.uid in details else {} for one in studies]
    heads = list(dict.fromkeys(name for result in results for name in heads_in(result)))
    rows = [_row(study, details.get(study.uid), reports[study.uid], heads) for study in studies]
    if as_json:
        for row in rows:
            print(json_text(row))
    else:
        _print(console, rows, [dict(answers_in(result)) for result in results])
    for name, path in (("reports", folder / "pacs"), ("log    ", folder / "node.log")):
        console.print(f"{name} {path}", highlight=False, markup=False, soft_wrap=True)
    return all(row["complete"] for row in rows)


def _write_config(folder: Path, pacs_port: int) -> Path:
    path = folder / "node.toml"
    path.write_text(
        f"""\
[node]
bind = "127.0.0.1"
port = {_free_port()}
[storage]
spool = "spool"
database = "sqlite:///node.db"
min_free_mb = 50
warn_free_mb = 100
[study]
quiet_seconds = 1.0
[model]
further = ["ct-mr-region", "chest-findings", "ct-age-slice"]
[policy]
analyse = "all"
report_consistent = true
[web]
port = {_free_port()}
[log]
format = "json"
[destinations.pacs]
host = "127.0.0.1"
port = {pacs_port}
ae_title = "PACS"
retry_seconds = 1.0
"""
    )
    return path


@contextmanager
def _node(config: Path, folder: Path) -> Iterator[int]:
    """Run ``serve`` as a user would, and stop it as systemd would."""
    from dicom_ai_node.config import load_config

    command = [sys.executable, "-m", "dicom_ai_node", "serve", "-c", str(config)]
    with (folder / "node.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=os.environ)
        try:
            yield load_config(config).node.port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def _wait_for_echo(port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            association = _open(port, [Offer(VERIFICATION)])
            association.echo()
        except PeerUnavailable:
            time.sleep(0.3)
        else:
            association.release()
            return
    raise NodeError(f"the node did not answer within {_START_SECONDS:g} s, see its log")


def _send(datasets: Sequence[Dataset], port: int) -> None:
    """Send a study as a modality does: one association, each image in its own syntax."""
    pairs = {(one.SOPClassUID, one.file_meta.TransferSyntaxUID) for one in datasets}
    association = _open(port, [Offer(sop_class, (syntax,)) for sop_class, syntax in sorted(pairs)])
    for dataset in datasets:
        status, comment = association.store(dataset)
        if status != SUCCESS:
            raise NodeError(f"the node answered a C-STORE with 0x{status:04X} {comment}")
    association.release()


def _open(port: int, offers: Sequence[Offer]) -> StoreAssociation:
    node = Destination(host="127.0.0.1", port=port, ae_title="DICOMAINODE")
    return connect(node, offers, calling_ae_title="DEMOMODALITY")


def _wait(folder: Path, studies: Sequence[DemoStudy]) -> dict[str, StudyDetail]:
    db = Database(f"sqlite:///{folder / 'node.db'}")
    deadline = time.monotonic() + 30.0 + _STUDY_SECONDS * len(studies)
    details: dict[str, StudyDetail] = {}
    while time.monotonic() < deadline:
        for study in studies:
            detail = show(db, study.uid)
            if detail is not None:
                details[study.uid] = detail
        if len(details) == len(studies) and all(
            one.study.state in _SETTLED for one in details.values()
        ):
            break
        time.sleep(0.3)
    db.close()
    return details


def _reports(pacs: EmbeddedPacs, studies: Sequence[DemoStudy]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {study.uid: [] for study in studies}
    for path in pacs.instances().values():
        header = dcmread(path, stop_before_pixels=True)
        found.setdefault(str(header.StudyInstanceUID), []).append(path)
    return found


def _row(
    study: DemoStudy, detail: StudyDetail | None, reports: list[Path], heads: Sequence[str]
) -> dict[str, Any]:
    """Return what the node said of a study, as ``--json`` prints it."""
    state = detail.study.state if detail else "not received"
    result = (detail.result if detail else None) or {}
    checked, reason = result.get("audit", {}), result.get("reason")
    recorded, said = checked.get("recorded", {}), dict(answers_in(result))
    names = [attribute.name for attribute in ATTRIBUTES.values()]
    errors = [error for path in reports for error in dciodvfy(path)]
    complete = state == State.DELIVERED and len(reports) == 1 and not errors
    return {
        "study": study.title,
        **{f"recorded_{name}": recorded.get(name, "") for name in names},
        "status": {name: checked.get(name, "") for name in names},
        "rules": list(dict.fromkeys(one["rule"] for one in checked.get("findings", []))),
        **{name: _answer(name, said.get(name)) for name in heads},
        "decision": result.get("outcome", state),
        "reason": reason["code"] if reason else (detail.study.reason_code if detail else ""),
        "reports": len(reports),
        "errors": errors,
        "complete": state == State.SKIPPED or complete,
    }


def _answer(name: str, answer: Answer | None) -> dict[str, Any] | None:
    if isinstance(answer, Quantity):
        return {"estimate": answer.mu, "interval90": list(answer.interval90)}
    return answer_to_json(name, answer)


def _print(
    console: Console, rows: Sequence[dict[str, Any]], said: Sequence[Mapping[str, Answer]]
) -> None:
    table = Table(
        title="What the node said",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    names = [attribute.name for attribute in ATTRIBUTES.values()]
    recorded = [name.replace("_", " ").capitalize() for name in names]
    for column in ("Study", *recorded, "Rules", "Estimate, 90 %", "Decision", "SR"):
        table.add_column(column, min_width=_LONGEST_WORD.get(column))
    for row, answers in zip(rows, said, strict=True):
        table.add_row(
            row["study"],
            *(row[f"recorded_{name}"] or "-" for name in names),
            " ".join(row["rules"]) or "-",
            ", ".join(_words(name, answer) for name, answer in answers.items()) or "-",
            row["decision"] + (f": {row['reason'].replace('_', ' ')}" if row["reason"] else ""),
            _report_cell(row),
        )
    console.print(table)
    console.print("Findings and ages from CT are for research, not for diagnosis.", style="dim")
    console.print("Inferred, not verified. Not a medical device.", style="dim")


def _words(name: str, answer: Answer) -> str:
    """Say an answer in a few words; of labels the most probable."""
    front = "" if name in ("age", "sex") else f"{name} "
    if isinstance(answer, Quantity):
        low, high = answer.interval90
        doubt = "" if answer.certain else "?"
        return f"{front}{answer.mu:.0f}{doubt} ({low:.0f}-{high:.0f})"
    if isinstance(answer, Category):
        doubt = "" if answer.certain else "?"
        return f"{front}{answer.value}{doubt} {answer.certainty:.0%}"
    label, share = max(answer.probabilities.items(), key=lambda item: item[1])
    return f"{front}{label} {share:.0%}"


def _report_cell(row: dict[str, Any]) -> str:
    if row["errors"]:
        return f"[red]{len(row['errors'])} errors[/]"
    if row["reports"]:
        return "[green]valid[/]"
    return "none due" if row["complete"] else "[red]missing[/]"


@contextmanager
def _progress(console: Console, *, quiet: bool) -> Iterator[Any]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"))
    shown = nullcontext() if quiet else Progress(*columns, console=console, transient=True)
    with shown as progress:
        task = progress.add_task("") if progress else None

        def say(text: str) -> None:
            if progress is not None and task is not None:
                progress.update(task, description=text)

        yield say


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
