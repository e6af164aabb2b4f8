"""An audit by its number: worked on here or left to the node, paused, cancelled, resumed."""

import time
from typing import Annotated

import typer

from dicom_ai_node.cli import audit_shown
from dicom_ai_node.cli.common import (
    AsJson,
    ConfigFile,
    ExitCode,
    configuration,
    console,
    open_database,
    print_json,
)
from dicom_ai_node.config import Config
from dicom_ai_node.errors import AuditError, StorageError
from dicom_ai_node.store import Database, audits
from dicom_ai_node.study import AuditEvent, AuditState

Number = Annotated[int, typer.Argument(help="The audit's number, as 'audit list' shows it.")]


def pause(number: Number, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Pause a running audit, wherever it runs, after the study under way.

    Example: dicom-ai-node audit pause 3
    """
    _move(configuration(config), number, AuditEvent.PAUSE, as_json=as_json)


def cancel(number: Number, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """End an audit for good. What it collected stays and can be reported.

    Example: dicom-ai-node audit cancel 3
    """
    _move(configuration(config), number, AuditEvent.CANCEL, as_json=as_json)


def resume(
    number: Number,
    detach: Annotated[
        bool, typer.Option("--detach", help="Leave it to the running node and return.")
    ] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Go on with an audit that was paused, failed or killed. Nothing is asked for twice.

    Example: dicom-ai-node audit resume 3 --detach
    """
    settings = configuration(config)
    db = open_database(settings)
    known(db, number)
    owner = "" if detach else owner_here(settings)
    lease = settings.audit.lease_seconds
    before = audits.resume(db, number, now=time.time(), owner=owner, lease_seconds=lease)
    if before is None:
        state = known(db, number).state
        if state in (AuditState.DONE, AuditState.CANCELLED):
            raise AuditError(f"audit {number} is {state}: expected a paused, failed or running one")
        raise AuditError(
            f"audit {number} is worked on by another process, or was until it was killed:"
            f" then try again in {lease:g} s"
        )
    run(settings, db, number, owner, as_json=as_json)


def run(settings: Config, db: Database, number: int, owner: str, *, as_json: bool) -> None:
    """Work here when there is an owner, else say that the node will."""
    if owner:
        from dicom_ai_node.cli import audit_watch

        audit_watch.work(settings, db, number, owner, as_json=as_json)
        done = known(db, number)
        audit_shown.one(db, done, as_json=as_json)
        if not done.listed and done.spec["source"].startswith("folder:"):
            raise typer.Exit(ExitCode.NO)  # the wrong folder, rather than a quiet day
    elif as_json:
        audit_shown.one(db, known(db, number), as_json=True)
    else:
        console.print(f"the node will run audit {number}: dicom-ai-node audit show {number}")


def known(db: Database, number: int) -> audits.AuditRow:
    """Return an audit; AuditError when there is none of that number."""
    row = audits.show(db, number)
    if row is None:
        raise AuditError(f"no audit {number}; 'dicom-ai-node audit list' shows those there are")
    return row


def owner_here(settings: Config) -> str:
    """Return a name under which this process leases an audit; StorageError without a spool."""
    from dicom_ai_node.audit.worker import new_owner

    spool = settings.storage.spool
    try:
        spool.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StorageError(f"storage.spool = {spool}: {error.strerror}") from error
    return new_owner("cli")


def _move(settings: Config, number: int, event: AuditEvent, *, as_json: bool) -> None:
    from dicom_ai_node.audit.study import remove_abandoned

    db = open_database(settings)
    known(db, number)
    moved = audits.apply(db, number, event, now=time.time())
    assert moved is not None
    remove_abandoned(db, settings.storage.spool)
    before, after = moved
    if as_json:
        print_json({"id": number, "state": after or before, "changed": after is not None})
    else:
        console.print(f"audit {number} is {after or f'{before}: nothing changes'}")
    if after is None:
        raise typer.Exit(ExitCode.NO)
