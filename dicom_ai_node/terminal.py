"""The terminal: what is printed there is seen, never obeyed."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from dicom_ai_node.errors import ExitCode
from dicom_ai_node.output import visible

_PIPED = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 200
"""Columns where there is no terminal: whole lines for grep, not 80 characters of them."""


class GuardedConsole(Console):
    """Prints texts of headers and peers with their control characters written out.

    In a string, such as a cell of a table, a line break is one of them; a ``Text`` is made by this
    program and may have several lines.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a string as it is to be seen; its width is counted after that."""
        return super().render_str(visible(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render anything; what a ``Text`` held is caught here."""
        return _seen(super().render(renderable, options))

    def on_broken_pipe(self) -> None:
        """End quietly when nobody reads any more, as in ``... | head``."""
        self.quiet = True
        silence_output()
        raise SystemExit(ExitCode.CLOSED_PIPE)


def silence_output(*, errors: bool = True) -> None:
    """Send what is still in the buffers of a closed pipe nowhere: Python flushes them at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr) if errors else (sys.stdout,):
        with suppress(OSError, ValueError):  # a stream without a file
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _seen(segments: Iterable[Segment]) -> Iterator[Segment]:
    for segment in segments:
        if segment.control:
            yield segment
        else:
            yield Segment(visible(segment.text, lines=True), segment.style)


console = GuardedConsole(markup=False, highlight=False, width=_PIPED)
"""Without markup: what is printed may hold brackets of a file name or of a reason."""
progress_console = GuardedConsole(stderr=True, markup=False, highlight=False)


def plain_terminal() -> bool:
    """Whether nobody looks at a progress bar."""
    return not progress_console.is_terminal or bool(os.environ.get("CI"))


def complain(error: Exception | str) -> None:
    """Print an error to standard error."""
    progress_console.print(Text.assemble(("error:", "bold red"), f" {error}"), soft_wrap=True)
