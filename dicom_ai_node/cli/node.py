"""The daemon: ``serve``, ``check-config``, ``status``, ``db upgrade``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from dicom_ai_node.cli.common import (
    AsJson,
    ConfigFile,
    ExitCode,
    configuration,
    console,
    find_config,
    print_json,
)
from dicom_ai_node.config import NO_CALLERS, Config, located
from dicom_ai_node.config.example import example
from dicom_ai_node.config.peers import Destination
from dicom_ai_node.errors import ConfigError, StorageError
from dicom_ai_node.spool import Spool
from dicom_ai_node.store import Database
from dicom_ai_node.store.instances import reasons_of_quarantine

_PATIENCE_SECONDS = 15.0

_MOST_REASONS = 5


def serve(config: ConfigFile = None) -> None:
    """Run the node: receivers, analyser, deliverer, maintenance and web, supervised.

    SIGTERM and Ctrl-C finish or hand back what is in flight. The database is upgraded first.

    Example: dicom-ai-node serve -c config/node.toml
    """
    from dicom_ai_node.app import serve as run

    settings = configuration(config)
    raise typer.Exit(run(settings, located(find_config(config))))


def role(
    name: Annotated[str, typer.Argument(help="The role.")],
    config: ConfigFile = None,
    number: Annotated[int, typer.Option(help="Which one of several.")] = 1,
) -> None:
    """Be one process of the node; ``serve`` starts these."""
    from dicom_ai_node.app import run_role

    raise typer.Exit(run_role(name, number, configuration(config)))


def check_config(
    config: ConfigFile = None,
    show_example: Annotated[
        bool, typer.Option("--example", help="Print a commented file with every key and exit.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(help="Of --example: folder of spool and database. Default: var beside it."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check the configuration and say what is in force. Exit code 2 when it has faults.

    Relative paths in it lead from the folder of the file, wherever a command is run.

    Example: dicom-ai-node check-config --example > node.toml

    Example: dicom-ai-node check-config --example --data /var/lib/dicom-ai-node > node.toml
    """
    if show_example:
        typer.echo(example(data.absolute() if data else None), nl=False)
        return
    if data is not None:
        raise ConfigError("--data: expected with --example only")
    path = find_config(config)
    checked = configuration(config)
    if as_json:
        typer.echo(checked.model_dump_json(exclude={"storage": {"database"}, "log": {"hash_key"}}))
        return
    console.print(f"{path}: no faults", soft_wrap=True)
    for line in _places(checked):
        console.print(line, soft_wrap=True)
    node = checked.node
    console.print(f"{node.ae_title} listens on {node.bind}:{node.port}")
    callers = ", ".join(caller.ae_title for caller in checked.receive.callers)
    everybody = "everybody" if checked.receive.anybody else "this machine"
    console.print(f"callers: {callers or everybody}")
    if checked.refuses_other_machines:
        console.print(f"no callers: {NO_CALLERS}", style="yellow")
    for name, one in checked.destinations.items():
        console.print(f"to {name}, {one.ae_title} at {one.host}:{one.port}: {_sent(one)}")
    if not any(one.send for one in checked.destinations.values()):
        console.print("no destination: reports are made and kept, but not sent", style="yellow")
    for name, source in checked.sources.items():
        console.print(f"can be audited: {source.kind}:{name}")
    if (worklist := checked.worklist) is not None:
        at = f"{worklist.ae_title} at {worklist.host}:{worklist.port}"
        console.print(f"the worklist is asked: {at}")


def _places(settings: Config) -> tuple[str, str]:
    """Say where a node keeps what it has."""
    db = Database(settings.storage.database)
    return f"spool: {settings.storage.spool}", f"database: {db.place}"


def _sent(one: Destination) -> str:
    """Say what a destination gets."""
    parts: list[str] = [*one.send]
    if one.fill != "none":
        parts.append(f"filled copies ({one.fill}{', research' if one.research else ''})")
    if one.forward != "none":
        parts.append(f"the received images ({one.forward})")
    return ", ".join(parts) or "nothing"


def status(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Say how the node is: processes, queues, disk. Exit code 1 when it is not ready.

    Example: dicom-ai-node status --json
    """
    from dicom_ai_node.ops.health import Prober, readiness

    settings = configuration(config)
    db = Database(settings.storage.database)
    prober = Prober(lambda begin: readiness(settings, db, begin=begin), patience=_PATIENCE_SECONDS)
    report = prober.readiness()
    reasons = [] if report.stuck else _quarantined(db)
    if as_json:
        where = {"configuration": str(located(find_config(config))), "database": db.place}
        put_aside = {"quarantined": [{"reason": why, "count": count} for why, count in reasons]}
        print_json(where | report.as_dict() | put_aside)
    else:
        console.print(f"configuration: {located(find_config(config))}", soft_wrap=True)
        for line in _places(settings):
            console.print(line, soft_wrap=True)
        for check in report.checks:
            mark = ("ok  ", "green") if check.ok else ("FAIL", "red")
            console.print(Text.assemble(mark, f" {check.name}: {check.text}"), soft_wrap=True)
        _print_quarantine(settings, reasons)
    if not report.ready:
        raise typer.Exit(ExitCode.NO)


def _quarantined(db: Database) -> list[tuple[str, int]]:
    try:
        return reasons_of_quarantine(db)
    except StorageError:
        return []  # the check of the database says why


def _print_quarantine(settings: Config, reasons: list[tuple[str, int]]) -> None:
    """Say how much was put aside, and for which reasons: nobody else would tell."""
    there = sum(1 for _ in Spool(settings.storage.spool).quarantine.glob("*.dcm"))
    if not reasons or not there:  # or a person has removed them
        return
    console.print(f"quarantine: {there} files, see dicom-ai-node quarantine", style="yellow")
    for reason, count in reasons[:_MOST_REASONS]:
        console.print(f"  {count} x {reason}", soft_wrap=True)


def upgrade(config: ConfigFile = None) -> None:
    """Make the database, or bring it to the newest schema; 'serve' does it by itself.

    Needed once for an audit on a machine where no node has run.

    Example: dicom-ai-node db upgrade -c config/node.toml
    """
    db = Database(configuration(config).storage.database)
    before = db.revision()
    console.print(f"schema {before or 'empty'} -> {db.upgrade()}, of {db.place}", soft_wrap=True)
