"""The table, its figures, and the report and card that quote them, on predictions made up here."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest

from dicom_ai_node.config.bundles import default_bundle
from dicom_ai_node.inference.bundle import Figure, Manifest, load_manifest
from dicom_ai_node.inference.intervals import LEVELS
from training.data.images import Institution
from training.measure import answering, criteria, parity
from training.measure import figures as of
from training.measure.criteria import references_of
from training.measure.figures import Baseline, baseline, find, measure
from training.measure.plots import PLOTS
from training.measure.table import (
    FRONTAL,
    OLD,
    OLDEST,
    OTHER,
    PredictionTable,
    decade,
    groups,
    joined,
    label,
    read_csv,
    write_csv,
)
from training.publish import card, evaluate, sections, tried

Z = np.array([0.674490, 1.281552, 1.644854, 1.959964])
"""Normal quantiles of ``LEVELS``."""


def table(
    dataset: str, count: int, *, seed: int = 0, kind: str = FRONTAL, aged: bool = True
) -> PredictionTable:
    """Two images a patient, errors normal with mean 1 and the standard deviation that is stated."""
    rng = np.random.default_rng(seed)
    years = np.round(rng.uniform(15, 90, count))
    sd = rng.uniform(3, 6, count)
    age = years + 1 + sd * rng.standard_normal(count)
    p = rng.random(count)
    nothing = np.full(count, np.nan)
    passed = np.ones((count, 3), dtype=bool)
    passed[::10, 2] = False
    return PredictionTable(
        dataset=np.array([dataset] * count),
        kind=np.array([kind] * count),
        image=np.array([f"{dataset}/{i}.png" for i in range(count)]),
        patient=np.array([f"{dataset}-{i // 2}" for i in range(count)]),
        source=np.array(["one" if i % 3 else "other" for i in range(count)]),
        view=np.array(["PA" if i % 2 else "AP" for i in range(count)]),
        recorded=years if aged else nothing,
        female=nothing if kind == OTHER else (rng.random(count) < p).astype(np.float64),
        age=age,
        sd=sd,
        low=age[:, None] - 1 - Z * sd[:, None],
        high=age[:, None] - 1 + Z * sd[:, None],
        p_female=p,
        gates=rng.random((count, 3)),
        passed=passed,
    )


@pytest.fixture(scope="module")
def whole() -> PredictionTable:
    parts = [
        table("val", 400),
        table("external_dev", 60, seed=1),
        table("hannover", 40, seed=2, aged=False),
        table("gates", 30, seed=3, kind=OTHER, aged=False),
    ]
    return joined(parts)


@pytest.fixture(scope="module")
def figures(whole: PredictionTable) -> list[Figure]:
    known = whole.of("val")
    return measure(whole, baseline(known.recorded, known.female)) + answering.measure(whole)


def of_val(figures: list[Figure], quantity: str, **which: object) -> Figure:
    found = find(figures, "val", quantity, **which)  # type: ignore[arg-type]
    assert found is not None, quantity
    return found


def test_the_table_survives_its_csv(whole: PredictionTable, tmp_path: Path) -> None:
    write_csv(tmp_path / "p.csv", whole)
    again = read_csv(tmp_path / "p.csv")
    assert (again.image == whole.image).all()
    assert (again.passed == whole.passed).all()
    for name in ("recorded", "female", "age", "low", "high", "p_female", "gates"):
        np.testing.assert_allclose(getattr(again, name), getattr(whole, name), atol=1e-4)


def test_a_spoilt_csv_is_named(whole: PredictionTable, tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    write_csv(file, whole)
    file.write_text(file.read_text().replace("p_female", "p"))
    with pytest.raises(ValueError, match=r"p\.csv: expected a column 'p_female'"):
        read_csv(file)


def test_figures_are_what_was_put_in(figures: list[Figure]) -> None:
    biased = of_val(figures, of.BIAS)
    assert biased.low is not None
    assert biased.high is not None
    assert biased.low < 1 < biased.high
    for level in LEVELS:
        assert of_val(figures, of.coverage(level)).value == pytest.approx(
            float(level) / 100, abs=0.06
        )
    assert of_val(figures, of.EVERY_GATE).value == 0.9
    assert of_val(figures, of.MAE, gated=True).n == 360
    assert find(figures, "hannover", of.MAE) is None
    assert find(figures, "hannover", of.AUC) is not None


def test_every_figure_has_its_baseline(figures: list[Figure], whole: PredictionTable) -> None:
    years = whole.of("val").recorded
    median = float(np.median(years))
    assert of_val(figures, of.MAE).baseline == pytest.approx(
        np.abs(years - median).mean(), abs=1e-3
    )
    assert of_val(figures, "age R2").baseline == pytest.approx(0.0, abs=0.05)
    assert of_val(figures, of.AUC).baseline == 0.5
    assert of_val(figures, of.coverage("90")).baseline == pytest.approx(0.9, abs=0.02)
    assert (of_val(figures, of.ACCURACY).baseline or 0) >= 0.5


def test_groups_part_the_images(whole: PredictionTable) -> None:
    found = {group.label: group.chosen for group in groups(whole.of("val"))}
    sizes = dict.fromkeys(("sex", "view", "view and sex", "source", "decade"), 0)
    for name, chosen in found.items():
        if (axis := name.partition(":")[0]) in sizes:
            sizes[axis] += int(chosen.sum())
    assert set(sizes.values()) == {400}
    assert found[label("age", OLD)].sum() > found[label("age", OLDEST)].sum() > 0


def test_a_small_group_gets_its_number_alone(figures: list[Figure]) -> None:
    group = label("decade", decade(90))
    assert of_val(figures, of.IMAGES, group=group).n < 8
    assert find(figures, "val", of.MAE, group=group) is None


def test_what_is_refused_is_counted(figures: list[Figure]) -> None:
    refused = of_val(figures, of.REFUSED, group="view: AP")
    assert (refused.value, refused.n) == (40, 200)  # every tenth, and those are all AP
    shown = sections.by_group(figures, "external_dev")
    assert "| view: AP | 30 | 6 |" in shown


def test_no_image_means_no_baseline() -> None:
    with pytest.raises(ValueError, match="at least one"):
        baseline(np.array([np.nan]), np.array([1.0]))


def mark_of(figures: list[Figure], name: str) -> bool | None:
    return next(one.met for one in criteria.judged(figures) if one.criterion.name == name)


def test_marks_are_met_missed_or_not_measured() -> None:
    def val(quantity: str, value: float, group: str = "") -> Figure:
        return Figure(dataset="val", quantity=quantity, value=value, n=9, group=group)

    figures = [val(of.MAE, 4.5), val(of.AUC, 0.9969), val(of.BIAS, -4.1, label("age", OLD))]
    figures.append(val(of.coverage("90"), 0.93))
    assert mark_of(figures, "Age, inside") is True
    assert mark_of(figures, "Sex, inside") is False
    assert mark_of(figures, "Bias over 70, inside") is None
    both = Figure(
        dataset=answering.TOGETHER, quantity=of.BIAS, value=-4.1, n=9, group=label("age", OLD)
    )
    assert mark_of([*figures, both], "Bias over 70, inside") is False
    assert mark_of(figures, "Coverage of the 90 % interval, inside") is False
    assert mark_of(figures, "Age, another source") is None
    shown = sections.judged(figures)
    assert "| Age, inside | `val` | at most 4.5 | 4.50 | met |" in shown
    assert "| Sex, inside | `val` | at least 0.997 | 0.997 | **missed** |" in shown


def test_refusals_stand_beside_the_coverage_of_what_is_answered(figures: list[Figure]) -> None:
    assert "6 of 60 refused; " in sections.judged(figures)


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return load_manifest(default_bundle())


RUN = tried.Experiment(name="second", what="balanced sampling", val_mae=4.9)


def test_the_report_and_every_plot_are_written(
    whole: PredictionTable, figures: list[Figure], manifest: Manifest, tmp_path: Path
) -> None:
    evaluate.write_report(tmp_path, manifest, whole, figures, calibrated=["val"], runs=[RUN])
    text = (tmp_path / "report.md").read_text()
    for file in PLOTS:
        assert f"({file})" in text
    for file in PLOTS:
        assert (tmp_path / file).read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / file).stat().st_size > 5000
    assert "Ieki 2022 (RIKEN) 3.67" in text
    assert "| second | balanced sampling | 4.90 |" in text
    document = json.loads((tmp_path / "report.json").read_text())
    assert len(document["figures"]) == len(figures)
    assert {mark["met"] for mark in document["marks"]} == {True, False, None}


def test_a_table_without_external_sets_is_enough(manifest: Manifest, tmp_path: Path) -> None:
    tiny = table("val", 12)
    made = measure(tiny, Baseline(50.0, dict.fromkeys(LEVELS, (20.0, 80.0)), 0.5))
    evaluate.write_report(tmp_path, manifest, tiny, made, calibrated=[], runs=[])
    assert {file for file in PLOTS if (tmp_path / file).exists()} == set(PLOTS)
    assert "montage.png" not in (tmp_path / "report.md").read_text()


def test_the_card_says_the_same_after_the_manifest_was_read_again(
    figures: list[Figure], manifest: Manifest, tmp_path: Path
) -> None:
    evaluate.write_bundle(tmp_path, manifest, figures, [RUN])
    stored = load_manifest(tmp_path)
    text = (tmp_path / "CARD.md").read_text()
    assert text == card.text(stored, [RUN])
    assert "## For whom it is not fit" in text
    assert "Published references" in text
    every = find(figures, "val", of.MAE)
    assert every is not None
    assert f"{every.value:.2f}" in text
    assert all(card.quotes(figure) for figure in stored.figures)
    assert sections.by_group(stored.figures, "val").count("\n") > 10


def test_a_card_can_be_written_before_anything_is_measured(manifest: Manifest) -> None:
    text = card.text(manifest.model_copy(update={"figures": ()}))
    assert "Nothing is noted yet." in text
    assert "not measured" in text


def test_what_was_tried_is_read(tmp_path: Path) -> None:
    file = tmp_path / "experiments.toml"
    assert tried.read_experiments(file) == ()
    file.write_text("# nothing yet\n")
    assert tried.read_experiments(file) == ()
    file.write_text('[[experiment]]\nname = "a"\nwhat = "b"\nval_mae = 5.1\nnote = "c"\n')
    assert tried.read_experiments(file)[0].val_mae == 5.1
    file.write_text('[[experiment]]\nname = "a"\nwhat = "b"\nmae = 5.1\n')
    with pytest.raises(ValueError, match=r"experiments\.toml: experiment\.0\.mae"):
        tried.read_experiments(file)


def test_the_shipped_table_of_what_was_tried_can_be_read() -> None:
    written = tomllib.loads(tried.FILE.read_text()).get("experiment", [])
    assert len(tried.read_experiments()) == len(written)


def test_references_are_found_by_quantity_and_distance() -> None:
    assert {one.value for one in references_of(of.AUC, Institution.OTHER)} >= {"0.9988", "0.98"}
    assert references_of("age RMSE, years", Institution.SAME) == []


def test_parity_of_other_weights_is_not_quoted(tmp_path: Path) -> None:
    figure = Figure(
        dataset=criteria.PARITY,
        group=criteria.SIDES,
        quantity=criteria.YEARS_APART,
        value=0.01,
        n=6,
    )
    assert parity.read(tmp_path, "a") == []
    parity.write(tmp_path, [figure], "a")
    assert parity.read(tmp_path, "a") == [figure]
    assert parity.read(tmp_path, "b") == []
    assert "training side and node side | 6 | 0.0100" in sections.parity([figure])
