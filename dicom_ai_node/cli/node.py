"""The daemon: ``serve``, ``check-config``, ``status``, ``db upgrade``; ``echo`` and ``demo``."""

import gc
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from dicom_ai_node.cli.commands import AsJson, ConfigFile
from dicom_ai_node.cli.common import configuration, find_config
from dicom_ai_node.cli.printing import Block, Output, Whole
from dicom_ai_node.config import NO_CALLERS, Config, located
from dicom_ai_node.config.example import example
from dicom_ai_node.config.peers import Destination
from dicom_ai_node.errors import ConfigError, ExitCode, StorageError
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
    gc.disable()  # until all is imported: to look for what that leaves takes a sixth of the start
    # What the work of numpy is here one thread does; the one that it would have beside, from its
    # import on, could not be forked.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from dicom_ai_node.app import serve as run

    raise typer.Exit(run(configuration(config)))


def role(
    name: Annotated[str, typer.Argument(help="The role.")],
    config: ConfigFile = None,
    number: Annotated[int, typer.Option(help="Which one of several.")] = 1,
) -> None:
    """Be one process of the node, as ``serve`` forks them: alone, for a debugger."""
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
) -> Output:
    """Check the configuration and say what is in force. Exit code 2 when it has faults.

    Relative paths in it lead from the folder of the file, wherever a command is run.

    Example: dicom-ai-node check-config --example > node.toml

    Example: dicom-ai-node check-config --example --data /var/lib/dicom-ai-node > node.toml
    """
    if show_example:
        text = example(data.absolute() if data else None).rstrip("\n")
        return Output(
            [text], json=lambda whole: {"example": f"{whole}\n"}, blocks=[Whole(Text(text))]
        )
    if data is not None:
        raise ConfigError("--data: expected with --example only")
    checked = configuration(config)
    secret = {"storage": {"database"}, "log": {"hash_key"}}
    return Output(
        [checked],
        json=lambda whole: whole.model_dump_json(exclude=secret),
        blocks=_in_force(find_config(config), checked),
    )


def _in_force(path: Path, config: Config) -> Iterator[Block]:
    node, receive, worklist = config.node, config.receive, config.worklist
    yield Whole(f"{path}: no faults")
    yield from _places(config)
    yield f"{node.ae_title} listens on {node.bind}:{node.port}"
    everybody = "everybody" if receive.anybody else "this machine"
    yield f"callers: {', '.join(caller.ae_title for caller in receive.callers) or everybody}"
    if config.refuses_other_machines:
        yield Text(f"no callers: {NO_CALLERS}", style="yellow")
    for name, peer in config.destinations.items():
        yield f"to {name}, {peer.ae_title} at {peer.host}:{peer.port}: {_sent(peer)}"
    if not any(peer.send for peer in config.destinations.values()):
        yield Text("no destination: reports are made and kept, but not sent", style="yellow")
    for name, source in config.sources.items():
        yield f"can be audited: {source.kind}:{name}"
    if worklist is not None:
        at = f"{worklist.ae_title} at {worklist.host}:{worklist.port}"
        yield f"the worklist is asked: {at}"


def _places(settings: Config) -> Iterator[Block]:
    """Say where a node keeps what it has."""
    yield Whole(f"spool: {settings.storage.spool}")
    yield Whole(f"database: {Database(settings.storage.database).place}")


def _sent(peer: Destination) -> str:
    """Say what a destination gets."""
    parts: list[str] = [*peer.send]
    if peer.fill != "none":
        parts.append(f"filled copies ({peer.fill}{', research' if peer.research else ''})")
    if peer.forward != "none":
        parts.append(f"the received images ({peer.forward})")
    return ", ".join(parts) or "nothing"


def status(config: ConfigFile = None) -> Output:
    """Say how the node is: processes, queues, disk. Exit code 1 when it is not ready.

    Example: dicom-ai-node status --json
    """
    from dicom_ai_node.ops.health import Prober, readiness

    settings = configuration(config)
    db = Database(settings.storage.database)
    prober = Prober(lambda begin: readiness(settings, db, begin=begin), patience=_PATIENCE_SECONDS)
    report = prober.readiness()
    reasons = [] if report.stuck else _quarantined(db)
    where = str(located(find_config(config)))
    put_aside = [{"reason": why, "count": count} for why, count in reasons]
    record = {"configuration": where, "database": db.place} | report.as_dict()
    marks = {True: ("ok  ", "green"), False: ("FAIL", "red")}
    checks = [
        Whole(Text.assemble(marks[check.ok], f" {check.name}: {check.text}"))
        for check in report.checks
    ]
    blocks = [Whole(f"configuration: {where}"), *_places(settings), *checks]
    return Output(
        [record | {"quarantined": put_aside}],
        blocks=[*blocks, *_in_quarantine(settings, reasons)],
        ok=report.ready,
    )


def _quarantined(db: Database) -> list[tuple[str, int]]:
    try:
        return reasons_of_quarantine(db)
    except StorageError:
        return []  # the check of the database says why


def _in_quarantine(settings: Config, reasons: list[tuple[str, int]]) -> Iterator[Block]:
    """Say how much was put aside, and for which reasons: nobody else would tell."""
    there = sum(1 for _ in Spool(settings.storage.spool).quarantine.glob("*.dcm"))
    if not reasons or not there:  # or a person has removed them
        return
    yield Text(f"quarantine: {there} files, see dicom-ai-node quarantine", style="yellow")
    for reason, count in reasons[:_MOST_REASONS]:
        yield Whole(f"  {count} x {reason}")


def upgrade(config: ConfigFile = None) -> str:
    """Make the database, or bring it to the newest schema; 'serve' does it by itself.

    Needed once for an audit on a machine where no node has run.

    Example: dicom-ai-node db upgrade -c config/node.toml
    """
    db = Database(configuration(config).storage.database)
    before = db.revision()
    return f"schema {before or 'empty'} -> {db.upgrade()}, of {db.place}"


def echo(
    name: Annotated[
        str,
        typer.Argument(help="A name of [destinations] or [sources], pacs:NAME, or worklist."),
    ],
    config: ConfigFile = None,
) -> Output:
    """Ask whether a peer answers: C-ECHO and what it accepts, or QIDO-RS of a DICOMweb archive.

    Exit code 1 when it does not answer, or not as the configuration needs it.

    Example: dicom-ai-node echo pacs

    Example: dicom-ai-node echo worklist
    """
    from dicom_ai_node.ops.echo import echo as ask

    answer = ask(configuration(config), name)
    return Output([asdict(answer)], blocks=[Text(answer.text)], ok=answer.ok)


def demo(
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of DICOM, PNG or JPEG images instead of the synthetic ones."),
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(help="Keep spool, database, log and reports in this folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a PACS and the node on this machine, and see the reports come back.

    Exit code 1 when an expected report did not arrive or is not valid.

    Example: dicom-ai-node demo --images my-radiographs/
    """
    from dicom_ai_node.demo.run import run_demo

    if not run_demo(images, keep=keep, as_json=as_json):
        raise typer.Exit(ExitCode.NO)
