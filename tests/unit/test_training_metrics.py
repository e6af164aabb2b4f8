import time
from functools import partial
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, r2_score, roc_auc_score

from training.measure import metrics
from training.measure.metrics import estimate, resamples, value

SHROUT_FLEISS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]],
    dtype=np.float64,
)
"""Six targets, four judges: table 2 of Shrout & Fleiss 1979, where ICC(2,1) is .29."""


def sexes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = np.round(rng.random(count), 2)  # ties
    return p, (rng.random(count) < p).astype(np.float64)


def ages(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    years = rng.uniform(20, 80, count)
    return years + rng.normal(1.0, 5.0, count), years


def test_icc_of_the_worked_example() -> None:
    assert value(metrics.icc, *SHROUT_FLEISS.T) == pytest.approx(0.290, abs=0.0005)


def test_icc_wants_agreement_not_correlation() -> None:
    years = np.arange(20.0, 80.0)
    assert value(metrics.icc, years, years) == pytest.approx(1.0)
    assert value(metrics.icc, years + 30, years) < 0.5


def test_auc_is_that_of_scikit_learn() -> None:
    p, female = sexes(300, 1)
    assert value(metrics.auc, p, female) == pytest.approx(roc_auc_score(female, p), abs=1e-12)
    assert value(metrics.brier, p, female) == pytest.approx(brier_score_loss(female, p))
    assert np.isnan(value(metrics.auc, p, np.ones(300)))


def test_weights_are_repetitions() -> None:
    p, female = sexes(60, 2)
    mu, years = ages(60, 3)
    weights = resamples([str(i // 2) for i in range(60)], count=20)
    pairs: dict[metrics.Statistic, tuple[Any, Any]] = {
        metrics.mae: (mu, years),
        metrics.rmse: (mu, years),
        metrics.r2: (mu, years),
        metrics.icc: (mu, years),
        partial(metrics.limits_of_agreement, side=1): (mu, years),
        metrics.auc: (p, female),
        metrics.calibration_error: (p, female),
        partial(metrics.accuracy_of_surest, share=0.05): (p, female),
    }
    for statistic, columns in pairs.items():
        quick = statistic(weights, *columns)
        for row, found in zip(weights.astype(int), quick, strict=True):
            again = value(statistic, *(np.repeat(column, row) for column in columns))
            assert found == pytest.approx(again, abs=1e-9)


def test_r2_is_that_of_scikit_learn() -> None:
    mu, years = ages(200, 4)
    assert value(metrics.r2, mu, years) == pytest.approx(r2_score(years, mu))


def test_limits_of_agreement() -> None:
    years = np.array([40.0, 50.0, 60.0, 70.0])
    mu = years + np.array([1.0, 3.0, 1.0, 3.0])  # bias 2, standard deviation 2 / sqrt(3)
    low, high = (
        value(partial(metrics.limits_of_agreement, side=side), mu, years) for side in (-1, 1)
    )
    assert (low, high) == pytest.approx((2 - 1.96 * 1.1547, 2 + 1.96 * 1.1547), abs=1e-3)


def test_calibration_error_and_reliability() -> None:
    p = np.array([0.95, 0.95, 0.95, 0.95, 0.05, 0.05, 0.05, 0.05])
    female = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    expected = (abs(0.95 - 0.75) + abs(0.05 - 0.0)) / 2
    assert value(metrics.calibration_error, p, female) == pytest.approx(expected)
    stated, seen, counts = metrics.reliability(p, female)
    assert stated.tolist() == pytest.approx([0.05, 0.95])
    assert seen.tolist() == [0.0, 0.75]
    assert counts.tolist() == [4, 4]


def test_the_least_sure_are_left_out() -> None:
    p, female = np.array([0.9, 0.45, 0.2, 0.8]), np.array([1.0, 1.0, 0.0, 1.0])
    assert value(metrics.accuracy, p, female) == 0.75
    assert value(partial(metrics.accuracy_of_surest, share=0.25), p, female) == 1.0


def test_patients_are_resampled_not_images() -> None:
    values = np.array([0.0, 0.0, 0.0, 1.0])
    found = estimate(metrics.mean, resamples(["a", "a", "a", "b"]), values)
    assert found.value == 0.25
    assert (found.low, found.high) == (0.0, 1.0)


def test_an_interval_covers_the_truth() -> None:
    rng = np.random.default_rng(6)
    people = [str(i // 3) for i in range(120)]
    hits = 0
    for seed in range(200):
        shared = np.repeat(rng.normal(0, 3, 40), 3)  # images of one patient err alike
        found = estimate(
            metrics.mean, resamples(people, count=300, seed=seed), shared + rng.normal(0, 1, 120)
        )
        hits += found.low <= 0 <= found.high
    assert 0.89 <= hits / 200 <= 0.985


def test_a_thousand_resamples_take_no_time() -> None:
    mu, years = ages(1065, 7)
    people = [str(i) for i in range(1065)]
    began = time.process_time()
    estimate(metrics.mae, resamples(people), mu, years)
    assert time.process_time() - began < 1.0
