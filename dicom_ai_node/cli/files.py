"""Files without a PACS: ``infer``."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.progress import Progress
from rich.table import Table

from dicom_ai_node.cli.common import (
    AsJson,
    ConfigFile,
    ExitCode,
    check_folder,
    complain,
    console,
    plain_terminal,
    print_json,
    progress_console,
)
from dicom_ai_node.cli.headers import Paths, searched
from dicom_ai_node.cli.tables import (
    WIDE,
    counted,
    cut_left,
    file_column,
    print_lines,
    shown_path,
    uncounted,
)
from dicom_ai_node.config import load_config
from dicom_ai_node.types import Head, SaliencyMethod


def infer(
    paths: Paths,
    config: ConfigFile = None,
    sr: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Write a report per study into this folder."),
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
    """Estimate age and sex from DICOM, PNG and JPEG files, without a PACS.

    Every image is shown to the network, whatever the policy says of flagged studies. PNG and
    JPEG have no header: nothing is compared, and --sr has no report on them. Exit code 1 when a
    file is none of the three, a folder holds no file, or a report could not be written.

    --saliency writes UID-age.png and UID-sex.png, by SOPInstanceUID, of each image that is
    answered; what was refused or abstained has none, and its reason is in the output. Which file
    has which picture is told below the answers, and with --json in "saliency".

    Example: dicom-ai-node infer study/ --sr reports/ --saliency maps/
    """
    from dicom_ai_node.analyse.files import ImageAnswer, analyse_files
    from dicom_ai_node.analyse.saliency import Pictures

    settings = load_config(config)  # if one is named; this command works without
    for option, folder in (("--sr", sr), ("--saliency", saliency)):
        if folder is not None:
            check_folder(option, folder)
    faults: list[str] = []
    told: list[dict[str, Any]] = []
    interrupted = False

    def tell(answer: ImageAnswer) -> None:
        if answer.fault:
            faults.append(answer.fault)
        told.append(answer.document)
        if as_json:
            print_json(answer.document)

    files, empty = searched(paths)
    files = [file for file in files if not _is_map(file, saliency)]
    faults += [f"{folder}: no file in this folder" for folder in empty]
    if not files:
        complain("\n".join(faults) or "no file but maps that were written here before")
        raise typer.Exit(ExitCode.NO)
    with Progress(console=progress_console, disable=as_json or plain_terminal()) as progress:
        task = progress.add_task("images", total=len(files))
        passes = _passes(progress) if saliency_method == "score-cam" and saliency else None
        heads = tuple(Head) if saliency_head == "both" else (Head(saliency_head),)
        method = SaliencyMethod(saliency_method)
        pictures = Pictures(saliency, method, heads, passes) if saliency else None
        answers = analyse_files(files, settings, reports=sr, pictures=pictures)
        try:
            for answer in answers:
                tell(answer)
                progress.advance(task)
        except KeyboardInterrupt:
            interrupted = True
    drawn = [one for one in told if one["saliency"]]
    if not as_json and told:
        _print(told, paths)
        if saliency is not None:
            _tell_pictures(saliency, drawn)
            if method is SaliencyMethod.GRAD_CAM and Head.SEX in heads and drawn:
                console.print(_WEAK_EVIDENCE, style="yellow")
        console.print("Inferred, not verified. Not a medical device.", style="dim")
    in_table = () if as_json else [f"{one['path']}: " for one in told if _is_unreadable(one)]
    for fault in faults:
        if not fault.startswith(tuple(in_table)):
            complain(fault)
    if interrupted:
        complain(f"interrupted: {len(told)} of {len(files)} files are answered")
        raise typer.Exit(ExitCode.INTERRUPTED)
    if faults:
        raise typer.Exit(ExitCode.NO)


def _is_unreadable(document: dict[str, Any]) -> bool:
    return bool(document["reason"]) and document["reason"]["code"] == "unreadable"


def _is_map(file: Path, folder: Path | None) -> bool:
    """Whether an earlier run wrote this file: maps are pictures, but no images to be answered."""
    named = file.name.endswith(tuple(f"-{head.value}.png" for head in Head))
    return folder is not None and named and file.parent.resolve() == folder.resolve()


def _print(told: list[dict[str, Any]], paths: list[Path]) -> None:
    shown = [shown_path(one["path"], paths) for one in told]
    column, width = file_column(shown)
    names = ["Outcome", "Age", "90 %", "Sex", "p(F)", "Rules"]
    rows = [
        (cut_left(path, width), *_infer_row(one)) for path, one in zip(shown, told, strict=True)
    ]
    reasons = [_why_not(one) for one in told]
    if console.width >= WIDE:
        table = Table(column, *names, "Reason", box=None)
        for row, reason in zip(rows, reasons, strict=True):
            table.add_row(*row, reason)
        console.print(table)
    else:
        print_lines(["File", *names], rows, reasons, called="Reason", gives=[6])
    if pictures := sum(one["kind"] == "picture" for one in told):
        console.print(f"{pictures} PNG or JPEG without a header: nothing recorded to compare with.")
    for line in counted(one["rules"] for one in told):
        console.print(line)


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


def _infer_row(document: dict[str, Any]) -> list[str]:
    age, sex = document["age"], document["sex"]
    return [
        document["outcome"],
        f"{age['estimate']:.0f}" if age else "",
        "{:.0f}-{:.0f}".format(*age["interval90"]) if age else "",
        sex["estimate"] if sex else "",
        f"{sex['probability_female']:.3f}" if sex else "",
        uncounted(document["rules"]),
    ]


def _why_not(document: dict[str, Any]) -> str:
    """Say why there is no age, no sex, or neither."""
    return "; ".join(dict.fromkeys(one["text"] for one in document["unanswered"]))
