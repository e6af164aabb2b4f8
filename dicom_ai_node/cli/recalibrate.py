"""``model recalibrate``: a bundle calibrated on a site's own trusted headers."""

import csv
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from dicom_ai_node.cli.commands import AsJson, Bundle, ConfigFile
from dicom_ai_node.cli.common import check_folder
from dicom_ai_node.cli.printing import Output, Whole, table
from dicom_ai_node.config import load_config
from dicom_ai_node.errors import ConfigError, ExitCode
from dicom_ai_node.terminal import complain, plain_terminal, progress_console

if TYPE_CHECKING:
    from dicom_ai_node.inference.bundle import Manifest

COLUMN = "path"
"""Column of an index that names the files."""


def recalibrate(
    out: Annotated[Path, typer.Option(help="Folder of the new bundle; made.")],
    bundle: Bundle = "default",
    from_: Annotated[
        list[Path] | None,
        typer.Option("--from", help="DICOM file, or folder that is searched (may be repeated)."),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(help=f"CSV whose column '{COLUMN}' names DICOM files, relative to it."),
    ] = None,
    label: Annotated[
        str, typer.Option(help="Follows the version's '+'. Default: site.YYYYMMDD.")
    ] = "",
    at_least: Annotated[
        int, typer.Option(min=20, help="With fewer usable images nothing is written.")
    ] = 200,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> Output:
    """Calibrate a bundle on a site's own images and write it as a new bundle.

    Used is one image of each study whose age and sex no header rule has anything against, and that
    passes every gate. The network stays the same; its age intervals, the certainty of the sex and
    the in-distribution score become the site's. Exit code 1 when there are too few such images.

    Example: dicom-ai-node model recalibrate --from archive/ --out bundles/ours
    """
    from dicom_ai_node.config.bundles import resolve_bundle
    from dicom_ai_node.recalibrate.pack import recalibrate as run

    settings = load_config(config)
    paths = _paths(from_ or [], index)
    check_folder("--out", out.parent)
    today = datetime.now(UTC).date()
    with Progress(console=progress_console, disable=as_json or plain_terminal()) as progress:

        def track(what: str, total: int) -> Callable[[], None]:
            task = progress.add_task(what, total=total)
            return lambda: progress.advance(task)

        try:
            made = run(
                resolve_bundle(bundle),
                paths,
                settings,
                out,
                label=label or f"site.{today:%Y%m%d}",
                at_least=at_least,
                today=today,
                track=track,
            )
        except KeyboardInterrupt:
            complain(f"interrupted: nothing is written to {out}")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
    return calibrated(made, out)


def calibrated(made: "Manifest", out: Path) -> Output:
    """Say what was made and what it changes."""
    found = made.recalibration
    assert found is not None
    rows = [
        (
            f"{before.level} %",
            f"{before.coverage:.1%}",
            f"{after.coverage:.1%}",
            f"{before.width:.1f} years",
            f"{after.width:.1f} years",
        )
        for before, after in zip(found.before, found.after, strict=True)
    ]
    names = {"path": str(out), "name": made.name, "version": made.version}
    return Output(
        [names | {"sha256": made.sha256} | found.model_dump(mode="json")],
        blocks=[
            table(("Interval", "Coverage before", "after", "Width before", "after"), rows),
            *(f"{reason}: {count} files" for reason, count in found.files.items()),
            Whole(
                f"{out}: {made.name} {made.version}, calibrated on {found.images} images of"
                f" {found.patients} patients"
            ),
        ],
    )


def _paths(given: list[Path], index: Path | None) -> list[Path]:
    """Return the files to read; ConfigError unless exactly one source is given and is there."""
    if bool(given) == (index is not None):
        raise ConfigError("model recalibrate: expected either --from or --index")
    for path in given:
        if not path.exists():
            raise ConfigError(f"--from {path}: expected a file or a folder")
    if index is None:
        found = [file for path in given for file in ([path] if path.is_file() else path.rglob("*"))]
        return sorted(file for file in set(found) if file.is_file())
    try:
        with index.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            if COLUMN not in (rows.fieldnames or ()):
                raise ConfigError(f"{index}: expected a column {COLUMN!r}")
            return [index.parent / row[COLUMN] for row in rows if row[COLUMN]]
    except OSError as error:
        raise ConfigError(f"{index}: expected a readable CSV file ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{index}: expected a readable CSV file ({error})") from error
