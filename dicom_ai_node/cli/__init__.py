"""The command line: every command there is, and how each of them ends.

Exit codes: :class:`dicom_ai_node.errors.ExitCode`. A command is imported when it is run, so that
help is quick (:mod:`.outline`), and what only reads the database loads neither highdicom nor
pynetdicom.
"""

import errno
import os
import sys
import warnings
from io import TextIOWrapper
from typing import Annotated, Any

import typer

from dicom_ai_node.cli.commands import MARKUP, Command, CommandGroup
from dicom_ai_node.errors import ExitCode, NodeError
from dicom_ai_node.terminal import complain, silence_output

_COMMANDS = """\
node
  serve: Run the node: receivers, analyser, deliverer, maintenance and web, supervised.
  status: Say how the node is: processes, queues, disk. Exit code 1 when it is not ready.
  check-config: Check the configuration and say what is in force. Exit code 2 when it has faults.
  role:
studies
  studies: List studies, newest first: recorded age and sex, estimate, verdict, rules to look at.
  show: Show one study: the verdict, then findings, images, every transition and each delivery.
  quarantine: List what was received and could not be filed, with its reason, newest first.
  requeue: Analyse a study again, or send dead letters again.
infer
  infer: Estimate age and sex from DICOM, PNG and JPEG files, without a PACS.
check_header
  check-header: Hold headers against the rules, without network or PACS.
node
  echo: Ask whether a peer answers: C-ECHO and what it accepts, or QIDO-RS of a DICOMweb archive.
  demo: Run a PACS and the node on this machine, and see the reports come back.
  db upgrade: Make the database, or bring it to the newest schema; 'serve' does it by itself.
recalibrate
  model recalibrate: Calibrate a bundle on a site's own images and write it as a new bundle.
model
  model compare: Say which bundle did better on the site's own trusted headers: the live one or the
    shadow.
  model list: List the shipped bundles, and those that the configuration names.
  model show: Show a bundle: what it is for, what it was trained on, how well it does.
  model verify: Check that a bundle is complete and that its weights are the ones it was made with.
  model export: Write a bundle's network as ONNX, and check that it answers as before.
monitor_group
  monitor: Show error, coverage, sex accuracy and gate refusals against trusted headers, and drift.
proposals
  proposals list: List proposals, newest first.
  proposals show: Show one proposal: value, source, interval or probability, rules, every decision.
decide
  proposals accept: Accept proposals: their values are right. Nothing is sent before they are
    applied.
  proposals reject: Reject proposals: the same value from the same source is not proposed again.
copies
  proposals apply: Queue filled copies of a study's images for each destination whose 'fill' takes
    them.
  proposals preview: Print what a destination would get changed, tag by tag. Sends and keeps
    nothing.
audit
  audit start: Audit an archive. Runs here until it is done; Ctrl-C pauses it, with exit code 130.
  audit list: List audits, newest first.
  audit show: Show one audit: how far it is, how fast, what it waits for, its faults.
  audit pause: Pause a running audit, wherever it runs, after the study under way.
  audit cancel: End an audit for good. What it collected stays and can be reported.
  audit resume: Go on with an audit that was paused, failed or killed. Nothing is asked for twice.
  audit report: Write what an audit found as HTML, CSV and JSON. May be asked for while it runs.
"""
"""Commands below the module of their function, each with the first line of its help, as there."""

_GROUPS = {
    "db": "The database.",
    "model": "The model bundles.",
    "proposals": (
        "Values proposed for missing and implausible header fields: decide on them, apply them."
    ),
    "audit": (
        "Find wrong headers in a whole archive: list it, read it, estimate where it is needed."
    ),
}


class _Commands(CommandGroup):
    """Ends a command that is interrupted, or that nobody reads any more, in good order."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        module = ""
        for line in _COMMANDS.replace("\n    ", " ").splitlines():
            if not line.startswith(" "):
                module = line
                continue
            path, _, first_line = line.strip().partition(":")
            group, _, name = path.rpartition(" ")
            self._commands_of(group)[name] = Command(name, module, first_line.strip())

    def _commands_of(self, group: str) -> Any:
        if not group:
            return self.commands
        found: Any = self.commands.get(group)
        if found is None:
            found = self.commands[group] = CommandGroup(
                name=group, help=_GROUPS[group], no_args_is_help=True, rich_markup_mode=MARKUP
            )
        return found.commands

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
    rich_markup_mode=MARKUP,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
        from dicom_ai_node.cli.common import explain

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
