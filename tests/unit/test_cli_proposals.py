"""The commands of ``proposals`` on a database: filters, decisions, errors that name the fault."""

import json
import os
import pwd
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dicom_ai_node.cli import app
from dicom_ai_node.errors import ConfigError, FillError
from dicom_ai_node.terminal import console
from dicom_ai_node.types import ProposalSource
from tests.builders.filling import AGE, GUESSED_AGE, GUESSED_SEX, Ward, ward

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

    def add_destination(self, name: str, **values: str | bool) -> None:
        table = {"host": "127.0.0.1", "port": 104, "ae_title": "PACS", **values}
        lines = (f"{key} = {json.dumps(value)}\n" for key, value in table.items())
        with self.path.open("a") as file:
            file.write(f"[destinations.{name}]\n{''.join(lines)}")

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
    monkeypatch.setenv("LOGNAME", "somebody_else")
    user = pwd.getpwuid(os.getuid()).pw_name
    assert f"accepted, by {user}" in desk.run("accept", "1", "--reason", "asked the ward")
    (done,) = desk.json("reject", "2", "--by", "R. Roe", "--reason", "wrong patient")
    assert done["state"] == "rejected"
    event = desk.json("show", "2")[0]["events"][-1]
    assert (event["by"], event["reason"]) == ("R. Roe", "wrong patient")
    assert event["account"].startswith(user)
    assert f"R. Roe ({event['account']})" in desk.run("show", "2")


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (("reject", "2", *BLANK), ConfigError, "--reason ' ': why you decide so was expected"),
        (("accept", "1", *BLANK), ConfigError, "--reason ' '"),
        (("accept", "1", *WHY, "--by", "policy"), ConfigError, "--by 'policy': the name of a"),
        (("accept", "1", *WHY, "--by", "a\nb"), ConfigError, "the name of a person"),
        (("list", "--keyword", "PatientName"), ConfigError, "PatientAge or PatientSex"),
        (("apply",), ConfigError, "Give IDs, or filters"),
        (("apply", "1", "--all"), ConfigError, "the IDs of proposals, or filters, not both"),
        (("accept", *WHY), ConfigError, "Give IDs, or filters"),
        (("accept", "1", "--rule", "B3", *WHY), ConfigError, "not both"),
        (("accept", "--rule", "B33", *WHY), ConfigError, "--rule 'B33': the id of a rule"),
        (
            ("reject", "--from", "20240102", "--to", "20240101", *WHY),
            ConfigError,
            "--from 2024-01-02 is after --to 2024-01-01",
        ),
        (("reject", "--all", *WHY), ConfigError, "2 proposals match: --yes was expected"),
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


@pytest.fixture
def wards(tmp_path: Path) -> Iterator[Desk]:
    """Three studies: two ages from dates at ER1, and an inferred age and sex at ER2."""
    with ward(tmp_path) as box:
        for study, station, proposed in (
            ("one", "ER1", (replace(AGE, recorded="63"),)),
            ("two", "ER1", (AGE, replace(GUESSED_SEX, source=ProposalSource.HEADER))),
            ("three", "ER2", (GUESSED_AGE, GUESSED_SEX)),
        ):
            box.add_image(study)
            box.analyse(*proposed, station=station)
        yield Desk(tmp_path, box)


def states(desk: Desk) -> dict[int, str]:
    return {one["id"]: one["state"] for one in reversed(desk.json("list"))}


def test_a_dry_run_counts_and_decides_nothing(wards: Desk) -> None:
    text = wards.run("accept", "--rule", "B3", *WHY, "--dry-run")
    assert "2 proposals would be accepted" in text
    assert "left out: 1 of inferred PatientAge; --source inference asks" in text
    assert "63" in text
    found = wards.json("reject", "--station", "ER2", *WHY, "--dry-run")
    assert [one["value"] for one in found] == ["063Y", "F"]
    assert set(states(wards).values()) == {"open"}


def test_what_matches_is_accepted_and_nothing_else(wards: Desk) -> None:
    assert "2 proposals are accepted" in wards.run("accept", "--all", *WHY, "--yes")
    assert states(wards) == {1: "accepted", 2: "accepted", 3: "open", 4: "open", 5: "open"}
    event = wards.json("show", "2")[0]["events"][-1]
    assert (event["to"], event["reason"]) == ("accepted", "asked the ward")


def test_for_machines_what_would_be_accepted_is_said_beside_the_records(wards: Desk) -> None:
    arguments = ["proposals", "accept", "--all", *WHY, "--yes", "--json", "-c", str(wards.path)]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert [json.loads(line)["state"] for line in done.stdout.splitlines()] == ["accepted"] * 2
    assert "2 proposals would be accepted" in done.stderr


@pytest.mark.parametrize(
    ("filters", "accepted"),
    [
        (("--source", "inference"), {4}),
        (("--keyword", "PatientSex"), {3}),
        (("--keyword", "PatientSex", "--source", "inference"), set()),
        (("--station", "ER1", "--source", "dates"), {1, 2}),
        (("--source", "worklist"), set()),
    ],
)
def test_a_guess_or_a_sex_is_accepted_only_where_it_is_asked_for(
    wards: Desk, filters: tuple[str, ...], accepted: set[int]
) -> None:
    wards.run("accept", *filters, *WHY, "--yes")
    assert {key for key, state in states(wards).items() if state == "accepted"} == accepted


def test_several_ids_and_one_that_cannot_be_decided(wards: Desk) -> None:
    wards.run("reject", "1", *WHY)
    arguments = ["proposals", "reject", "1", "2", *WHY, "-c", str(wards.path)]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert done.exit_code == 1
    assert "proposal 1 is rejected already" in done.output
    assert "1 proposals are rejected" in done.output
    assert states(wards)[2] == "rejected"


def test_a_selection_can_be_rejected_after_it_was_accepted(wards: Desk) -> None:
    wards.run("accept", "--rule", "B3", *WHY, "--yes")
    wards.run("reject", "--rule", "B3", "--state", "accepted", *WHY, "--yes")
    assert [state for state in states(wards).values() if state == "rejected"] == ["rejected"] * 2


def test_the_list_shows_what_is_recorded_and_which_rules_asked(
    wards: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_width", 200)
    (line,) = [line for line in wards.run("list").splitlines() if line.strip().startswith("1 ")]
    assert line.split()[:7] == ["1", "PatientAge", "63", "063Y", "dates", "open", "B3"]
    assert "ER1" in line
    assert [one["id"] for one in wards.json("list", "--station", "ER2")] == [5, 4]
    assert [one["id"] for one in wards.json("list", "--rule", "B2")] == [5, 3]


def test_a_preview_shows_the_filled_value_first_and_everything_on_request(wards: Desk) -> None:
    wards.add_destination("archive", fill="inferred", research=True)
    first, *lines, last = wards.run("preview", "1", "--destination", "archive").splitlines()
    assert first.endswith("to archive, copy")
    assert "(0010,1010) PatientAge = '063Y'" in lines[0]
    assert not any("(0002," in line or "[1]" in line for line in lines)
    whole = wards.run("preview", "1", "--destination", "archive", "--all").splitlines()
    assert f"and {len(whole) - 1 - len(lines)} more" in last
    assert any("OriginalAttributesSequence" in line for line in whole)


def test_apply_says_what_it_would_queue_and_then_does(wards: Desk) -> None:
    wards.add_destination("archive", fill="deterministic")
    wards.run("accept", "--all", *WHY, "--yes")
    assert "no accepted proposal matches" in wards.run("apply", "--rule", "B2", "--dry-run")
    assert "2 copies of 2 studies; nothing was queued" in wards.run(
        "apply", "--rule", "B3", "--dry-run"
    )
    assert wards.box.copies() == []
    wards.run("apply", "--station", "ER1")
    assert len(wards.box.copies()) == 2
    assert [one["state"] for one in wards.json("list", "--state", "applied")] == ["applied"] * 2
    (*_, event) = wards.json("show", "1")[0]["events"]
    assert event["account"]
