"""``check-header`` over files whose headers and names hold what must not be obeyed."""

import csv
import io
import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_ai_node.cli import app
from dicom_ai_node.output import visible
from tests.builders.dicom_bytes import AGE, SEX, UIDS, data_set, dicom_file

NASTY = "\x1b[2J\u202e"


def written(folder: Path, name: str, *, age: bytes = b"066Y", sex: bytes = b"M ") -> Path:
    path = folder / name
    path.write_bytes(dicom_file(data_set({**UIDS, AGE: ("AS", age), SEX: ("CS", sex)})))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    archive = tmp_path / "archive"
    archive.mkdir()
    written(archive, "=1+1.dcm", age=b"=1+1", sex=b"-2+3")
    written(archive, f"{NASTY}.dcm", age=b"\x1b[2J", sex=b"@SUM(A1)")
    written(archive, os.fsdecode(b"\xff.dcm"), age=b"\t=1 ", sex=b"+1-2")
    return archive


def printed(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["check-header", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_csv_of_headers_holds_no_formula_and_no_code(folder: Path) -> None:
    rows = list(csv.reader(io.StringIO(printed(folder, "--format", "csv"), newline="")))
    assert len(rows) == 4
    for cell in (cell for row in rows for cell in row):
        assert visible(cell) == cell
        assert not cell.lstrip().startswith(("=", "+", "-", "@"))


@pytest.mark.parametrize("form", ["table", "json"])
def test_what_a_terminal_shows_is_seen(folder: Path, form: str) -> None:
    shown = printed(folder, "--format", form)
    assert visible(shown, lines=True) == shown


def test_json_has_the_value_as_it_stands(folder: Path) -> None:
    said = [json.loads(line) for line in printed(folder, "--json").splitlines()]
    assert {one["recorded"]["age"] for one in said} == {"=1+1", "\x1b[2J", "\t=1"}
    assert f"{folder}/{NASTY}.dcm" in {one["path"] for one in said}
