"""``model recalibrate``: a bundle calibrated on a site's own trusted headers."""

import csv
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from dicom_ai_node.cli.commands import AsJson, Bundle, ConfigFile
from dicom_ai_node.cli.common import check_folder, configuration, open_database
from dicom_ai_node.cli.printing import Block, Output, Whole, table
from dicom_ai_node.config import Config, load_config
from dicom_ai_node.errors import ConfigError, ExitCode
from dicom_ai_node.terminal import complain, plain_terminal, progress_console

if TYPE_CHECKING:
    from dicom_ai_node.inference.bundle import Manifest
    from dicom_ai_node.inference.movement import Moved
    from dicom_ai_node.monitor.observation import Observation

WEEK = 7 * 86400.0
COLUMN = "path"
"""Column of an index that names the files."""


def recalibrate(
    out: Annotated[
        Path | None, typer.Option(help="Folder of the new bundle; made.", show_default=False)
    ] = None,
    bundle: Bundle = "default",
    from_: Annotated[
        list[Path] | None,
        typer.Option("--from", help="DICOM file, or folder that is searched (may be repeated)."),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(help=f"CSV whose column '{COLUMN}' names DICOM files, relative to it."),
    ] = None,
    from_monitor: Annotated[
        bool, typer.Option("--from-monitor", help="What the node has observed; reads no image.")
    ] = False,
    weeks: Annotated[
        int, typer.Option(min=1, help="Of the monitor: studies of so many weeks.")
    ] = 520,
    label: Annotated[
        str, typer.Option(help="Follows the version's '+'. Default: site.YYYYMMDD.")
    ] = "",
    at_least: Annotated[
        int, typer.Option(min=20, help="With fewer usable images nothing is written.")
    ] = 200,
    move: Annotated[
        bool, typer.Option(help="Move estimates where that gains; else only say what it would.")
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be gained; write nothing.")
    ] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> Output:
    """Calibrate a bundle on a site's own images and write it as a new bundle.

    Used is one image of each study whose age and sex no header rule has anything against, and that
    passes every gate. The network stays the same; its age intervals, the certainty of the sex and
    the in-distribution score become the site's. What it errs by there on the whole is taken out of
    the age and the sex, where patients that it was not fitted to gain by it. Exit code 1 when
    there are too few such images.

    Example: dicom-ai-node model recalibrate --from archive/ --out bundles/ours
    """
    from dicom_ai_node.config.bundles import resolve_bundle
    from dicom_ai_node.recalibrate import pack

    if (out is None) != dry_run:
        raise ConfigError("model recalibrate: expected either --out or --dry-run")
    if [bool(from_), index is not None, from_monitor].count(True) != 1:
        raise ConfigError(
            "model recalibrate: expected either --from or --index, or else --from-monitor"
        )
    settings = configuration(config) if from_monitor else load_config(config)
    paths = [] if from_monitor else _paths(from_ or [], index)
    if out is not None:
        check_folder("--out", out.parent)
        pack.check_target(out)
    today = datetime.now(UTC).date()
    wanted = pack.Wanted(label or f"site.{today:%Y%m%d}", at_least, today, move)
    folder = resolve_bundle(bundle)
    if from_monitor:
        observations = _observed(settings, folder, weeks)
        found = pack.recalibrate_observed(folder, observations, wanted)
        return told(found.manifest if out is None else found.write(out), out)
    with Progress(console=progress_console, disable=as_json or plain_terminal()) as progress:

        def track(what: str, total: int) -> Callable[[], None]:
            task = progress.add_task(what, total=total)
            return lambda: progress.advance(task)

        try:
            found = pack.recalibrate(folder, paths, settings, wanted, track)
            made = found.manifest if out is None else found.write(out)
        except KeyboardInterrupt:
            complain(f"interrupted: nothing is written{f' to {out}' if out else ''}")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
    return told(made, out)


def _observed(settings: Config, folder: Path, weeks: int) -> "list[Observation]":
    """Return what the node has observed of the network of the bundle in ``folder``."""
    from dicom_ai_node.inference.bundle import load_manifest
    from dicom_ai_node.recalibrate.observed import same_network
    from dicom_ai_node.store.monitor import load_observations

    db, since = open_database(settings), time.time() - weeks * WEEK
    found = [
        one
        for sha256 in sorted(same_network(load_manifest(folder)))
        for one in load_observations(db, since=since, model_sha256=sha256)
    ]
    return sorted(found, key=lambda one: one.received_at)


def told(made: "Manifest", out: Path | None) -> Output:
    """Say what was made, or would be, and what it changes."""
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
    names: dict[str, str | None] = {
        "path": None if out is None else str(out),
        "name": made.name,
        "version": made.version,
        "sha256": None if out is None else made.sha256,
    }
    what = "studies" if found.observed else "files"
    calibrated = (
        f"{made.name} {made.version}, calibrated on {found.images} images of"
        f" {found.patients} patients"
    )
    return Output(
        [names | found.model_dump(mode="json")],
        blocks=[
            table(("Interval", "Coverage before", "after", "Width before", "after"), rows),
            *_moved(found.moved),
            *(f"{reason}: {count} {what}" for reason, count in found.files.items()),
            Whole(f"nothing is written: {calibrated}" if out is None else f"{out}: {calibrated}"),
        ],
    )


def _moved(moved: "Sequence[Moved]") -> Iterator[Block]:
    """Say what moving gains, of patients that it was not fitted to."""
    if not moved:
        return
    rows = [
        (
            f"{found.head} {gain.group}".strip(),
            str(gain.images),
            *(f"{value:.3f}" for value in (gain.before, gain.after)),
            f"{gain.gain:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})",
            *(f"{value:+.3f}" for value in (gain.bias_before, gain.bias_after)),
        )
        for found in moved
        for gain in (found.of_all, *found.by_age)
    ]
    columns = ("Moved", "Images", "Error before", "after", "Gain (95 %)", "Bias before", "after")
    yield table(columns, rows)
    for found in moved:
        gains = found.of_all.low > 0
        verdict = "moved" if found.packed else "not moved, as was asked" if gains else "not moved"
        loss = "no loss" if gains else "a loss"
        yield f"{found.head}: {verdict}: the interval of its gain holds {loss}"


def _paths(given: list[Path], index: Path | None) -> list[Path]:
    """Return the files to read; ConfigError unless the source is there."""
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
