"""An audit at work, before it and after: dry run, progress and Ctrl-C, what is said of it."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

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

from dicom_ai_node.audit.campaign import AuditSpec, DryRun, Ending
from dicom_ai_node.audit.campaign import Progress as Counts
from dicom_ai_node.audit.sources import Source, not_audited_in_words
from dicom_ai_node.cli.printing import Block, Output, Whole, cut_left, minute, table, with_times
from dicom_ai_node.config import Config
from dicom_ai_node.errors import ExitCode, NodeError
from dicom_ai_node.ops import logs
from dicom_ai_node.ops.role import stop_on_signals
from dicom_ai_node.store import Database, audit_studies, audits
from dicom_ai_node.store.audits import AuditRow
from dicom_ai_node.study import AuditEvent, AuditState
from dicom_ai_node.terminal import complain, console, plain_terminal, progress_console

_ENDINGS = {
    Ending.LEFT: "was paused or cancelled by a person",
    Ending.LOST: "was taken over by another process",
}
ASKED = {
    "first_date": "from",
    "last_date": "to",
    "modalities": "modality",
    "depth": "pixels",
    "today": "day of the audit",
}
"""Parts of a spec by the options that asked for them."""
_REST = 66
"""Columns of the list of audits without its sources."""
_RATE_SECONDS = 600.0
"""The rate of an audit is that of so long before now."""


def source_of(settings: Config, spec: AuditSpec) -> Source:
    """Open the source that a spec names; ConfigError when there is none."""
    from dicom_ai_node.audit.sources import opening

    return opening.open_source(spec.source, settings, modalities=spec.modalities)


def dry_run(settings: Config, spec: AuditSpec, *, as_json: bool) -> Output:
    """List what an audit would be about, and count it."""
    from dicom_ai_node.audit.listing import preview

    source = source_of(settings, spec)
    try:
        with Progress(console=progress_console, disable=as_json or plain_terminal()) as bars:
            bar = bars.add_task("listing", total=None)

            def show(found: DryRun) -> None:
                bars.update(bar, total=found.slices, completed=found.slices_done)

            found = preview(source, spec, settings.rules, on_progress=show)
    finally:
        source.close()
    minutes = found.minutes(settings.audit.studies_per_minute)
    wrong = not found.studies and spec.source.startswith("folder:")
    return Output(
        [{**asdict(found), "minutes_at_rate": minutes}],
        blocks=_preview_blocks(settings, found, minutes),
        faults=[f"{spec.source}: nothing of these dates and modalities"] if wrong else (),
        ok=not wrong,
    )


def _preview_blocks(settings: Config, found: DryRun, minutes: float | None) -> Iterator[Block]:
    yield f"{found.studies} studies with {found.instances} instances, as far as the source says"
    yield from _not_audited(found.not_audited)
    yield f"{found.flagged} are flagged by their listing alone"
    yield f"images would be fetched of {found.images}"
    if minutes is not None:
        rate = settings.audit.studies_per_minute
        hours = f"{minutes / 60:.1f} hours" if minutes >= 120 else f"{minutes:.0f} minutes"
        window = f", within {settings.audit.window}" if settings.audit.window else ""
        yield f"at {rate:g} studies a minute: {hours}{window}"


def listed(found: Sequence[AuditRow]) -> Output:
    """List audits."""
    columns = ("Audit", "Source", "State", "Listed", "Settled", "Faults", "Started")
    cells = [
        (
            str(row.id),
            cut_left(row.spec["source"], max(console.width - _REST, 16)),
            row.state,
            str(row.listed) if row.listing_done else f"{row.listed} so far",
            str(row.settled),
            str(row.faults),
            minute(row.created_at),
        )
        for row in found
    ]
    return Output(found, json=with_times, blocks=[table(columns, cells)])


def audit(db: Database, row: AuditRow) -> Output:
    """Say everything that is known of one audit."""
    now = time.time()
    faults = audit_studies.faults(db, row.id)
    rate = _rate(db, row, now)
    left = (row.listed - row.settled) / rate if rate and row.listing_done else None
    more = {"studies_per_minute": rate, "minutes_left": left, "faults_by_text": dict(faults)}

    def blocks() -> Iterator[Block]:
        yield Text.assemble((f"audit {row.id}", "bold"), f"  {row.state}  {row.note}")
        yield from _asked(row.spec)
        so_far = "" if row.listing_done else f", listing goes on (part {row.slices_done + 1})"
        yield f"{row.settled} of {row.listed} studies, {row.faults} with faults{so_far}"
        if row.state is AuditState.RUNNING:
            worker = row.owner.partition("-")[0]
            yield f"worked on by {worker}" if row.lease_until >= now else "nobody works on it now"
        if rate:
            eta = f", about {left:.0f} minutes left" if left is not None else ""
            yield f"{rate:.1f} studies a minute{eta}"
        yield from _not_audited(row.not_audited)
        yield from (Whole(f"{count} x {text}") for text, count in faults)
        if row.listing_done and not row.listed:
            none = "the source lists no study of these dates and modalities"
            yield Text(none, style="yellow")
        if row.settled:
            yield f"what it found: dicom-ai-node audit report {row.id} --out FOLDER"

    return Output([row], json=lambda found: with_times(found) | more, blocks=blocks())


def report(
    settings: Config, db: Database, row: AuditRow, out: Path, identifiers: Sequence[str]
) -> Output:
    """Write what an audit found."""
    from dicom_ai_node.audit.conclude import conclude
    from dicom_ai_node.audit.report import write_report
    from dicom_ai_node.audit.report.tables import Identifiers
    from dicom_ai_node.audit.study import LISTING, collected_from_row, models_of

    collected = [collected_from_row(stored) for stored in audit_studies.collected(db, row.id)]
    gaps = any(study.key.startswith(LISTING) for study in collected)
    found = conclude(
        AuditSpec.model_validate(row.spec),
        collected,
        listed=row.listed,
        complete=row.state is AuditState.DONE and not gaps,
        not_audited=row.not_audited,
        rules=settings.rules,
        policy=settings.policy,
        fill=settings.fill,
        model=models_of(collected),
    )
    files = write_report(found, out, identifiers=Identifiers.of(collected, identifiers))
    blocks: list[Block] = [Whole(str(path)) for path in files]
    if not found.complete:
        late = f"not everything is collected: the audit is {row.state}"
        blocks.append(Text(late, style="yellow"))
    record = {"files": [str(path) for path in files], "complete": found.complete}
    return Output([record], blocks=blocks)


def _asked(spec: Mapping[str, Any]) -> Iterator[Block]:
    for name, value in spec.items():
        if value not in (None, [], ""):
            text = ", ".join(value) if isinstance(value, list) else value
            yield Whole(f"{ASKED.get(name, name.replace('_', ' '))}: {text}")


def _not_audited(counts: Mapping[str, int]) -> Iterator[Block]:
    if counts:
        yield Whole(f"not audited: {not_audited_in_words(counts)}")


def _rate(db: Database, row: AuditRow, now: float) -> float | None:
    """Return the studies settled a minute of late, None when it stands."""
    if row.state is not AuditState.RUNNING:
        return None
    since = max(now - _RATE_SECONDS, row.created_at)
    count = audit_studies.settled_since(db, row.id, since=since)
    return count * 60.0 / (now - since) if count and now > since else None


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
        raise typer.Exit(ExitCode.NO)


@contextmanager
def _shown(*, as_json: bool) -> Iterator[Callable[[Counts], None]]:
    """Show two bars, for the listing and the studies, and yield what moves them."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
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


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


def _say(text: str) -> None:
    progress_console.print(text, soft_wrap=True)
