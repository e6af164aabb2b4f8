"""How an answer is printed: for people, as JSON and as CSV; and how options are made."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from dicom_ai_node.cli.commands import printed
from dicom_ai_node.cli.printing import Csv, Form, Output, Whole, print_output, table
from dicom_ai_node.errors import ExitCode

Said = pytest.CaptureFixture[str]


def output(records: Iterator[int], *, form: Form = "table", **more: Any) -> Output:
    return Output(
        records,
        json=lambda number: {"number": number},
        each=lambda number: [f"{number} is there"],
        blocks=[table(("Number",), [("all",)]), Whole("x" * 300)],
        csv=Csv(("number",), lambda number: (number,)),
        form=form,
        **more,
    )


def test_people_see_each_record_and_what_stands_below(capsys: Said) -> None:
    print_output(output(iter((1, 2))))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["1 is there", "2 is there"]
    assert lines[2].split() == ["Number"]
    assert lines[-1] == "x" * 300


def test_machines_see_the_records_alone(capsys: Said) -> None:
    print_output(output(iter((1, 2)), form="csv"), as_json=True)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"number": 1},
        {"number": 2},
    ]
    print_output(output(iter((1, 2)), form="csv"))
    assert capsys.readouterr().out.split() == ["number", "1", "2"]


def test_faults_are_said_at_the_end_and_a_no_is_a_no(capsys: Said) -> None:
    with pytest.raises(typer.Exit) as ended:
        print_output(output(iter((1,)), faults=["late"], ok=lambda: False), as_json=True)
    assert ended.value.exit_code == ExitCode.NO
    assert capsys.readouterr().err == "error: late\n"


def interrupted() -> Iterator[int]:
    yield 1
    raise KeyboardInterrupt


def test_ctrl_c_shows_what_was_done_where_that_can_be_said(capsys: Said) -> None:
    with pytest.raises(typer.Exit) as ended:
        print_output(output(interrupted(), interrupted=lambda: "1 of 2"))
    assert ended.value.exit_code == ExitCode.INTERRUPTED
    said = capsys.readouterr()
    assert said.out.startswith("1 is there\n")
    assert said.out.endswith(f"{'x' * 300}\n")
    assert said.err == "error: interrupted: 1 of 2\n"
    with pytest.raises(KeyboardInterrupt):
        print_output(output(interrupted()))


@dataclass(frozen=True)
class Size:
    width: Annotated[int, typer.Option(help="Columns.")]
    height: Annotated[int, typer.Option(help="Rows.")] = 3


def area(*, size: Size) -> Output:
    """Multiply."""
    return Output([size.width * size.height], blocks=[f"{size.width * size.height} cells"])


def test_a_dataclass_stands_for_its_fields_and_an_answer_brings_json() -> None:
    app = typer.Typer(add_completion=False)
    app.command()(printed(area, lambda: area))
    assert CliRunner().invoke(app, ["--width", "4"]).output == "12 cells\n"
    assert CliRunner().invoke(app, ["--width", "4", "--height", "2", "--json"]).output == "8\n"
    assert CliRunner().invoke(app, []).exit_code == ExitCode.USAGE
