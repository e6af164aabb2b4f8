"""``monitor``, which shows figures where none of its commands is asked for."""

import typer

from dicom_ai_node.cli.commands import MARKUP, outlined

monitor = typer.Typer(add_completion=False, rich_markup_mode=MARKUP)
monitor.callback(invoke_without_command=True)(outlined("monitor", "figures"))
monitor.command("resume")(outlined("monitor", "resume"))
monitor.command("shadow")(outlined("monitor", "shadow"))
