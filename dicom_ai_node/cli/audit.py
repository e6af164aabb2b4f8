"""Audits of a whole archive: ``audit start|list|show|pause|cancel|resume|report``."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import ValidationError

from dicom_ai_node.audit import FALSE_DISCOVERY_RATE
from dicom_ai_node.audit.campaign import AuditSpec, Depth
from dicom_ai_node.cli import audit_work
from dicom_ai_node.cli.commands import AsJson, ConfigFile, First, Last, Limit
from dicom_ai_node.cli.common import check_folder, configuration, open_database
from dicom_ai_node.cli.printing import Output
from dicom_ai_node.config import Config
from dicom_ai_node.config.bundles import analysed_modalities
from dicom_ai_node.errors import AuditError, ConfigError, StorageError
from dicom_ai_node.store import Database, audits
from dicom_ai_node.study import AuditEvent, AuditState

Number = Annotated[int, typer.Argument(help="The audit's number, as 'audit list' shows it.")]
Detach = Annotated[bool, typer.Option("--detach", help="Leave it to the running node and return.")]


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """What an audit is asked to do, as options."""

    source: Annotated[
        str, typer.Option(help="pacs:NAME, web:NAME (of [sources]), folder:PATH or node.")
    ]
    first: First = None
    last: Last = None
    modality: Annotated[
        str | None,
        typer.Option(
            help="Modalities, separated by commas; without it CR, DX, and what further bundles"
            " look at."
        ),
    ] = None
    headers_only: Annotated[
        bool, typer.Option("--headers-only", help="Ask for no images at all.")
    ] = False
    pixels: Annotated[
        Literal["flagged", "all"] | None,
        typer.Option(help="Whose images to fetch: of studies that the rules flag, or of all."),
    ] = None
    limit: Annotated[int | None, typer.Option(help="At most so many studies.")] = None
    alerts_per_day: Annotated[
        float | None, typer.Option(help="Budget of image alerts for each day of StudyDate.")
    ] = None
    false_discovery_rate: Annotated[
        float,
        typer.Option(help="Share of false ones to expect among the image conflicts (H1 to H3)."),
    ] = FALSE_DISCOVERY_RATE

    def spec(self, config: Config) -> AuditSpec:
        """Return it as an audit keeps it; ConfigError names an option that cannot be."""
        if self.headers_only:
            self._check_without_images()
        if self.modality is None:
            modalities = analysed_modalities(config.model)
        else:
            modalities = tuple(filter(None, map(str.strip, self.modality.upper().split(","))))
        if not modalities:
            raise ConfigError(f"--modality {self.modality!r}: expected at least one, such as CR,DX")
        try:
            return AuditSpec(
                source=_absolute(self.source),
                first_date=self.first.date() if self.first else None,
                last_date=self.last.date() if self.last else None,
                modalities=modalities,
                depth=Depth.HEADERS if self.headers_only else Depth(self.pixels or "flagged"),
                limit=self.limit,
                alerts_per_day=self.alerts_per_day,
                false_discovery_rate=self.false_discovery_rate,
                today=datetime.now(UTC).date(),
            )
        except ValidationError as error:
            raise ConfigError("\n".join(map(_fault, error.errors()))) from None

    def _check_without_images(self) -> None:
        if self.pixels:
            raise ConfigError("--headers-only and --pixels: expected at most one of them")
        if self.alerts_per_day is not None:
            raise ConfigError(
                "--alerts-per-day is of image alerts: it needs images, not --headers-only"
            )
        if self.false_discovery_rate != FALSE_DISCOVERY_RATE:
            raise ConfigError(
                "--false-discovery-rate is of image conflicts: it needs images, not --headers-only"
            )


def _fault(found: Mapping[str, Any]) -> str:
    """Say which option of an audit cannot be as it is."""
    message = found["msg"].removeprefix("Value error, ")
    if not found["loc"]:
        return f"--from, --to: {message}"
    field = str(found["loc"][0])
    option = audit_work.ASKED.get(field, field.replace("_", "-"))
    return f"--{option} {found['input']}: {message}"


def start(
    asked: AuditOptions,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List and count; fetch and keep nothing.")
    ] = False,
    detach: Detach = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> Output:
    """Audit an archive. Runs here until it is done; Ctrl-C pauses it, with exit code 130.

    Rate limit, night window and retries stand in [audit] of the configuration. Exit code 1 when it
    ended before everything was collected, or a folder holds nothing to audit; studies that could
    not be retrieved do not count as that.

    Example: dicom-ai-node audit start --source pacs:main --from 2024-01-01 --to 2024-03-31

    Example: dicom-ai-node audit start --source folder:/archive --headers-only --dry-run

    Example: dicom-ai-node audit start --source web:main --pixels all --alerts-per-day 2 --detach
    """
    settings = configuration(config)
    spec = asked.spec(settings)
    if dry_run:
        return audit_work.dry_run(settings, spec, as_json=as_json)
    db = open_database(settings)
    audit_work.source_of(settings, spec).close()  # ConfigError now, not in the node's log
    lease = settings.audit.lease_seconds
    owner = "" if detach else _owner_here(settings)
    made = spec.model_dump(mode="json")
    number = audits.create(db, made, now=time.time(), owner=owner, lease_seconds=lease)
    return _run(settings, db, number, owner, as_json=as_json)


def list_(config: ConfigFile = None, limit: Limit = 20) -> Output:
    """List audits, newest first.

    Example: dicom-ai-node audit list --json
    """
    return audit_work.listed(audits.find(open_database(configuration(config)), limit=limit))


def show(number: Number, config: ConfigFile = None) -> Output:
    """Show one audit: how far it is, how fast, what it waits for, its faults.

    Example: dicom-ai-node audit show 3
    """
    db = open_database(configuration(config))
    return audit_work.audit(db, _known(db, number))


def pause(number: Number, config: ConfigFile = None) -> Output:
    """Pause a running audit, wherever it runs, after the study under way.

    Example: dicom-ai-node audit pause 3
    """
    return _moved(configuration(config), number, AuditEvent.PAUSE)


def cancel(number: Number, config: ConfigFile = None) -> Output:
    """End an audit for good. What it collected stays and can be reported.

    Example: dicom-ai-node audit cancel 3
    """
    return _moved(configuration(config), number, AuditEvent.CANCEL)


def resume(
    number: Number, detach: Detach = False, config: ConfigFile = None, as_json: AsJson = False
) -> Output:
    """Go on with an audit that was paused, failed or killed. Nothing is asked for twice.

    Example: dicom-ai-node audit resume 3 --detach
    """
    settings = configuration(config)
    db = open_database(settings)
    _known(db, number)
    owner = "" if detach else _owner_here(settings)
    lease = settings.audit.lease_seconds
    before = audits.resume(db, number, now=time.time(), owner=owner, lease_seconds=lease)
    if before is None:
        state = _known(db, number).state
        if state in (AuditState.DONE, AuditState.CANCELLED):
            raise AuditError(f"audit {number} is {state}: expected a paused, failed or running one")
        raise AuditError(
            f"audit {number} is worked on by another process, or was until it was killed:"
            f" then try again in {lease:g} s"
        )
    return _run(settings, db, number, owner, as_json=as_json)


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
) -> Output:
    """Write what an audit found as HTML, CSV and JSON. May be asked for while it runs.

    Example: dicom-ai-node audit report 3 --out findings/

    Example: dicom-ai-node audit report 3 --out findings/ --with AccessionNumber
    """
    check_folder("--out", out)
    settings = configuration(config)
    named = _allowed(settings, identifiers or [])
    db = open_database(settings)
    return audit_work.report(settings, db, _known(db, number), out, named)


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


def _absolute(source: str) -> str:
    """Return a folder's name as the node, which works elsewhere, finds it too."""
    kind, _, path = source.partition(":")
    if kind != "folder":
        return source
    if not Path(path).is_dir():
        raise ConfigError(f"--source {source}: no such folder")
    return f"folder:{Path(path).resolve()}"


def _run(settings: Config, db: Database, number: int, owner: str, *, as_json: bool) -> Output:
    """Work here when there is an owner, else say that the node will."""
    if not owner:
        said = f"the node will run audit {number}: dicom-ai-node audit show {number}"
        return replace(audit_work.audit(db, _known(db, number)), blocks=[said])
    audit_work.work(settings, db, number, owner, as_json=as_json)
    done = _known(db, number)
    nothing = not done.listed and done.spec["source"].startswith("folder:")
    # The wrong folder, rather than a quiet day.
    return replace(audit_work.audit(db, done), ok=not nothing)


def _known(db: Database, number: int) -> audits.AuditRow:
    """Return an audit; AuditError when there is none of that number."""
    row = audits.show(db, number)
    if row is None:
        raise AuditError(f"no audit {number}; 'dicom-ai-node audit list' shows those there are")
    return row


def _owner_here(settings: Config) -> str:
    """Return a name under which this process leases an audit; StorageError without a spool."""
    from dicom_ai_node.audit.worker import new_owner

    spool = settings.storage.spool
    try:
        spool.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StorageError(f"storage.spool = {spool}: {error.strerror}") from error
    return new_owner("cli")


def _moved(settings: Config, number: int, event: AuditEvent) -> Output:
    from dicom_ai_node.audit.study import remove_abandoned

    db = open_database(settings)
    _known(db, number)
    moved = audits.apply(db, number, event, now=time.time())
    assert moved is not None
    remove_abandoned(db, settings.storage.spool)
    before, after = moved
    return Output(
        [{"id": number, "state": after or before, "changed": after is not None}],
        blocks=[f"audit {number} is {after or f'{before}: nothing changes'}"],
        ok=after is not None,
    )
