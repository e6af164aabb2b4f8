"""``infer``: files are estimated without a PACS."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.progress import Progress
from rich.text import Text

from dicom_ai_node.answers import Outcome, SaliencyMethod
from dicom_ai_node.cli.check_header import searched
from dicom_ai_node.cli.commands import AsJson, ConfigFile, Paths
from dicom_ai_node.cli.common import check_folder
from dicom_ai_node.cli.infer_studies import doubt, in_few_words, named, of_studies, parts
from dicom_ai_node.cli.printing import (
    WIDE,
    Block,
    Lines,
    Output,
    Whole,
    counted,
    cut_left,
    file_column,
    shown_path,
    table,
    uncounted,
)
from dicom_ai_node.config import Config, load_config
from dicom_ai_node.errors import NodeError
from dicom_ai_node.inference.heads import RESERVED
from dicom_ai_node.terminal import console, plain_terminal, progress_console

if TYPE_CHECKING:
    from dicom_ai_node.analyse.saliency import Pictures

_WEAK_EVIDENCE = (
    "Grad-CAM's map of the sex shows where the image is striking more than what speaks for a sex:"
    " --saliency-method score-cam shows that better."
)


@dataclass(frozen=True, slots=True)
class Maps:
    """Which saliency maps are asked for, as options."""

    saliency: Annotated[
        Path | None,
        typer.Option(
            file_okay=False, help="Write a PNG of what each answer rests on into this folder."
        ),
    ] = None
    saliency_method: Annotated[
        Literal["grad-cam", "score-cam"],
        typer.Option(help="Of --saliency; score-cam takes seconds an image."),
    ] = "grad-cam"
    saliency_head: Annotated[
        str, typer.Option(help="Of --saliency: which answer, such as age; both: all of them.")
    ] = "both"

    def heads(self, of_bundles: Sequence[str]) -> tuple[str, ...]:
        """The answers that are explained, of all that the bundles have."""
        if self.saliency_head == "both":
            return tuple(of_bundles)
        if self.saliency_head not in of_bundles:
            raise typer.BadParameter(
                f"{self.saliency_head!r}: expected both, or one of {', '.join(of_bundles)}",
                param_hint="'--saliency-head'",
            )
        return (self.saliency_head,)


def infer(
    paths: Paths,
    config: ConfigFile = None,
    sr: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Write a report per study into this folder."),
    ] = None,
    *,
    images: Annotated[
        bool, typer.Option("--images", help="List each image of a study that is told by series.")
    ] = False,
    maps: Maps,
    as_json: AsJson = False,
) -> Output:
    """Estimate age and sex from DICOM, PNG and JPEG files, without a PACS.

    And whatever else bundles answer. Every image is shown to the networks whose bundles accept it,
    whatever the policy says of flagged studies; of a large series those see a sample that ask for
    one. What is a matter of a series, as the region of a CT is, is told of each study and series;
    --images lists their images, too. PNG and JPEG have no header: nothing is compared, and --sr has
    no report on them. Exit code 1 when a file is none of the three, a folder holds no file, or a
    report could not be written.

    --saliency writes UID-age.png, UID-sex.png and so on, by SOPInstanceUID, of each image that is
    answered; what was refused or abstained has none, and its reason is in the output. Which file
    has which picture is told below the answers, and with --json in "saliency".

    Example: dicom-ai-node infer study/ --sr reports/ --saliency maps/
    """
    from dicom_ai_node.config.bundles import reporting_bundles
    from dicom_ai_node.inference.bundle import load_manifest

    settings = load_config(config)  # if one is named; this command works without
    manifests = map(load_manifest, reporting_bundles(settings.model))
    of_bundles = list(dict.fromkeys(head.name for one in manifests for head in one.heads))
    heads = maps.heads(of_bundles)
    for option, folder in (("--sr", sr), ("--saliency", maps.saliency)):
        if folder is not None:
            check_folder(option, folder)
    files, empty = searched(paths)
    files = [file for file in files if not _is_map(file, maps.saliency, of_bundles)]
    faults = [f"{folder}: no file in this folder" for folder in empty]
    if not files:
        nothing = "no file but maps that were written here before"
        raise NodeError("\n".join(faults) or nothing)
    progress = Progress(console=progress_console, disable=as_json or plain_terminal())
    run = _Run(files, faults, progress, of_bundles)
    return Output(
        run.documents(settings, sr, maps, heads),
        blocks=run.blocks(paths, maps, heads, each=images),
        faults=run.untold(as_json),
        ok=lambda: not faults,
        interrupted=lambda: f"{len(run.done)} of {len(files)} files are answered",
    )


@dataclass(frozen=True, slots=True)
class _Run:
    """Files that are being answered, and what came of them so far."""

    files: Sequence[Path]
    faults: list[str]
    progress: Progress
    of_bundles: Sequence[str]
    """Names of all heads."""
    done: list[dict[str, Any]] = field(default_factory=list)

    def documents(
        self, settings: Config, sr: Path | None, maps: Maps, heads: tuple[str, ...]
    ) -> Iterator[dict[str, Any]]:
        """Yield the answer of each file when it is there."""
        from dicom_ai_node.analyse.files import analyse_files

        with self.progress:
            task = self.progress.add_task("images", total=len(self.files))
            pictures = _pictures(maps, heads, self.progress)
            for answer in analyse_files(self.files, settings, reports=sr, pictures=pictures):
                self.faults.extend(filter(None, [answer.fault]))
                self.done.append(answer.document)
                yield answer.document
                self.progress.advance(task)

    def untold(self, as_json: bool) -> Iterator[str]:
        """Yield the faults that the table does not say."""
        unreadable = () if as_json else filter(_is_unreadable, self.done)
        in_table = tuple(f"{document['path']}: " for document in unreadable)
        yield from (fault for fault in self.faults if not fault.startswith(in_table))

    def blocks(
        self, paths: Sequence[Path], maps: Maps, heads: Sequence[str], *, each: bool
    ) -> Iterator[Block]:
        """Yield what people see below the progress."""
        if not self.done:
            return
        if lines := _lines(self.done, each=each):
            yield _table(lines, paths)
        yield from of_studies(self.done, paths)
        if pictures := sum(document["kind"] == "picture" for document in self.done):
            yield f"{pictures} PNG or JPEG without a header: nothing recorded to compare with."
        yield from counted(document["rules"] for document in self.done)
        if maps.saliency is not None:
            drawn = [document for document in self.done if document["saliency"]]
            count = sum(len(document["saliency"]) for document in drawn)
            yield f"{count} saliency maps in {maps.saliency}"
            for document in drawn:  # names of pictures are UIDs, which the table does not show
                names = " ".join(Path(path).name for path in document["saliency"])
                yield Whole(f"  {document['path']}: {names}")
            if maps.saliency_method == "grad-cam" and "sex" in heads and drawn:
                yield Text(_WEAK_EVIDENCE, style="yellow")
        yield Text("Inferred, not verified. Not a medical device.", style="dim")


def _pictures(maps: Maps, heads: tuple[str, ...], progress: Progress) -> "Pictures | None":
    from dicom_ai_node.analyse.saliency import Pictures

    if maps.saliency is None:
        return None
    method = SaliencyMethod(maps.saliency_method)
    passes = _passes(progress) if method is SaliencyMethod.SCORE_CAM else None
    return Pictures(maps.saliency, method, heads, passes)


def _is_unreadable(document: dict[str, Any]) -> bool:
    return bool(document["reason"]) and document["reason"]["code"] == "unreadable"


def _is_map(file: Path, folder: Path | None, heads: Sequence[str]) -> bool:
    """Whether an earlier run wrote this file: maps are pictures, but no images to be answered."""
    named = file.name.endswith(tuple(f"-{head}.png" for head in heads))
    return folder is not None and named and file.parent.resolve() == folder.resolve()


def _lines(done: Sequence[dict[str, Any]], *, each: bool) -> list[dict[str, Any]]:
    """Return what is said of each file by each bundle that saw it.

    What is told of its study is left out unless ``each`` image is asked for; what was told by its
    header alone always is.
    """
    return [
        part | {"path": document["path"], "rules": document["rules"]}
        for document in done
        for part in parts(document)
        if part["outcome"] != Outcome.HEADER_ONLY and (each or "study" not in part)
    ]


def _table(said: Sequence[dict[str, Any]], paths: Sequence[Path]) -> Block:
    """Return a line for each of ``said``.

    Age and sex have columns; what else is answered stands below, with the reason why something is
    not.
    """
    several = len({(part["model"] or {}).get("name") for part in said}) > 1
    shown = [shown_path(part["path"], paths) for part in said]
    column, width = file_column(shown)
    names = ["Outcome", "Age", "90 %", "Sex", "p(F)", "Rules"]
    rows = [
        (cut_left(path, width), *_infer_row(part)) for path, part in zip(shown, said, strict=True)
    ]
    below = [_below(part, several) for part in said]
    called = "Answers and reasons" if several else "Reason"
    if console.width < WIDE:
        return Lines(["File", *names], rows, below, called=called, gives=[len(names)])
    with_reasons = [(*row, words) for row, words in zip(rows, below, strict=True)]
    return table((column, *names, called), with_reasons)


def _below(part: dict[str, Any], several: bool) -> str:
    """Return what a bundle says of a file beside age and sex, and why it says no more."""
    answers = {
        name: value
        for name, value in part.items()
        if name not in (*RESERVED, "age", "sex", "further") and value
    }
    said = [in_few_words(name, value) for name, value in answers.items()]
    use = _use(part)
    reasons = list(dict.fromkeys(reason["text"] for reason in part["unanswered"]))
    words = "; ".join([*said, *([use] if use and said else []), *reasons])
    if not several or not part["model"]:
        return words
    return ": ".join(filter(None, (named(part), words)))


def _use(part: dict[str, Any]) -> str:
    """Say what findings are not for."""
    kinds = [value for name, value in part.items() if name not in RESERVED and value]
    findings = any("estimate" not in value for value in kinds if "probabilities" in value)
    return "not for diagnosis" if findings else ""


def _passes(progress: Progress) -> Callable[[int, int], None]:
    """Return what shows how far the map of the present image is."""
    task = progress.add_task("score-cam", total=None)

    def tell(done: int, total: int) -> None:
        progress.update(task, completed=done, total=total)

    return tell


def _infer_row(document: dict[str, Any]) -> list[str]:
    age, sex = document.get("age"), document.get("sex")
    return [
        document["outcome"],
        f"{age['estimate']:.0f}{doubt(age)}" if age else "",
        "{:.0f}-{:.0f}".format(*age["interval90"]) if age else "",
        f"{sex['estimate']}{doubt(sex)}" if sex else "",
        f"{sex['probability_female']:.3f}" if sex and "probability_female" in sex else "",
        uncounted(document["rules"]),
    ]
