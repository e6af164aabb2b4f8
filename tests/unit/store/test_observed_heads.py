"""Observations of a database at 0007 and at 0010, whose monitor named age and sex, go on by head.

``monitor_at_0010.json`` is what the program of that schema printed of the same rows.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dicom_ai_node import cli
from dicom_ai_node.answers import Outcome
from dicom_ai_node.cli import model, monitor
from dicom_ai_node.store import Database
from dicom_ai_node.store.monitor import Mode, load_observations, mode, reference_of
from dicom_ai_node.terminal import console
from tests.builders import older_observations as older
from tests.builders.observations import AGE_HEAD, LIVE, SEX_HEAD
from tests.unit.store.test_schema import upgraded_to

PRINTED: dict[str, Any] = json.loads(
    Path(__file__).with_name("monitor_at_0010.json").read_text(encoding="utf-8")
)


@pytest.fixture(params=["0007", "0010"])
def upgraded(request: pytest.FixtureRequest, empty_db: Database) -> Database:
    """A database of an older schema with thirteen weeks in it, now of the newest."""
    upgraded_to(empty_db, request.param)
    with empty_db.write() as connection:
        older.fill(connection)
        for table, rows in PRINTED["rows"].items():
            older.insert(connection, table, [_row(row, request.param) for row in rows])
    empty_db.upgrade()
    return empty_db


def _row(row: dict[str, Any], revision: str) -> dict[str, Any]:
    if "tally" in row:
        return row | {"tally": json.dumps(row["tally"])}
    if "new_reference" in row:
        row = row | {"new_reference": bool(row["new_reference"])}
    return {k: v for k, v in row.items() if k != "account" or revision != "0007"}


@pytest.fixture
def then(upgraded: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands look at the database at the time when the older program did."""
    with pytest.MonkeyPatch.context() as zone:
        zone.setenv("TZ", "UTC")
        time.tzset()
        for module in (monitor, model):
            monkeypatch.setattr(module, "open_database", lambda _: upgraded)
        monkeypatch.setattr(time, "time", lambda: older.NOW)
        monkeypatch.setattr(console, "_width", 200)
        yield
    time.tzset()


def printed(folder: Path, command: str, *more: str) -> str:
    config = folder / "node.toml"
    config.write_text(f'[storage]\nspool = "{folder}"\ndatabase = "sqlite:///{folder}/other"\n')
    words = [*command.split(), *more, "-c", str(config)]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.usefixtures("then")
def test_every_figure_is_printed_as_before(tmp_path: Path) -> None:
    for command, expected in PRINTED["json"].items():
        every = PRINTED["every"] if command.startswith("monitor") else {}
        assert json.loads(printed(tmp_path, command, "--json")) == expected | every
    for command, expected in PRINTED["people"].items():
        assert printed(tmp_path, command) == expected


def test_every_answer_is_kept(upgraded: Database) -> None:
    upgraded.check_schema()
    assert mode(upgraded) is Mode.SHADOW
    found = {one.study_uid: one for one in load_observations(upgraded, model_sha256=LIVE)}
    assert len(found) == 13 * 70
    for row in older.studies():
        one = found[row["study_instance_uid"]]
        recorded = {"PatientAge": row["age"], "PatientSex": row["sex"]}
        assert one.recorded == {name: value for name, value in recorded.items() if value}
        age, sex = one.heads["age"], one.heads["sex"]
        assert (age.attribute, age.unit) == (AGE_HEAD.attribute, AGE_HEAD.unit)
        assert (sex.attribute, sex.values) == (SEX_HEAD.attribute, SEX_HEAD.values)
        assert [age.answer.get(name) for name in ("mu", "low90", "high90")] == [
            row["mu"], row["low90"], row["high90"],
        ]  # fmt: skip
        assert sex.answer.get("F") == row["probability_female"]
        assert bool(one.gate) == (row["reason_code"] in older.REFUSALS)
        assert (one.outcome, one.reason_code) == (Outcome(row["outcome"]), row["reason_code"])
    reference = reference_of(upgraded, LIVE)
    assert reference is not None
    assert list(reference.tally) == ["mae", "bias", "coverage", "sex_accuracy", "refused"]
