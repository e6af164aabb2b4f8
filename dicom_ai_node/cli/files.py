"""Files without a PACS: ``infer`` and ``check-header``."""

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.progress import Progress
from rich.table import Column, Table

from dicom_ai_node.cli.common import (
    AsJson,
    ConfigFile,
    ExitCode,
    complain,
    console,
    plain_terminal,
    print_json,
    progress_console,
)
from dicom_ai_node.config import Config, load_config
from dicom_ai_node.output import CsvWriter
from dicom_ai_node.types import Head, SaliencyMethod

Paths = Annotated[list[Path], typer.Argument(help="Files, or folders that are searched.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(infer)
    app.command("check-header")(check_header)


def infer(
    paths: Paths,
    config: ConfigFile = None,
    sr: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Write a report per study into this folder."),
    ] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of an imported network that is to answer too (repeatable)."),
    ] = None,
    saliency: Annotated[
        Path | None,
        typer.Option(
            file_okay=False, help="Write a PNG of what each answer rests on into this folder."
        ),
    ] = None,
    saliency_method: Annotated[
        Literal["grad-cam", "score-cam"],
        typer.Option(help="Of --saliency; score-cam takes seconds an image."),
    ] = "grad-cam",
    saliency_head: Annotated[
        Literal["age", "sex", "both"], typer.Option(help="Of --saliency: which answers.")
    ] = "both",
    as_json: AsJson = False,
) -> None:
    """Estimate age and sex from DICOM files, without a PACS.

    Every image is shown to the network, whatever the policy says of flagged studies. What stands
    under Beside is an imported network's word, uncalibrated, and is in no report. Exit code 1 when
    a file could not be read as DICOM, or a report not be written.

    --saliency writes UID-age.png and UID-sex.png, by SOPInstanceUID, of each image that is
    answered; what was refused or abstained has none, and its reason is in the output. Which file
    has which picture is told below the answers, and with --json in "saliency".

    Example: dicom-ai-node infer study/ --sr reports/ --saliency maps/
    """
    from dicom_ai_node.analyse.files import ImageAnswer, analyse_files
    from dicom_ai_node.analyse.saliency import Pictures

    settings = _settings(config)
    file = Column("File", overflow="fold")
    table = Table(file, "Outcome", "Age", "90 %", "Sex", "p(F)", "Rules", "Reason", box=None)
    if beside:
        table.add_column("Beside")
    faults: list[str] = []
    drawn: list[dict[str, Any]] = []

    def tell(answer: ImageAnswer) -> None:
        if answer.fault:
            faults.append(answer.fault)
        if as_json:
            print_json(answer.document)
        else:
            table.add_row(*_infer_row(answer.document))

    files = list(_files(paths))
    with Progress(console=progress_console, disable=as_json or plain_terminal()) as progress:
        task = progress.add_task("images", total=len(files))
        told = _passes(progress) if saliency_method == "score-cam" and saliency else None
        heads = tuple(Head) if saliency_head == "both" else (Head(saliency_head),)
        method = SaliencyMethod(saliency_method)
        pictures = Pictures(saliency, method, heads, told) if saliency else None
        answers = analyse_files(files, settings, reports=sr, beside=beside or (), pictures=pictures)
        for answer in answers:
            tell(answer)
            drawn += [answer.document] if answer.document["saliency"] else []
            progress.advance(task)
    if not as_json:
        console.print(table)
        if beside:
            console.print("Beside: others' networks, untested and uncalibrated.", style="yellow")
        if saliency is not None:
            _tell_pictures(saliency, drawn)
            if method is SaliencyMethod.GRAD_CAM and Head.SEX in heads and drawn:
                console.print(_WEAK_EVIDENCE, style="yellow")
        console.print("Inferred, not verified. Not a medical device.", style="dim")
    for fault in faults:
        complain(fault)
    if faults:
        raise typer.Exit(ExitCode.NO)


_WEAK_EVIDENCE = (
    "Grad-CAM's map of the sex shows where the image is striking more than what speaks for a sex:"
    " --saliency-method score-cam shows that better."
)


def _tell_pictures(folder: Path, drawn: list[dict[str, Any]]) -> None:
    """Say which picture is of which file: their names are UIDs, which the table does not show."""
    count = sum(len(one["saliency"]) for one in drawn)
    console.print(f"{count} saliency maps in {folder}")
    for one in drawn:
        names = " ".join(Path(path).name for path in one["saliency"])
        line = f"  {one['path']}: {names}"
        console.print(line, soft_wrap=True)


def _passes(progress: Progress) -> Callable[[int, int], None]:
    """Return what shows how far the map of the present image is."""
    task = progress.add_task("score-cam", total=None)

    def tell(done: int, total: int) -> None:
        progress.update(task, completed=done, total=total)

    return tell


def check_header(
    paths: Paths,
    config: ConfigFile = None,
    form: Annotated[
        Literal["table", "json", "csv"], typer.Option("--format", help="How to print.")
    ] = "table",
    as_json: AsJson = False,
) -> None:
    """Hold headers against the rules, without network or PACS.

    Each file is checked on its own. Exit code 1 when a file could not be read as DICOM.

    Example: dicom-ai-node check-header archive/ --format csv > headers.csv
    """
    from dicom_ai_node.analyse.headers import check_file

    settings = _settings(config)
    today = datetime.now(UTC).date()
    answers = (
        check_file(path, settings.rules, today=today, limits=settings.limits.bounds)
        for path in _files(paths)
    )
    unreadable = 0
    table = Table("File", "Age", "Sex", "Status age", "Status sex", "Rules", box=None)
    writer = CsvWriter(sys.stdout)
    if form == "csv" and not as_json:
        writer.writerow(_CSV)
    for document in answers:
        unreadable += document["error"] is not None
        if as_json or form == "json":
            print_json(document)
        elif form == "csv":
            writer.writerow(_header_row(document))
        else:
            table.add_row(*_header_row(document)[:5], document["error"] or _rules(document))
    if form == "table" and not as_json:
        console.print(table)
    if unreadable:
        raise typer.Exit(ExitCode.NO)


_CSV = ("path", "age", "sex", "status_age", "status_sex", "rules", "proposals", "error")


def _header_row(document: dict[str, Any]) -> list[str]:
    recorded, status = document["recorded"] or {}, document["status"] or {}
    proposals = [f"{one['keyword']}={one['value']}" for one in document["proposals"]]
    return [
        document["path"],
        recorded.get("age", ""),
        recorded.get("sex", ""),
        status.get("age", ""),
        status.get("sex", ""),
        _rules(document),
        " ".join(proposals),
        document["error"] or "",
    ]


def _infer_row(document: dict[str, Any]) -> list[str]:
    age, sex = document["age"], document["sex"]
    reasons = dict.fromkeys(one["text"] for one in document["unanswered"])
    beside = [_beside(one) for one in document.get("beside", ())]
    return [
        document["path"],
        document["outcome"],
        f"{age['estimate']:.0f}" if age else "",
        "{:.0f}-{:.0f}".format(*age["interval90"]) if age else "",
        sex["estimate"] if sex else "",
        f"{sex['probability_female']:.3f}" if sex else "",
        _rules(document),
        "; ".join(reasons),
        *([", ".join(beside)] if "beside" in document else []),
    ]


def _beside(other: dict[str, Any]) -> str:
    age, female = other["age"], other["probability_female"]
    value = f"{age:.0f} years" if age is not None else f"p(F) {female:.3f}"
    return f"{other['name']} {value}"


def _rules(document: dict[str, Any]) -> str:
    return " ".join(document["rules"])


def _files(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(one for one in path.rglob("*") if one.is_file())
        else:
            yield path


def _settings(path: Path | None) -> Config:
    """Load the configuration if one is named; these commands work without."""
    return load_config(path)
