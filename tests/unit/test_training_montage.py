"""Which images are shown with their saliency maps, and that the figure reaches the report."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dicom_ai_node.config.bundles import default_bundle
from dicom_ai_node.demo import phantom
from dicom_ai_node.inference.bundle import load_manifest
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.inference.intervals import LEVELS
from dicom_ai_node.inference.network import Network
from training.measure import montage
from training.measure.montage import BEST, MEDIAN, UNSURE, WORST, ChosenImage, choose
from training.measure.table import FRONTAL, PredictionTable, joined, read_csv, write_csv
from training.publish import evaluate


def table(
    dataset: str, errors: list[float], p_female: list[float], *, aged: bool = True
) -> PredictionTable:
    """Images of 50-year-old women with these errors; the path of the first is the last."""
    n = len(errors)
    age = 50.0 + np.array(errors)
    same = np.array([""] * n)
    return PredictionTable(
        dataset=np.array([dataset] * n),
        kind=np.array([FRONTAL] * n),
        image=np.array([f"cxr/{dataset}-{n - i}.png" for i in range(n)]),
        patient=same,
        source=same,
        view=same,
        recorded=np.full(n, 50.0 if aged else np.nan),
        female=np.ones(n),
        age=age,
        sd=np.ones(n),
        low=np.repeat(age[:, None] - 5, len(LEVELS), axis=1),
        high=np.repeat(age[:, None] + 5, len(LEVELS), axis=1),
        p_female=np.array(p_female),
        gates=np.ones((n, 3)),
        passed=np.ones((n, 3), dtype=bool),
    )


def rules(table: PredictionTable) -> dict[str, int]:
    return {case.rule: case.row for case in choose(table)}


def test_best_median_worst_and_the_least_certain_are_chosen() -> None:
    one = table("val", [4, -1, 2, -9, 3], [0.9, 0.99, 0.2, 0.6, 0.8])
    assert rules(one) == {BEST: 1, MEDIAN: 4, WORST: 3, UNSURE: 3}


def test_of_an_even_number_the_lower_middle_is_the_median() -> None:
    assert rules(table("val", [4, 1, 2, 3], [0.9] * 4))[MEDIAN] == 2


def test_of_equals_the_path_decides_whatever_the_order_of_the_rows() -> None:
    one = table("val", [2, -2, 2.00001], [0.4, 0.6, 0.9])
    assert rules(one) == {BEST: 2, MEDIAN: 1, WORST: 0, UNSURE: 1}
    backwards = one.where(np.array([2, 1, 0]))
    assert rules(backwards) == {BEST: 0, MEDIAN: 1, WORST: 2, UNSURE: 1}


def test_what_a_gate_refuses_is_not_shown() -> None:
    one = table("val", [1, 2, 30], [0.9, 0.8, 0.5])
    one.passed[2, 1] = False
    assert rules(one) == {BEST: 0, MEDIAN: 0, WORST: 1, UNSURE: 1}
    one.passed[:] = False
    assert choose(one) == []


def test_a_set_without_ages_shows_its_sex_and_an_unknown_set_nothing() -> None:
    parts = [
        table("val, turned by 90", [1.0], [0.5]),
        table("hannover", [1, 2], [0.8, 0.7], aged=False),
        table("val", [3.0], [0.9]),
    ]
    cases = choose(joined(parts))
    assert cases == [
        ChosenImage(row, rule)
        for row, rule in ((3, BEST), (3, MEDIAN), (3, WORST), (3, UNSURE), (2, UNSURE))
    ]


def test_a_sex_that_is_not_recorded_is_not_called_uncertain() -> None:
    one = table("val", [1, 2], [0.5, 0.8])
    one.female[0] = np.nan
    assert rules(one)[UNSURE] == 1


def test_the_csv_chooses_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    one = table("val", list(rng.normal(0, 1e-3, 200)), list(rng.random(200)))
    write_csv(tmp_path / "p.csv", one)
    assert choose(read_csv(tmp_path / "p.csv")) == choose(one)


def test_the_caption_says_what_is_recorded_and_what_is_estimated() -> None:
    one = table("val", [1.25], [0.75])
    text = " ".join(montage.describe(one, ChosenImage(0, WORST), "CC BY 3.0").split())
    assert text == (
        "val: largest age error recorded: age 50, sex F estimated: age 51.2 (90 %: 46.2 to 56.2),"
        " P(female) 0.750 cxr/val-1.png; licence: CC BY 3.0"
    )
    blank = replace(one, recorded=np.array([np.nan]), female=np.array([np.nan]))
    assert "recorded: no age, no sex\n" in montage.describe(blank, ChosenImage(0, UNSURE), "")


@pytest.fixture
def estimator() -> Estimator:
    """Of random weights and small images."""
    torch.manual_seed(0)
    made = Estimator(default_bundle(), device="cpu")
    made.network, made.size = Network("mobilenet_v2").eval(), 64
    return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Synthetic chests under the names that :func:`table` gives, with an index of some."""
    (tmp_path / "cxr").mkdir()
    (tmp_path / "nonchest").mkdir()
    columns = ["path", "source", "patient_id", "age_years", "sex", "view", "split", "licence"]
    columns.append("finding")
    with (tmp_path / "cxr/index.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(columns)
        rows.writerow(["cxr/val-1.png", "nih", "p", "50", "F", "PA", "val", "free", ""])
    (tmp_path / "cxr_more").mkdir()
    (tmp_path / "cxr_more/index.csv").write_text("path\n")
    (tmp_path / "nonchest/index.csv").write_text("path,licence\n")
    for name in ("val-1", "val-2", "val-3", "hannover-1"):
        grey = (phantom.chest(50, "F", len(name), 96) >> 4).astype(np.uint8)
        Image.fromarray(grey).save(tmp_path / f"cxr/{name}.png")
    return tmp_path


def test_the_figure_is_written_and_the_report_links_it(
    estimator: Estimator, root: Path, tmp_path: Path
) -> None:
    parts = [table("val", [1, 2, 3], [0.9] * 3), table("hannover", [1], [0.8], aged=False)]
    whole, out = joined(parts), tmp_path / "report"
    montage.write(out, estimator, whole, root)
    with Image.open(out / montage.FILE) as image:
        pixels = np.asarray(image.convert("RGB"), dtype=np.int16)
    coloured = np.ptp(pixels, axis=2) > 40
    assert coloured.mean() > 0.01  # the maps; everything else is grey
    manifest = load_manifest(default_bundle())
    evaluate.write_report(out, manifest, whole, [], calibrated=[], runs=[])
    assert f"![{montage.CAPTION}]({montage.FILE})" in (out / "report.md").read_text()
    assert montage.FILE in {
        p["file"] for p in json.loads((out / "report.json").read_text())["plots"]
    }
    assert len(montage.predictions(out, manifest.sha256)) == 4


def test_a_figure_of_other_weights_is_not_linked(
    estimator: Estimator, root: Path, tmp_path: Path
) -> None:
    one, out = table("val", [1.0], [0.9]), tmp_path / "report"
    montage.write(out, estimator, one, root)
    other = load_manifest(default_bundle()).model_copy(update={"sha256": "0" * 64})
    evaluate.write_report(out, other, one, [], calibrated=[], runs=[])
    assert montage.FILE not in (out / "report.md").read_text()
    with pytest.raises(ValueError, match=r"report\.json: model\.sha256 is 0{64}, expected"):
        montage.predictions(out, estimator.identity.sha256)


def test_a_table_of_which_nothing_is_answered_draws_an_empty_figure(
    estimator: Estimator, root: Path, tmp_path: Path
) -> None:
    one = table("val", [1.0], [0.9])
    one.passed[:] = False
    montage.write(tmp_path / "report", estimator, one, root)
    assert montage.is_of(tmp_path / "report", estimator.identity.sha256)
