"""Other nodes: ``echo`` and ``demo``."""

from pathlib import Path
from typing import Annotated

import typer

from dicom_ai_node.cli.common import (
    AsJson,
    ConfigFile,
    ExitCode,
    configuration,
    console,
    print_json,
)
from dicom_ai_node.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(echo)
    app.command()(demo)


def echo(
    destination: Annotated[str, typer.Argument(help="A name under [destinations].")],
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """C-ECHO a destination, and ask which kinds of report it accepts.

    Exit code 1 when it does not answer.

    Example: dicom-ai-node echo pacs
    """
    from dicom_ai_node.deliver.echo import echo as ask

    settings = configuration(config)
    if destination not in settings.destinations:
        known = ", ".join(settings.destinations) or "none is configured"
        raise ConfigError(f"no destination {destination!r}; there is: {known}")
    answer = ask(settings, destination)
    if as_json:
        print_json(answer.as_dict())
    else:
        console.print(answer.text)
    if not answer.ok:
        raise typer.Exit(ExitCode.NO)


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
