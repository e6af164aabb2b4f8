"""Other nodes: ``echo`` and ``demo``."""

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
    print_json,
)


def echo(
    name: Annotated[
        str,
        typer.Argument(help="A name of [destinations] or [sources], pacs:NAME, or worklist."),
    ],
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Ask whether a peer answers: C-ECHO and what it accepts, or QIDO-RS of a DICOMweb archive.

    Exit code 1 when it does not answer, or not as the configuration needs it.

    Example: dicom-ai-node echo pacs

    Example: dicom-ai-node echo worklist
    """
    from dicom_ai_node.ops.echo import echo as ask

    answer = ask(configuration(config), name)
    if as_json:
        print_json(answer.as_dict())
    else:
        console.print(Text(answer.text))
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
