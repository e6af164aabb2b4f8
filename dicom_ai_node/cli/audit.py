"""Audits of a whole archive: ``audit start|list|show|pause|resume|cancel|report``."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import ValidationError

from dicom_ai_node.audit.campaign import AuditSpec, Depth
from dicom_ai_node.cli import audit_shown
from dicom_ai_node.cli.audit_control import Number, known, owner_here, run
from dicom_ai_node.cli.common import (
    DAYS,
    AsJson,
    ConfigFile,
    check_folder,
    configuration,
    console,
    open_database,
    print_json,
)
from dicom_ai_node.config import Config
from dicom_ai_node.errors import ConfigError
from dicom_ai_node.store import audit_studies, audits
from dicom_ai_node.study import AuditState

_RATE: float = AuditSpec.model_fields["false_discovery_rate"].default
_OPTIONS = {
    "source": "--source",
    "first_date": "--from",
    "last_date": "--to",
    "modalities": "--modality",
    "limit": "--limit",
    "alerts_per_day": "--alerts-per-day",
    "false_discovery_rate": "--false-discovery-rate",
}


def start(
    source: Annotated[
        str, typer.Option(help="pacs:NAME, web:NAME (of [sources]), folder:PATH or node.")
    ],
    first: Annotated[
        datetime | None, typer.Option("--from", formats=DAYS, help="First StudyDate.")
    ] = None,
    last: Annotated[
        datetime | None, typer.Option("--to", formats=DAYS, help="Last StudyDate.")
    ] = None,
    modality: Annotated[str, typer.Option(help="Modalities, separated by commas.")] = "CR,DX",
    headers_only: Annotated[
        bool, typer.Option("--headers-only", help="Ask for no images at all.")
    ] = False,
    pixels: Annotated[
        Literal["flagged", "all"] | None,
        typer.Option(help="Whose images to fetch: of studies that the rules flag, or of all."),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many studies.")] = None,
    alerts_per_day: Annotated[
        float | None, typer.Option(help="Budget of image alerts for each day of StudyDate.")
    ] = None,
    false_discovery_rate: Annotated[
        float,
        typer.Option(help="Share of false ones to expect among the image conflicts (H1 to H3)."),
    ] = _RATE,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List and count; fetch and keep nothing.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Leave it to the running node and return.")
    ] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Audit an archive. Runs here until it is done; Ctrl-C pauses it, with exit code 130.

    Rate limit, night window and retries stand in [audit] of the configuration. Exit code 1 when it
    ended before everything was collected, or a folder holds nothing to audit; studies that could
    not be retrieved do not count as that.

    Example: dicom-ai-node audit start --source pacs:main --from 2024-01-01 --to 2024-03-31

    Example: dicom-ai-node audit start --source folder:/archive --headers-only --dry-run

    Example: dicom-ai-node audit start --source web:main --pixels all --alerts-per-day 2 --detach
    """
    if headers_only and pixels:
        raise ConfigError("--headers-only and --pixels: expected at most one of them")
    if headers_only and alerts_per_day is not None:
        raise ConfigError(
            "--alerts-per-day is of image alerts: it needs images, not --headers-only"
        )
    if headers_only and false_discovery_rate != _RATE:
        raise ConfigError(
            "--false-discovery-rate is of image conflicts: it needs images, not --headers-only"
        )
    if not modality.replace(",", "").strip():
        raise ConfigError(f"--modality {modality!r}: expected at least one, such as CR,DX")
    values = {
        "source": _absolute(source),
        "first_date": first.date() if first else None,
        "last_date": last.date() if last else None,
        "modalities": [one.strip().upper() for one in modality.split(",") if one.strip()],
        "depth": Depth.HEADERS if headers_only else Depth(pixels or "flagged"),
        "limit": limit,
        "alerts_per_day": alerts_per_day,
        "false_discovery_rate": false_discovery_rate,
        "today": datetime.now(UTC).date(),
    }
    settings, spec = configuration(config), _spec(values)
    if dry_run:
        audit_shown.dry_run(settings, spec, as_json=as_json)
        return
    db = open_database(settings)
    _check_source(settings, spec)
    lease = settings.audit.lease_seconds
    owner = "" if detach else owner_here(settings)
    made = spec.model_dump(mode="json")
    number = audits.create(db, made, now=time.time(), owner=owner, lease_seconds=lease)
    run(settings, db, number, owner, as_json=as_json)


def list_(
    config: ConfigFile = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List audits, newest first.

    Example: dicom-ai-node audit list --json
    """
    db = open_database(configuration(config))
    audit_shown.rows(audits.find(db, limit=limit), as_json=as_json)


def show(number: Number, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show one audit: how far it is, how fast, what it waits for, its faults.

    Example: dicom-ai-node audit show 3
    """
    db = open_database(configuration(config))
    audit_shown.one(db, known(db, number), as_json=as_json)


def report(
    number: Number,
    out: Annotated[Path, typer.Option(help="Folder of the report; made.", show_default=False)],
    identifiers: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="KEYWORD",
            help="Write AccessionNumber or PatientID into the CSV files, where"
            " audit.csv_identifiers allows it. May be given twice.",
        ),
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Write what an audit found as HTML, CSV and JSON. May be asked for while it runs.

    Example: dicom-ai-node audit report 3 --out findings/

    Example: dicom-ai-node audit report 3 --out findings/ --with AccessionNumber
    """
    check_folder("--out", out)
    from dicom_ai_node.audit.conclude import conclude
    from dicom_ai_node.audit.report import write_report
    from dicom_ai_node.audit.report.tables import Identifiers
    from dicom_ai_node.audit.study import LISTING, collected_from_row, models_of
    from dicom_ai_node.rules import RULES_VERSION

    settings = configuration(config)
    named = _allowed(settings, identifiers or [])
    db = open_database(settings)
    row = known(db, number)
    collected = [collected_from_row(one) for one in audit_studies.collected(db, number)]
    gaps = any(one.key.startswith(LISTING) for one in collected)
    found = conclude(
        AuditSpec.model_validate(row.spec),
        collected,
        listed=row.listed,
        complete=row.state is AuditState.DONE and not gaps,
        not_audited=row.not_audited,
        rules=settings.rules,
        policy=settings.policy,
        fill=settings.fill,
        rules_version=RULES_VERSION,
        model=models_of(collected),
    )
    written = write_report(found, out, identifiers=Identifiers.of(collected, named))
    if as_json:
        print_json({"files": [str(path) for path in written], "complete": found.complete})
        return
    for path in written:
        console.print(str(path), soft_wrap=True)
    if not found.complete:
        console.print(f"not everything is collected: the audit is {row.state}", style="yellow")


def _allowed(settings: Config, keywords: Sequence[str]) -> Sequence[str]:
    """Return what may be written into the CSV; ConfigError for what the site does not allow."""
    allowed = settings.audit.csv_identifiers
    for keyword in keywords:
        if keyword not in allowed:
            which = f"{', '.join(allowed)} alone" if allowed else "none"
            raise ConfigError(
                f"--with {keyword}: audit.csv_identifiers of the configuration allows {which};"
                " it may name AccessionNumber and PatientID"
            )
    return keywords


def _spec(values: dict[str, Any]) -> AuditSpec:
    try:
        return AuditSpec.model_validate(values)
    except ValidationError as error:
        faults = []
        for fault in error.errors():
            field = str(fault["loc"][0]) if fault["loc"] else ""
            option = _OPTIONS.get(field, "--from, --to")
            value = f" {fault['input']}" if field else ""
            faults.append(f"{option}{value}: {fault['msg'].removeprefix('Value error, ')}")
        raise ConfigError("\n".join(faults)) from None


def _absolute(source: str) -> str:
    """Return a folder's name as the node, which works elsewhere, finds it too."""
    kind, _, path = source.partition(":")
    if kind != "folder":
        return source
    if not Path(path).is_dir():
        raise ConfigError(f"--source {source}: no such folder")
    return f"folder:{Path(path).resolve()}"


def _check_source(settings: Config, spec: AuditSpec) -> None:
    """Raise ConfigError now rather than in the node's log."""
    audit_shown.source_of(settings, spec).close()
