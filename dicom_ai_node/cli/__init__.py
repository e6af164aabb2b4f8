"""The command line. Exit codes: :class:`dicom_ai_node.errors.ExitCode`.

Each command imports what it needs when it runs, so that ``--help`` is quick and a receiver process
never loads the network's libraries.
"""

import errno
import os
import sys
import warnings
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from dicom_ai_node.cli import (
    archive,
    audit,
    copies,
    decide,
    exchange,
    files,
    headers,
    model,
    monitor,
    node,
    peers,
    proposals,
)
from dicom_ai_node.cli.common import complain, explain
from dicom_ai_node.errors import ExitCode, NodeError
from dicom_ai_node.terminal import silence_output


class _Commands(TyperGroup):
    """Ends a command that is interrupted, or that nobody reads any more, in good order."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            complain("interrupted")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except BrokenPipeError:
            silence_output()
            raise typer.Exit(ExitCode.CLOSED_PIPE) from None


app = typer.Typer(
    name="dicom-ai-node",
    help="Audits PatientAge and PatientSex of chest radiographs and answers a PACS with a "
    "Structured Report. Not a medical device.",
    epilog="Exit codes: 0 done, 1 the answer is no or something is missing, "
    "2 wrong command line or configuration, 3 spool or database cannot be used, "
    "130 interrupted, 141 nobody read on.",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (node, archive, files, headers, peers):
    module.register(app)
exchange.register(model.app)
decide.register(proposals.app)
copies.register(proposals.app)
app.add_typer(node.database, name="db")
app.add_typer(model.app, name="model")
app.add_typer(monitor.app, name="monitor")
app.add_typer(proposals.app, name="proposals")
app.add_typer(audit.app, name="audit")


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"dicom-ai-node {version('dicom-ai-node')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def main() -> None:
    """Run the command line and end with an exit code; expected errors are no tracebacks.

    What a command writes is for its user alone: nearly all of it may hold data of patients.
    """
    os.umask(0o077)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that knows few characters
    warnings.filterwarnings("ignore", module="pydicom")  # they quote values of headers
    sys.exit(_flushed(_code()))


def _code() -> int:
    try:
        app()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else ExitCode.DONE
    except NodeError as error:
        explain(error)
        return error.exit_code
    except OSError as error:
        if error.filename is None and error.errno not in _UNWRITABLE:
            raise  # neither a file that a person named nor the output
        complain(f"{error.filename or 'the output cannot be written'}: {error.strerror}")
        return ExitCode.NO
    return ExitCode.DONE


_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def _flushed(code: int) -> int:
    """Return how the command ended, once what it printed is out."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        silence_output()
        return ExitCode.CLOSED_PIPE
    except OSError as error:
        silence_output(errors=False)
        complain(f"the output cannot be written: {error.strerror}")
        return ExitCode.NO
    return code
