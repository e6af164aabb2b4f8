"""Shares, risk against coverage and cells, on predictions made up here."""

from dataclasses import replace

import numpy as np
import pytest

from dicom_ai_node.cli.model import _risk_rows
from dicom_ai_node.config.stages import PolicySettings
from training.data.images import PROJECT_SETS
from training.measure import answering, metrics
from training.measure import figures as of
from training.measure.answering import (
    AGE_ANSWERED,
    AGE_CERTAIN,
    AURC_AGE,
    AURC_SEX,
    PERFECT,
    SEX_ANSWERED,
    SEX_CERTAIN,
    at_least,
    at_most,
)
from training.measure.figures import find
from training.measure.table import OLD, PredictionTable, joined, label
from training.publish import card, sections

N = 200


@pytest.fixture(scope="module")
def known() -> PredictionTable:
    """Widths of 10 to 90 years, errors in proportion; a tenth refused; sexes right from .8 on."""
    wide = np.linspace(10, 90, N)
    years = np.tile([25.0, 75.0], N // 2)
    error = wide / 10 * np.where(np.arange(N) % 4 < 2, 1, -1)
    sure = np.linspace(0.5, 1.0, N)
    female = (np.arange(N) % 3 == 0).astype(np.float64)
    right = sure >= 0.8
    passed = np.ones((N, 3), dtype=bool)
    passed[::10, 0] = False
    half = np.repeat(wide[:, None] / 2, 4, axis=1)
    return PredictionTable(
        dataset=np.array(["val"] * N),
        kind=np.array(["frontal chest"] * N),
        image=np.array([f"{i}.png" for i in range(N)]),
        patient=np.array([f"p{i}" for i in range(N)]),
        source=np.array(["one"] * N),
        view=np.array(["PA"] * N),
        recorded=years,
        female=female,
        age=years + error,
        sd=wide / 4,
        low=(years + error)[:, None] - half,
        high=(years + error)[:, None] + half,
        p_female=np.where((female == 1) == right, sure, 1 - sure),
        gates=np.ones((N, 3)),
        passed=passed,
    )


def value(table: PredictionTable, quantity: str, group: str = "") -> float:
    found = find(answering.measure(table), "val", quantity, group=group)
    assert found is not None, quantity
    return found.value


def test_without_thresholds_everything_is_answered_that_the_gates_let_pass(
    known: PredictionTable,
) -> None:
    assert value(known, AGE_ANSWERED) == value(known, SEX_ANSWERED) == 0.9
    policy = PolicySettings()
    narrow = (known.high - known.low)[:, 2] <= policy.certain_age_interval
    assert value(known, AGE_CERTAIN) == pytest.approx((narrow & known.answered).mean())
    sure = np.maximum(known.p_female, 1 - known.p_female) >= policy.certain_sex
    assert value(known, SEX_CERTAIN) == pytest.approx((sure & known.answered).mean())


def test_each_threshold_says_what_it_answers_and_how_well(known: PredictionTable) -> None:
    shares = [value(known, AGE_ANSWERED, at_most(years)) for years in answering.WIDTHS]
    errors = [value(known, of.MAE, at_most(years)) for years in answering.WIDTHS]
    assert shares == sorted(shares)
    assert errors == sorted(errors)
    narrow = ((known.high - known.low)[:, 2] <= 50) & known.answered
    assert value(known, AGE_ANSWERED, at_most(50)) == pytest.approx(narrow.mean(), abs=1e-4)
    missed = np.abs(known.age - known.recorded)[narrow].mean()
    assert value(known, of.MAE, at_most(50)) == pytest.approx(missed, abs=1e-4)
    assert value(known, of.ACCURACY, at_least(0.8)) == 1.0
    assert value(known, of.ACCURACY, at_least(0.6)) < 1.0


def test_the_area_is_that_of_the_curve_and_a_perfect_order_is_least(
    known: PredictionTable,
) -> None:
    error = np.abs(known.age - known.recorded)
    shares, risk = answering.curve(known, answering.age_doubt(known), error)
    assert shares[-1] == 0.9
    assert value(known, AURC_AGE) == pytest.approx(risk.mean(), abs=1e-4)
    assert value(known, AURC_AGE) == value(known, AURC_AGE, PERFECT)  # widths are as the errors
    assert value(known, AURC_SEX) >= value(known, AURC_SEX, PERFECT)
    half = np.repeat(1 / known.sd[:, None], 4, axis=1)
    turned = replace(known, low=known.age[:, None] - half, high=known.age[:, None] + half)
    at_random = find(answering.measure(turned), "val", AURC_AGE)
    assert at_random is not None
    assert at_random.baseline is not None
    assert at_random.baseline == pytest.approx(error[known.answered].mean(), abs=1e-4)
    assert at_random.value > at_random.baseline > value(known, AURC_AGE)


def test_a_repeated_image_counts_as_often_as_it_is_drawn() -> None:
    doubt, error = np.array([1.0, 2.0, 3.0]), np.array([1.0, 5.0, 2.0])
    weights = np.array([[2.0, 1.0, 1.0]])
    (weighted,) = metrics.aurc(weights, doubt, error)
    # The first two answers miss by 1 each, then 7 / 3 and 9 / 4 on average.
    assert weighted == pytest.approx((2 * 1 + 7 / 3 + 9 / 4) / 4)


def test_cells_with_enough_images_are_covered_each_for_itself(known: PredictionTable) -> None:
    made = answering.measure(known)
    of_cells = {one.group: one for one in made if one.group.startswith(sections.CELL)}
    assert set(of_cells) == {
        label("cell", f"{sex}, {ages}, one")
        for sex in ("female", "male")
        for ages in ("20 to 39", "70 and over")
    }
    few = answering.measure(known.where(np.arange(N) < 30))
    assert not any(one.group == label("cell", "female, 20 to 39, one") for one in few)
    worst = answering.worst_cell(made, "val")
    assert worst is not None
    shown = sections.by_cell(made, "val").splitlines()
    assert worst.group.removeprefix(sections.CELL) in shown[2]
    assert f"{worst.n} images" in sections.worst(made, PROJECT_SETS)


def test_the_old_of_both_inner_sets_are_measured_together(known: PredictionTable) -> None:
    other = replace(known, dataset=np.array(["val_128"] * N), age=known.age + 3)
    elsewhere = replace(known, dataset=np.array(["external_dev"] * N), age=known.age + 50)
    tables = [joined([known, other]), joined([known, other, elsewhere])]
    old = known.recorded >= 70
    expected = float((known.age - known.recorded)[old].mean()) + 1.5
    for table in tables:
        found = find(answering.measure(table), answering.TOGETHER, of.BIAS, group=label("age", OLD))
        assert found is not None
        assert found.n == 2 * old.sum()
        assert found.value == pytest.approx(expected, abs=1e-4)


def test_report_and_terminal_tell_the_same_thresholds(known: PredictionTable) -> None:
    made = answering.measure(known)
    quoted = [one for one in made if card.quotes(one)]
    assert sections.risk(quoted, PROJECT_SETS) == sections.risk(made, PROJECT_SETS)
    rows = list(_risk_rows(quoted, "interval at most ", AGE_ANSWERED, of.MAE))
    assert [row[""] for row in rows] == [f"{years:g}" for years in answering.WIDTHS]
    share, missed = (value(known, name, at_most(45)) for name in (AGE_ANSWERED, of.MAE))
    assert {row[""]: row["val"] for row in rows}["45"] == f"{share:.0%}, {missed:.3g}"
    assert f"{share:.0%}, {missed:.2f}" in sections.risk(made, PROJECT_SETS)
