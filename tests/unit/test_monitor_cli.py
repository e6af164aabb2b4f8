"""``monitor`` and ``model compare`` on the command line."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dicom_ai_node.cli import app
from dicom_ai_node.cli.common import account, signed
from dicom_ai_node.config.stages import MonitorSettings
from dicom_ai_node.monitor.figures import GROUPS
from dicom_ai_node.monitor.observation import Role, week_of
from dicom_ai_node.ops import drift
from dicom_ai_node.store import Database
from dicom_ai_node.store.monitor import Mode, mode
from tests.builders.observations import LIVE, SHADOW, age_said, changed, put, site


@pytest.fixture
def config(tmp_path: Path, db: Database) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(f'[storage]\nspool = "{tmp_path}/spool"\ndatabase = "{db.url}"\n')
    return path


def run(config: Path, *arguments: str, code: int = 0) -> str:
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*arguments, "-c", str(config)])
    assert done.exit_code == code, done.output
    return done.stdout


def printed(config: Path, *arguments: str) -> Any:
    return json.loads(run(config, *arguments, "--json"))


def test_every_group_can_be_asked_for(config: Path) -> None:
    run(config, "monitor", "--by", "nothing", code=2)
    for by in GROUPS:
        assert printed(config, "monitor", "--by", by)["by"] == by


def test_a_node_without_observations_says_so(config: Path) -> None:
    assert "no study has been observed yet" in run(config, "monitor")
    assert printed(config, "monitor")["drift"] == {"reference": None, "points": [], "flags": []}
    assert "no study that both" in run(config, "model", "compare", code=1)


def test_drift_is_told_in_plain_words_and_accepted(config: Path, db: Database) -> None:
    week = week_of(time.time())
    put(db, site(range(week - 11, week - 2)))
    assert "not judged yet" not in run(config, "monitor")
    assert "drift: none in 1 points" in run(config, "monitor")
    put(db, site(range(week - 2, week), shift=8.0))
    drift.watch(db, MonitorSettings(), now=time.time())
    text = run(config, "monitor", "--by", "week", "--weeks", "4")
    assert "bias of the age, years: " in text
    assert "the model is live: reports are sent" in text
    found = printed(config, "monitor", "--by", "station", "--weeks", "30")
    assert found["model_sha256"] == LIVE
    assert [(one["group"], one["n"]) for one in found["groups"]] == [("ROOM1", 660)]
    assert "bias" in {one["quantity"] for one in found["drift"]["flags"]}
    assert any(one["flagged"] for one in found["drift"]["points"])

    run(config, "monitor", "shadow", "--by", "A. Person", "--reason", "drift")
    assert mode(db) is Mode.SHADOW
    run(config, "monitor", "resume", "--by", " ", "--reason", "x", code=2)
    assert mode(db) is Mode.SHADOW
    run(config, "monitor", "resume", "--by", "A. Person", "--reason", "fine", "--new-reference")
    text = run(config, "monitor")
    assert f"live by {signed('A. Person', account())}: fine" in text
    assert {one["account"] for one in printed(config, "monitor")["switches"]} == {account()}
    assert "not judged yet" in text


def test_compare_says_which_bundle_did_better(config: Path, db: Database) -> None:
    week = week_of(time.time())
    live = site(range(week - 2, week))
    put(db, live)
    worse = [
        changed(replace(one, model_sha256=SHADOW, role=Role.SHADOW), mu=age_said(one)["mu"] + 12)
        for one in live
    ]
    put(db, worse, studies=False)
    text = run(config, "model", "compare")
    assert "The live bundle did better in age MAE, years" in text.replace("\n", " ")
    found = printed(config, "model", "compare", "--weeks", "4")
    assert (found["live"], found["shadow"]) == (LIVE, SHADOW)
    assert found["differences"][0]["better"] == "live"
