"""What leaves the program: text made safe for terminal, CSV, page and log, and files for one user.

A header can hold anything: codes that move the cursor or turn the reading order round, and cells
that a spreadsheet takes for a formula. Every table, CSV file and page of this program writes
through here.
"""

import csv
import json
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

Cell = str | int | float | None

# Controls (C0, DEL, C1), line separators, marks and overrides of the reading order, characters
# without width, tags, and lone surrogates (bytes of a file name that are not UTF-8). The joiners
# U+200C and U+200D stay: Persian and Indic words are spelt with them.
_HIDDEN = (
    "\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f"
)
_UNSEEN = re.compile(f"[{_HIDDEN}]")
_UNSEEN_BUT_NEWLINE = re.compile(f"(?!\n)[{_HIDDEN}]")
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}

# How a spreadsheet recognises a formula; the wide forms are those of East Asian keyboards. Where
# cells are separated by semicolons, one begins within ours after each of them.
_BEGIN = "=+\\-@\uff1d\uff0b\uff0d\uff20"
_FORMULA = re.compile(rf"(^|;)(\s*)(?=[{_BEGIN}])")


def visible(text: str, *, lines: bool = False) -> str:
    r"""Return ``text`` with each character that is not seen written out: ``\x1b``, ``\u202e``.

    With ``lines`` newlines stay: for texts of ours that have several lines.
    """
    return (_UNSEEN_BUT_NEWLINE if lines else _UNSEEN).sub(_written_out, text)


def csv_cell(value: Cell) -> Cell:
    """Return a cell that no spreadsheet computes and no terminal obeys.

    An apostrophe before what would be a formula says that it is text. Numbers, negative ones too,
    stay numbers; a header's ``-5`` is a text.
    """
    return _FORMULA.sub(r"\1\2'", visible(value)) if isinstance(value, str) else value


class CsvWriter:
    """Writes CSV (RFC 4180) whose cells went through :func:`csv_cell`."""

    def __init__(self, stream: TextIO) -> None:
        self._writer = csv.writer(stream)

    def writerow(self, row: Iterable[Cell]) -> None:
        """Write one line."""
        self._writer.writerow([csv_cell(cell) for cell in row])

    def writerows(self, rows: Iterable[Iterable[Cell]]) -> None:
        """Write a line for each row."""
        for row in rows:
            self.writerow(row)


def json_text(value: Any) -> str:
    """Return ``value`` as JSON on one line; what is not seen is escaped, so nothing is lost."""
    return escaped_json(json.dumps(value, ensure_ascii=False, default=str))


def escaped_json(text: str) -> str:
    """Escape what is not seen in a JSON text; its own line breaks stay."""
    return _UNSEEN_BUT_NEWLINE.sub(lambda found: json.dumps(found[0])[1:-1], text)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that its owner alone may read, in place of an earlier one, whole or not at all.

    Raises OSError that names ``path``.
    """
    part = path.with_name(f".{path.name[:200]}.part")
    try:
        part.unlink(missing_ok=True)
        part.touch(mode=0o600, exist_ok=False)
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):  # it has its name, or could not be made
            part.unlink()


def make_private(folder: Path) -> list[Path]:
    """Make a folder, and those above it that are missing, for their owner alone; return these."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)
    return missing


def _written_out(found: re.Match[str]) -> str:
    character = found[0]
    code = ord(character)
    if code < 0x100:
        return _SHORT.get(character, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
