"""What the audit commands print."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import typer
from rich.table import Table
from rich.text import Text

from dicom_ai_node.audit.campaign import AuditSpec, Preview
from dicom_ai_node.audit.sources import Source, not_audited_in_words
from dicom_ai_node.cli.common import (
    ExitCode,
    complain,
    console,
    minute,
    print_json,
    when,
)
from dicom_ai_node.cli.tables import cut_left
from dicom_ai_node.config import Config
from dicom_ai_node.store import Database, audit_studies
from dicom_ai_node.store.audits import AuditRow
from dicom_ai_node.study import AuditState

_ASKED = {
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


def dry_run(settings: Config, spec: AuditSpec, *, as_json: bool) -> None:
    """List what an audit would be about, and print the counts."""
    from dicom_ai_node.audit.listing import preview
    from dicom_ai_node.cli.audit_watch import previewed

    source = source_of(settings, spec)
    try:
        with previewed(as_json=as_json) as on_progress:
            found = preview(source, spec, settings.rules, on_progress=on_progress)
    finally:
        source.close()
    minutes = found.minutes(settings.audit.studies_per_minute)
    if as_json:
        print_json({**asdict(found), "minutes_at_rate": minutes})
    else:
        _print_preview(settings, found, minutes)
    if not found.studies and spec.source.startswith("folder:"):
        complain(f"{spec.source}: nothing of these dates and modalities")
        raise typer.Exit(ExitCode.NO)


def _print_preview(settings: Config, found: Preview, minutes: float | None) -> None:
    console.print(
        f"{found.studies} studies with {found.instances} instances, as far as the source says",
    )
    _print_not_audited(found.not_audited)
    console.print(f"{found.flagged} are flagged by their listing alone")
    console.print(f"images would be fetched of {found.images}")
    if minutes is not None:
        rate = settings.audit.studies_per_minute
        hours = f"{minutes / 60:.1f} hours" if minutes >= 120 else f"{minutes:.0f} minutes"
        window = f", within {settings.audit.window}" if settings.audit.window else ""
        console.print(f"at {rate:g} studies a minute: {hours}{window}")


def rows(found: Sequence[AuditRow], *, as_json: bool) -> None:
    """Print a list of audits."""
    if as_json:
        for row in found:
            print_json(_values(row))
        return
    table = Table("Audit", "Source", "State", "Listed", "Settled", "Faults", "Started", box=None)
    for row in found:
        listed = str(row.listed) if row.listing_done else f"{row.listed} so far"
        table.add_row(
            str(row.id),
            cut_left(row.spec["source"], max(console.width - _REST, 16)),
            row.state,
            listed,
            str(row.settled),
            str(row.faults),
            minute(row.created_at),
        )
    console.print(table)


def one(db: Database, row: AuditRow, *, as_json: bool) -> None:
    """Print everything that is known of one audit."""
    now = time.time()
    faults = audit_studies.faults(db, row.id)
    rate = _rate(db, row, now)
    left = (row.listed - row.settled) / rate if rate and row.listing_done else None
    if as_json:
        more = {"studies_per_minute": rate, "minutes_left": left, "faults_by_text": dict(faults)}
        print_json(_values(row) | more)
        return
    console.print(Text.assemble((f"audit {row.id}", "bold"), f"  {row.state}  {row.note}"))
    for name, value in row.spec.items():
        if value not in (None, [], ""):
            text = ", ".join(value) if isinstance(value, list) else value
            console.print(f"{_ASKED.get(name, name.replace('_', ' '))}: {text}", soft_wrap=True)
    so_far = "" if row.listing_done else f", listing goes on (part {row.slices_done + 1})"
    console.print(f"{row.settled} of {row.listed} studies, {row.faults} with faults{so_far}")
    if row.state is AuditState.RUNNING:
        worked = row.lease_until >= now
        console.print(
            f"worked on by {row.owner.partition('-')[0]}" if worked else "nobody works on it now",
        )
    if rate:
        eta = f", about {left:.0f} minutes left" if left is not None else ""
        console.print(f"{rate:.1f} studies a minute{eta}")
    _print_not_audited(row.not_audited)
    for text, count in faults:
        console.print(f"{count} x {text}", soft_wrap=True)
    if row.listing_done and not row.listed:
        console.print("the source lists no study of these dates and modalities", style="yellow")
    if row.settled:
        console.print(f"what it found: dicom-ai-node audit report {row.id} --out FOLDER")


def _print_not_audited(counts: Mapping[str, int]) -> None:
    if counts:
        console.print(f"not audited: {not_audited_in_words(counts)}", soft_wrap=True)


def _rate(db: Database, row: AuditRow, now: float) -> float | None:
    """Return the studies settled a minute of late, None when it stands."""
    if row.state is not AuditState.RUNNING:
        return None
    since = max(now - _RATE_SECONDS, row.created_at)
    count = audit_studies.settled_since(db, row.id, since=since)
    return count * 60.0 / (now - since) if count and now > since else None


def _values(row: AuditRow) -> dict[str, Any]:
    times = {
        name: when(getattr(row, name)) or None
        for name in ("created_at", "updated_at", "finished_at", "lease_until")
    }
    return asdict(row) | times
