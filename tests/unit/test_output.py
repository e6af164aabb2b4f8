"""What a header may hold and a terminal, a spreadsheet or a log must not obey."""

import csv
import io
import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from dicom_ai_node.output import (
    CsvWriter,
    csv_cell,
    json_text,
    make_private,
    visible,
    write_private,
)
from dicom_ai_node.terminal import GuardedConsole

ESCAPE = "\x1b[2J\x1b]0;owned\x07"
NASTY = [
    "\x1b[31m",
    "\x9b31m",
    "\x00",
    "\x7f",
    "\u202e",
    "\u2066",
    "\u200b",
    "\u2028",
    "\ufeff",
    "\U000e0041",
    "\udc80",
]


@pytest.mark.parametrize("text", NASTY)
def test_what_is_not_seen_is_written_out(text: str) -> None:
    shown = visible(f"a{text}b")
    assert shown.isprintable()
    assert shown.startswith("a\\")
    assert shown.endswith("b")


def test_what_is_seen_stays() -> None:
    for text in ("066Y", "a\\b", "Müller^Ä", "東京", "\u0645\u06cc\u200c\u062e", "C:/a b"):
        assert visible(text) == text
    assert visible("a\nb\tc") == r"a\nb\tc"
    assert visible("a\nb\x1b", lines=True) == "a\nb\\x1b"


@pytest.mark.parametrize(
    "text",
    [
        "=HYPERLINK(1)",
        "+1-2",
        "-2+3",
        "@SUM(A1)",
        "  =1",
        "\u00a0=1",
        "\uff1d1",
        "\uff20A1",
        "-5 years; =1",
        "-5",
        "+5.25",
        "-",
        "=",
    ],
)
def test_a_formula_becomes_text(text: str) -> None:
    cell = str(csv_cell(text))
    assert cell.lstrip().startswith("'")
    assert cell.replace("'", "") == text


def test_a_formula_behind_a_semicolon_becomes_text() -> None:
    assert csv_cell("E2: 010Y; =1+1") == "E2: 010Y; '=1+1"


@pytest.mark.parametrize("text", ["066Y", "a-b", "", "1+1"])
def test_other_texts_stay(text: str) -> None:
    assert csv_cell(text) == text


def test_numbers_of_ours_stay_numbers() -> None:
    assert [csv_cell(one) for one in (-5, 2.5, None)] == [-5, 2.5, None]


@given(st.text(st.characters(codec=None)))
def test_no_cell_is_a_formula_or_a_code(text: str) -> None:
    out = io.StringIO()
    CsvWriter(out).writerow(["1.2.3", text])
    (row,) = csv.reader(io.StringIO(out.getvalue(), newline=""))
    assert visible(row[1]) == row[1]
    assert row[1].lstrip()[:1] not in tuple("=+-@\t\r")


@given(st.text(st.characters(codec=None)))
def test_json_loses_nothing_and_holds_no_code(text: str) -> None:
    line = json_text({"value": text})
    assert json.loads(line) == {"value": text}
    assert visible(line) == line


@pytest.mark.parametrize("width", [80, 120])
def test_a_table_keeps_its_columns_and_obeys_nothing(width: int) -> None:
    out = io.StringIO()
    console = GuardedConsole(file=out, width=width, markup=False, highlight=False)
    table = Table("Age", "Sex", box=None)
    table.add_row(ESCAPE, "one\ntwo")
    table.add_row("\u202e066Y", "F")
    console.print(table)
    console.print(Text(f"a {ESCAPE}\nof two lines"))
    lines = out.getvalue().splitlines()
    assert len(lines) == 5
    assert all(visible(line) == line for line in lines)
    sex = lines[0].index("Sex")
    assert (lines[1][sex:].strip(), lines[2][sex:].strip()) == (r"one\ntwo", "F")


def test_a_file_and_its_folder_are_for_their_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    make_private(folder)
    older = folder / "older.csv"
    older.write_text("of before")
    older.chmod(0o644)
    for path in (older, folder / "new.csv"):
        write_private(path, b"of now")
        assert path.read_bytes() == b"of now"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    assert len(list(folder.iterdir())) == 2
    with pytest.raises(OSError, match=r"older\.csv/no") as caught:
        write_private(older / "no", b"")
    assert caught.value.filename == str(older / "no")
