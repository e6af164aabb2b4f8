"""Invented heads, known to nothing in the package, from an image's answers to charts and tables.

A quantity that is held against KVP, a category of three held against ViewPosition, two findings
that nothing is held against, and a gate.
"""

import json
import time
from dataclasses import replace
from functools import cache, partial
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from pydicom import Dataset
from rich.console import Console
from typer.testing import CliRunner

from dicom_ai_node import cli
from dicom_ai_node.analyse.observe import observe
from dicom_ai_node.answers import Category, ImageRef, LabelProbabilities, Prediction, Quantity
from dicom_ai_node.cli import model, monitor
from dicom_ai_node.config.bundles import default_bundle
from dicom_ai_node.config.rules import RulesSettings
from dicom_ai_node.config.stages import MonitorSettings, PolicySettings
from dicom_ai_node.demo import run
from dicom_ai_node.demo.studies import DemoStudy
from dicom_ai_node.inference.bundle import load_manifest
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.inference.heads import CategoryHead, FindingsHead, Gate, QuantityHead
from dicom_ai_node.monitor.observation import Observation, ObservedHead, Role, week_begin
from dicom_ai_node.ops import drift
from dicom_ai_node.parts import PreparedPart
from dicom_ai_node.pipeline import Pipeline, Prepared
from dicom_ai_node.store import Database
from dicom_ai_node.store.monitor import (
    load_observations,
    open_flags,
    reference_of,
)
from dicom_ai_node.terminal import console
from dicom_ai_node.types import AttributeStatus, CheckedAttribute
from tests.builders.checks import header_check
from tests.builders.observations import FIRST_WEEK, LIVE, SHADOW, put
from tests.unit.test_web_app import config, metrics

VOLTAGE = QuantityHead(
    name="tube_voltage", output=0, unit="kV", support=(0, 9), bounds=(0, 200), attribute="KVP"
)
PART = CategoryHead(
    name="part", output=10, values=("CHEST", "HAND", "LEG"), attribute="ViewPosition"
)
MARKS = FindingsHead(name="marks", output=13, labels=("tube", "wire"))
UPRIGHT = Gate(name="upright", output=15, threshold=0.5, code="not_upright", text="lies")
MEASURES = [
    *("tube_voltage_mae", "tube_voltage_bias", "tube_voltage_coverage"),
    *("part_accuracy", "marks_tube", "marks_wire", "refused"),
]
STUDIES, CHANGED, END = 60, FIRST_WEEK + 9, FIRST_WEEK + 11


def pipeline(sha256: str) -> Pipeline:
    """The pure stages of a bundle with these heads; its network is never asked."""
    manifest = load_manifest(default_bundle()).model_copy(
        update={"heads": (VOLTAGE, PART, MARKS), "gates": (UPRIGHT,), "sha256": sha256}
    )
    estimator = SimpleNamespace(manifest=manifest, identity=manifest.identity)
    return Pipeline(cast(Estimator, estimator), rules=RulesSettings(), policy=PolicySettings())


def prepared(uid: str, voltage: float, part: str, pipeline: Pipeline, said: Prediction) -> Prepared:
    """A study of one image whose header states both and is doubted in nothing but its station."""
    check, fine = header_check(), AttributeStatus.CONSISTENT
    rows = {
        **check.attributes,
        "KVP": CheckedAttribute("voltage", f"{voltage}", fine, voltage),
        "ViewPosition": CheckedAttribute("part", part, fine, part),
        # Right of a series, and no label of an image.
        "BodyPartExamined": CheckedAttribute("body_part", "CHEST", fine, "CHEST"),
        "StationName": CheckedAttribute("station", "", AttributeStatus.MISSING, "R"),
    }
    shown = PreparedPart(
        pipeline.bundles[0], images=[ImageRef("1.1", "1.2", "1.3")], predictions=[said]
    )
    return Prepared(uid, [Dataset()], replace(check, attributes=rows), [shown])


def said(voltage: float, part: str, tube: float, upright: float = 0.9) -> Prediction:
    others = (set(PART.values) - {part}).pop()
    shares = dict.fromkeys(PART.values, 0.1) | {part: 0.7, others: 0.2}
    return Prediction(
        {
            "tube_voltage": Quantity(voltage, 5, (voltage - 8, voltage + 8), "kV", "KVP"),
            "part": Category(shares, "ViewPosition"),
            "marks": LabelProbabilities({"tube": tube, "wire": 0.2}),
        },
        {"upright": upright},
        0.5,
    )


@cache
def observed() -> tuple[list[Observation], list[Observation]]:
    """Eleven weeks of two bundles; in the last two the live one errs and finds more tubes."""
    chance = np.random.default_rng(11)
    live, shadow = pipeline(LIVE), pipeline(SHADOW)
    made: tuple[list[Observation], list[Observation]] = ([], [])
    for week in range(FIRST_WEEK, END):
        later = week >= CHANGED
        for number in range(STUDIES):
            voltage, part = float(chance.integers(60, 120)), str(chance.choice(PART.values))
            error, right = float(chance.normal(0, 4)), chance.random() < (0.6 if later else 0.9)
            wrong = PART.values[(PART.values.index(part) + 1) % 3]
            tube = float(chance.random() ** (1 if later else 4))
            upright = 0.2 if number == 7 else 0.9
            told = said(voltage + error + 6 * later, part if right else wrong, tube, upright)
            other = said(voltage + error / 3, part, tube / 2)
            came = partial(prepared, f"1.{week}.{number}", voltage, part)
            both = (
                observe(came(live, told), live, Role.LIVE),
                observe(came(shadow, other), shadow, Role.SHADOW),
            )
            for each, (of,) in zip(made, both, strict=True):
                each.append(replace(of, received_at=week_begin(week) + 100.0 * number))
    return made


@pytest.fixture
def site(any_db: Database) -> Database:
    """A database in which all that is kept."""
    live, shadow = observed()
    put(any_db, live)
    put(any_db, shadow, studies=False)
    return any_db


@pytest.fixture
def now(site: Database, monkeypatch: pytest.MonkeyPatch) -> float:
    """An hour after the last week; commands look at the site then."""
    at = week_begin(END) + 3600.0
    for module in (monitor, model):
        monkeypatch.setattr(module, "open_database", lambda _: site)
    monkeypatch.setattr(time, "time", lambda: at)
    monkeypatch.setattr(console, "_width", 200)
    return at


def printed(folder: Path, *words: str) -> str:
    file = folder / "node.toml"
    file.write_text(f'[storage]\nspool = "{folder}"\ndatabase = "sqlite:///{folder}/other"\n')
    done = CliRunner().invoke(cli.app, [*words, "-c", str(file)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_what_each_head_said_is_stored_beside_what_no_rule_doubts(site: Database) -> None:
    kept = load_observations(site, model_sha256=LIVE)
    assert kept == observed()[0]
    first, refused = kept[0], kept[7]
    assert set(first.recorded) == {"PatientAge", "PatientSex", "KVP", "ViewPosition"}
    assert list(first.heads) == ["tube_voltage", "part", "marks"]
    assert set(first.heads["tube_voltage"].answer) == {"mu", "low90", "high90"}
    assert set(first.heads["part"].answer) == set(PART.values)
    assert set(first.heads["marks"].answer) == set(MARKS.labels)
    assert (refused.gate, refused.reason_code) == ("upright", "not_upright")
    assert refused.heads == {
        "tube_voltage": ObservedHead("quantity", "KVP", unit="kV"),
        "part": ObservedHead("category", "ViewPosition", values=PART.values),
        "marks": ObservedHead("findings", values=MARKS.labels),
    }


def test_it_is_charted_and_a_change_is_flagged(site: Database, now: float) -> None:
    before = drift.draw(site, MonitorSettings(), now=week_begin(CHANGED) + 3600)
    assert [measure.name for measure in before.measured] == MEASURES
    assert {point.measure.name for point in before.points} == set(MEASURES)
    assert not any(point.flagged for point in before.points)
    drift.watch(site, MonitorSettings(), now=now)
    after = drift.draw(site, MonitorSettings(), now=now)
    assert reference_of(site, LIVE) == after.reference
    flags = {flag.quantity: flag.text for flag in open_flags(site, LIVE)}
    assert set(flags) == {"tube_voltage_mae", "tube_voltage_bias", "tube_voltage_coverage",
                          "part_accuracy", "marks_tube"}  # fmt: skip
    assert flags["tube_voltage_bias"].startswith("bias of the tube voltage, kV: ")
    assert flags["part_accuracy"].startswith("share of recorded parts that are the more probable")
    assert flags["marks_tube"].startswith("share of studies with marks tube: ")


def test_the_metric_has_its_charts(site: Database, now: float, tmp_path: Path) -> None:
    drift.watch(site, MonitorSettings(), now=now)
    name = "dicom_ai_node_drift"
    raised = {label: x for (of, label), x in metrics(config(tmp_path), site).items() if of == name}
    assert list(raised) == MEASURES
    assert (raised["part_accuracy"], raised["marks_wire"]) == (1, 0)


@pytest.mark.usefixtures("now")
def test_it_is_printed(tmp_path: Path) -> None:
    text = printed(tmp_path, "monitor", "--by", "week")
    for column in (
        *("Tube voltage MAE, kV", "Tube voltage bias, kV", "Tube voltage coverage of 90 %"),
        *("Part right, %", "Marks tube, %", "Marks wire, %", "Refused, %"),
    ):
        assert column in text
    assert "Bias, years" not in text
    found: dict[str, Any] = json.loads(printed(tmp_path, "monitor", "--json"))
    (group,) = found["groups"]
    assert list(group) == ["group", "n", *MEASURES]
    assert group["refused"]["value"] == pytest.approx(1 / STUDIES)
    assert group["part_accuracy"]["n"] == 11 * (STUDIES - 1)
    sums = found["drift"]["reference"]
    assert set(sums["marks_tube"]) == {"n", "total", "squares"}
    assert sums["seen"] == 8 * STUDIES
    assert {point["quantity"] for point in found["drift"]["points"]} == set(MEASURES)


@pytest.mark.usefixtures("now")
def test_two_bundles_are_compared_by_it(tmp_path: Path) -> None:
    found = json.loads(printed(tmp_path, "model", "compare", "--json"))
    better = {one["quantity"]: one["better"] for one in found["differences"]}
    assert better == {
        "tube voltage MAE, kV": "shadow",
        "tube voltage coverage of 90 % intervals": "live",
        "tube voltage width of 90 % intervals, kV": "",
        "part accuracy": "shadow",
        "marks tube": "",
        "marks wire": "",
        "refused by a gate": "",
    }
    assert "The live bundle has more studies with marks tube (by -0." in found["verdict"]
    assert "part accuracy" in printed(tmp_path, "model", "compare")


def test_the_demo_prints_it() -> None:
    answers = said(81.0, "HAND", 0.8).answers
    row = run._row(DemoStudy("a study", (Dataset(),)), None, [], list(answers))
    assert [row[name] for name in answers] == [None] * 3
    assert (row["recorded_age"], row["recorded_sex"], row["decision"]) == ("", "", "not received")
    console = Console(file=StringIO(), width=200)
    run._print(console, [row], [answers])
    assert (
        "tube_voltage 81 (73-89), part HAND 70%, marks tube 80%"
        in cast(StringIO, console.file).getvalue()
    )
