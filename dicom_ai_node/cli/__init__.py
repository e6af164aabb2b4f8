"""The command line. Exit codes: :class:`dicom_ai_node.errors.ExitCode`.

Each command imports what it needs when it runs, so that ``--help`` is quick and a receiver process
never loads the network's libraries.
"""

import sys
import warnings

import typer

from dicom_ai_node.cli import (
    archive,
    audit,
    copies,
    decide,
    exchange,
    files,
    model,
    monitor,
    node,
    peers,
    proposals,
)
from dicom_ai_node.cli.common import complain, explain
from dicom_ai_node.errors import ExitCode, NodeError

app = typer.Typer(
    name="dicom-ai-node",
    help="Audits PatientAge and PatientSex of chest radiographs and answers a PACS with a "
    "Structured Report. Not a medical device.",
    epilog="Exit codes: 0 done, 1 the answer is no or something is missing, "
    "2 wrong command line or configuration, 3 spool or database cannot be used.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (node, archive, files, peers):
    module.register(app)
exchange.register(model.app)
decide.register(proposals.app)
copies.register(proposals.app)
app.add_typer(node.database, name="db")
app.add_typer(model.app, name="model")
app.add_typer(monitor.app, name="monitor")
app.add_typer(proposals.app, name="proposals")
app.add_typer(audit.app, name="audit")


def main() -> None:
    """Run the command line; errors meant for a person are printed without a traceback."""
    warnings.filterwarnings("ignore", module="pydicom")  # they quote values of headers
    try:
        app()
    except NodeError as error:
        explain(error)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.filename is None:
            raise  # no file that a person named
        complain(f"{error.filename}: {error.strerror}")
        sys.exit(ExitCode.NO)
