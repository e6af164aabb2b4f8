"""The commands of ``proposals`` on a database: filters, decisions, errors that name the fault."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dicom_ai_node.cli import app
from dicom_ai_node.errors import ConfigError, FillError
from tests.builders.filling import AGE, GUESSED_SEX, Ward, ward

WHY, BLANK = ("--reason", "asked the ward"), ("--reason", " ")


class Desk:
    """Somebody at the command line of a node."""

    def __init__(self, folder: Path, box: Ward) -> None:
        self.box = box
        self.path = folder / "node.toml"
        storage = box.config.storage
        self.path.write_text(
            f'[storage]\nspool = "{storage.spool}"\ndatabase = "{storage.database}"\n'
        )

    def run(self, *arguments: str) -> str:
        command = ["proposals", *arguments, "-c", str(self.path)]
        done = CliRunner().invoke(app, command, catch_exceptions=False, env={"COLUMNS": "200"})
        assert done.exit_code == 0, done.output
        return done.output

    def json(self, *arguments: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.run(*arguments, "--json").splitlines()]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with ward(tmp_path) as box:
        box.add_image("one")
        box.analyse(AGE, GUESSED_SEX)
        yield Desk(tmp_path, box)


def test_list_filters_and_show_tells_all(desk: Desk) -> None:
    assert [one["id"] for one in desk.json("list")] == [2, 1]
    assert [one["id"] for one in desk.json("list", "--source", "dates")] == [1]
    assert [one["id"] for one in desk.json("list", "--keyword", "PatientSex")] == [2]
    assert desk.json("list", "--state", "rejected") == []
    assert desk.json("list", "--study", "1.2.3") == []
    (shown,) = desk.json("show", "2")
    assert (shown["probability"], shown["rules"], len(shown["events"])) == (0.98, ["B2"], 1)
    for text in ("PatientSex = F", "probability 0.980", "B2", "analyser"):
        assert text in desk.run("show", "2")
    assert "2 proposals" in desk.run("list")


def test_a_decision_names_its_person(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "session")
    assert "accepted, by session" in desk.run("accept", "1", "--reason", "asked the ward")
    (done,) = desk.json("reject", "2", "--by", "R. Roe", "--reason", "wrong patient")
    assert done["state"] == "rejected"
    event = desk.json("show", "2")[0]["events"][-1]
    assert (event["by"], event["reason"]) == ("R. Roe", "wrong patient")


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (("reject", "2", *BLANK), ConfigError, "--reason ' ': why you decide so was expected"),
        (("accept", "1", *BLANK), ConfigError, "--reason ' '"),
        (("accept", "1", *WHY, "--by", "policy"), ConfigError, "--by 'policy': the name of a"),
        (("accept", "1", *WHY, "--by", "a\nb"), ConfigError, "the name of a person"),
        (("list", "--keyword", "PatientName"), ConfigError, "PatientAge or PatientSex"),
        (("apply",), ConfigError, "the ID of a proposal or --all"),
        (("apply", "1", "--all"), ConfigError, "the ID of a proposal or --all"),
    ],
)
def test_errors_name_what_is_wrong(
    desk: Desk, arguments: tuple[str, ...], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        desk.run(*arguments)
    assert {one["state"] for one in desk.json("list")} == {"open"}


def test_what_is_not_possible_is_refused(desk: Desk) -> None:
    desk.run("accept", "1", "--reason", "asked [ward/3], see [/x]")
    assert "asked [ward/3], see [/x]" in desk.run("show", "1")
    with pytest.raises(FillError, match="proposal 1 is accepted already"):
        desk.run("accept", "1", *WHY)


@pytest.mark.parametrize("command", ["accept", "reject"])
def test_no_decision_without_a_reason(desk: Desk, command: str) -> None:
    """Also where the value was computed from the header's own dates."""
    arguments = ["proposals", command, "1", "-c", str(desk.path)]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert (done.exit_code, "Missing option '--reason'" in done.output) == (2, True)
    assert {one["state"] for one in desk.json("list")} == {"open"}
