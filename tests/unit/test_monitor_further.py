"""Further bundles are watched beside the live one: figures, charts, flags, metrics."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from dicom_ai_node.answers import Outcome
from dicom_ai_node.cli import app
from dicom_ai_node.config.stages import MonitorSettings
from dicom_ai_node.monitor.measures import agreeing, measures
from dicom_ai_node.monitor.observation import Observation, ObservedHead, Role, week_begin
from dicom_ai_node.ops import drift
from dicom_ai_node.store import Database
from dicom_ai_node.store.monitor import Mode, further_bundles, mode, open_flags, reference_of
from dicom_ai_node.terminal import console
from tests.builders.observations import FIRST_WEEK, LIVE, put, site
from tests.unit.test_web_app import config as web_config
from tests.unit.test_web_app import metrics

FINDINGS, REGION = "c" * 64, "d" * 64
LABELS = tuple(f"Finding_{number}" for number in range(14))
PARTS = ("CHEST", "ABDOMEN", "KNEE")
WEEKS = range(FIRST_WEEK, FIRST_WEEK + 11)
NOW = week_begin(WEEKS.stop) + 3600.0
WATCHED = MonitorSettings(shadow_on_drift=True)


def region(recorded: str, shown: str, **values: Any) -> Observation:
    """What a bundle for body regions observes of one study."""
    shares = dict.fromkeys(PARTS, 0.1) | {shown: 0.8}
    head = ObservedHead("category", "BodyPartExamined", values=PARTS, answer=shares)
    made = _seen(REGION, {"body_region": head}, **values)
    return replace(made, recorded={"BodyPartExamined": recorded} if recorded else {})


def _seen(sha256: str, heads: Mapping[str, ObservedHead], **values: Any) -> Observation:
    given: dict[str, Any] = {"received_at": week_begin(FIRST_WEEK)} | values
    uid = given.pop("study_uid", "1.1")
    return Observation(uid, sha256, Role.FURTHER, Outcome.ESTIMATED, heads=heads, **given)


@pytest.fixture
def watched(db: Database) -> Database:
    """Eleven weeks of three bundles; in the last two one of the findings is seen more often."""
    live = site(WEEKS)
    put(db, live)
    chance = np.random.default_rng(3)
    further = []
    for one in live:
        came = {"study_uid": one.study_uid, "received_at": one.received_at}
        often = 0.9 if one.week >= WEEKS.stop - 2 else 0.2
        shares = {label: float(chance.random() < 0.2) for label in LABELS}
        shares["Finding_3"] = float(chance.random() < often)
        head = ObservedHead("findings", values=LABELS, answer=shares)
        further += [
            _seen(FINDINGS, {"findings": head}, **came),
            region("CHEST", "CHEST" if chance.random() < 0.9 else "KNEE", **came),
        ]
    put(db, further, studies=False)
    return db


@pytest.mark.parametrize(
    ("recorded", "shown", "agrees"),
    [
        ("CHEST", "CHEST", True),
        ("LUNG", "CHEST", True),
        ("CHESTABDOMEN", "ABDOMEN", True),
        ("CHEST", "CHESTABDPELVIS", True),
        ("CHEST", "KNEE", False),
        ("", "CHEST", None),
        ("NO SUCH PART", "CHEST", None),
    ],
)
def test_body_parts_agree_where_their_areas_meet(
    recorded: str, shown: str, agrees: bool | None
) -> None:
    assert agreeing(region(recorded, shown), "body_region") is agrees


def test_without_an_answer_nothing_agrees() -> None:
    silent = ObservedHead("category", "BodyPartExamined", values=PARTS)
    one = replace(region("CHEST", "CHEST"), heads={"body_region": silent})
    assert agreeing(one, "body_region") is None


def test_findings_have_rates_and_no_truth(watched: Database) -> None:
    names = [measure.name for measure in measures(further_bundles(watched)[FINDINGS])]
    assert names == [*(f"findings_{label}" for label in LABELS), "refused"]


def test_a_bundle_that_is_live_by_now_is_no_further_one(watched: Database) -> None:
    assert set(further_bundles(watched)) == {FINDINGS, REGION}
    put(watched, [replace(site(range(2900, 2901), a_week=1)[0], model_sha256=REGION)])
    assert set(further_bundles(watched)) == {FINDINGS}


def test_each_bundle_has_its_own_reference_and_flags(watched: Database) -> None:
    assert drift.watch(watched, WATCHED, now=NOW) is False
    assert all(reference_of(watched, one) is not None for one in (LIVE, FINDINGS, REGION))
    assert {flag.quantity for flag in open_flags(watched, FINDINGS)} == {"findings_Finding_3"}
    assert open_flags(watched, LIVE) == open_flags(watched, REGION) == []


def test_flags_of_a_further_bundle_withhold_no_report(watched: Database) -> None:
    drift.watch(watched, WATCHED, now=NOW)
    assert open_flags(watched, FINDINGS)
    assert mode(watched) is Mode.LIVE


def test_monitor_tells_all_bundles_at_80_columns(
    watched: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drift.watch(watched, WATCHED, now=NOW)
    path = tmp_path / "node.toml"
    path.write_text(f'[storage]\nspool = "{tmp_path}/spool"\ndatabase = "{watched.url}"\n')
    monkeypatch.setattr(console, "width", 80)
    monkeypatch.setattr("dicom_ai_node.cli.monitor.time.time", lambda: NOW)

    def printed(*options: str) -> str:
        done = CliRunner().invoke(app, ["monitor", "-c", str(path), *options])
        assert done.exit_code == 0, done.output
        return done.stdout

    lines = printed().splitlines()
    assert max(map(len, lines)) <= 80
    said = " ".join(" ".join(lines).split())
    for sha256 in (FINDINGS, REGION):
        assert f"further bundle: {sha256[:12]}, no longer configured" in said
    assert "Findings Finding 3, %" in said
    assert "share of studies with findings Finding 3" in said
    assert "Body region right, %" in said
    (record,) = map(json.loads, printed("--json").splitlines())
    assert record["model_sha256"] == LIVE
    found = {one["model_sha256"]: one for one in record["further"]}
    (everything,) = found[REGION]["groups"]
    assert everything["body_region_accuracy"]["value"] == pytest.approx(0.9, abs=0.05)
    (flag, *_) = found[FINDINGS]["drift"]["flags"]
    assert flag["quantity"] == "findings_Finding_3"


def test_a_node_with_one_bundle_has_no_further_figures(db: Database, tmp_path: Path) -> None:
    put(db, site(range(FIRST_WEEK, FIRST_WEEK + 1)))
    path = tmp_path / "node.toml"
    path.write_text(f'[storage]\nspool = "{tmp_path}/spool"\ndatabase = "{db.url}"\n')
    done = CliRunner().invoke(app, ["monitor", "-c", str(path), "--json"])
    assert "further" not in json.loads(done.stdout)
    names = {name for name, _ in metrics(web_config(tmp_path), db)}
    assert "dicom_ai_node_drift" in names
    assert "dicom_ai_node_further_drift" not in names


def test_metrics_tell_further_bundles_apart(watched: Database, tmp_path: Path) -> None:
    drift.watch(watched, WATCHED, now=NOW)
    told = metrics(web_config(tmp_path), watched)
    name = "dicom_ai_node_further_drift"
    assert told[name, f"{FINDINGS[:12]} findings_Finding_3"] == 1.0
    assert told[name, f"{REGION[:12]} body_region_accuracy"] == 0.0
