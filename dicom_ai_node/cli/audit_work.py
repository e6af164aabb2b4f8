"""An audit at work in the foreground: its progress, and Ctrl-C."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from dicom_ai_node.audit.campaign import DryRun, Ending
from dicom_ai_node.audit.campaign import Progress as Counts
from dicom_ai_node.config import Config
from dicom_ai_node.errors import ExitCode, NodeError
from dicom_ai_node.ops import logs
from dicom_ai_node.ops.role import stop_on_signals
from dicom_ai_node.store import Database, audits
from dicom_ai_node.study import AuditEvent
from dicom_ai_node.terminal import complain, plain_terminal, progress_console

_ENDINGS = {
    Ending.LEFT: "was paused or cancelled by a person",
    Ending.LOST: "was taken over by another process",
}


def work(config: Config, db: Database, audit_id: int, owner: str, *, as_json: bool) -> None:
    """Work on an audit until it is done; Exit 1 when it is not.

    SIGTERM and Ctrl-C pause it, and it ends as interrupted.
    """
    from dicom_ai_node.audit import worker

    quiet = config.log.model_copy(update={"level": "error"})
    logs.configure(quiet, spool=config.storage.spool, worker="audit")
    # What becomes of an association is told in words: by study, or as what the audit waits for.
    # One that only idled too long is opened anew, which pynetdicom calls an error.
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    try:
        with stop_on_signals() as stop, _shown(as_json=as_json) as on_progress:
            ending = worker.work(
                config, db, audit_id, owner=owner, stop=stop, on_progress=on_progress
            )
    except NodeError as error:
        complain(f"{error}\naudit {audit_id} can go on: dicom-ai-node audit resume {audit_id}")
        raise typer.Exit(ExitCode.NO) from error
    if ending is Ending.STOPPED:
        audits.apply(db, audit_id, AuditEvent.PAUSE, now=time.time())
        _say(f"audit {audit_id} is paused; go on with: dicom-ai-node audit resume {audit_id}")
        raise typer.Exit(ExitCode.INTERRUPTED)
    if ending is not Ending.DONE:
        _say(f"audit {audit_id} {_ENDINGS[ending]}")
    if ending is not Ending.DONE:
        raise typer.Exit(ExitCode.NO)


@contextmanager
def previewed(*, as_json: bool) -> Iterator[Callable[[DryRun], None]]:
    """Show a bar for a dry run, and yield what moves it."""
    with Progress(console=progress_console, disable=as_json or plain_terminal()) as bars:
        listing = bars.add_task("listing", total=None)
        yield lambda found: bars.update(listing, total=found.slices, completed=found.slices_done)


@contextmanager
def _shown(*, as_json: bool) -> Iterator[Callable[[Counts], None]]:
    """Show two bars, for the listing and the studies, and yield what moves them."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[says]}", markup=False),
    )
    hidden, said = as_json or plain_terminal(), ""
    with Progress(*columns, console=progress_console, disable=hidden) as bars:
        listing = bars.add_task("listing", total=None, says="")
        studies = bars.add_task("studies", total=None, says="")

        def show(counts: Counts) -> None:
            nonlocal said
            if hidden and counts.waits and counts.waits != said:
                _say(f"waits: {counts.waits}")  # without a bar it would seem to hang
            said = counts.waits
            whole = counts.slices or counts.slices_done or None
            bars.update(listing, total=whole, completed=counts.slices_done)
            faults = f"{counts.faults} with faults" if counts.faults else ""
            waits = f"waits: {counts.waits}" if counts.waits else ""
            says = ", ".join(filter(None, (faults, waits)))
            total = counts.listed if counts.listing_done else None
            bars.update(studies, total=total, completed=counts.settled, says=says)

        yield show


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


def _say(text: str) -> None:
    progress_console.print(text, soft_wrap=True)
