import numpy as np
import pytest
import torch

from dicom_ai_node.inference.network import moments
from training.fit import prior

AGES = len(prior.YEARS)


def ages(count: int, seed: int) -> np.ndarray:
    """A training set with few old people."""
    drawn = np.random.default_rng(seed).normal(45, 12, count)
    return np.clip(np.rint(drawn), 0, 100)


def posterior(years: np.ndarray, density: np.ndarray, seed: int, noise: float = 8.0) -> np.ndarray:
    """Logits of a network that has learnt the image's likelihood and the training set's prior."""
    seen = years + np.random.default_rng(seed).normal(0, noise, len(years))
    likelihood = -np.square(prior.YEARS - seen[:, None]) / (2 * noise**2)
    logits: np.ndarray = likelihood + density
    return logits


def test_the_density_is_one_and_has_a_floor() -> None:
    density = np.exp(prior.log_prior(np.append(ages(5000, 0), np.nan), floor=0.1))
    assert density.sum() == pytest.approx(1.0)
    assert density[100] == pytest.approx(0.1 / AGES, rel=0.01)
    assert density[:18].max() < density[45] > density[75:].max()
    edge = np.exp(prior.log_prior(np.zeros(10), floor=0.0))
    assert edge.sum() == pytest.approx(1.0)
    with pytest.raises(ValueError, match="age"):
        prior.log_prior(np.array([np.nan]))


def test_tau_is_recovered_where_the_prior_has_shifted() -> None:
    """The network multiplied the likelihood by the prior; everybody is now equally frequent."""
    density = prior.log_prior(ages(5000, 1))
    years = np.random.default_rng(2).uniform(0, 100, 6000)
    points = prior.curve(posterior(years, density, 3), years, density)
    chosen = prior.choose(points)
    assert chosen.tau == pytest.approx(1.0, abs=0.15)
    assert abs(chosen.bias_old) <= prior.LARGEST_BIAS < abs(points[0].bias_old)
    assert chosen.mae < points[0].mae - 0.5
    half = prior.curve(posterior(years, 0.5 * density, 3), years, density)
    assert prior.choose(half).tau == pytest.approx(0.5, abs=0.15)


def test_tau_stays_zero_where_the_prior_still_holds() -> None:
    training = ages(5000, 4)
    density = prior.log_prior(training)
    points = prior.curve(posterior(training, density, 5, noise=3.0), training, density)
    assert prior.choose(points).tau <= 0.1
    assert len(points) == len(prior.TAUS)


def test_the_old_come_first_then_the_balance() -> None:
    def point(tau: float, mae: float, balanced: float, bias_old: float) -> prior.TauPoint:
        return prior.TauPoint(tau, mae, balanced, 0.0, bias_old)

    fair = [point(0.0, 5.0, 8.0, -9.0), point(0.5, 5.4, 7.0, -3.9), point(1.0, 5.6, 6.5, 1.0)]
    assert prior.choose(fair).tau == 0.5
    unfair = [point(0.0, 5.0, 8.0, -9.0), point(0.5, 5.4, 6.9, -6.0), point(1.0, 6.0, 7.0, -5.0)]
    assert prior.choose(unfair).tau == 0.5
    nobody_old = [point(0.0, 5.0, 8.0, float("nan")), point(0.5, 5.4, 7.0, float("nan"))]
    assert prior.choose(nobody_old).tau == 0.5


def test_who_is_70_is_old() -> None:
    """Ages are completed years: the marks' and the tables' ``70 and over`` begins there."""
    logits = np.zeros((2, len(prior.YEARS)))  # 50 years each
    (point,) = prior.curve(logits, np.array([69.0, 70.0]), logits[0], np.array([0.0]))
    assert point.bias_old == pytest.approx(-20)


def test_baking_gives_the_adjusted_answer_and_moves_nothing_else() -> None:
    rng = np.random.default_rng(7)
    density = prior.log_prior(ages(500, 6))
    weight = rng.standard_normal((AGES + 3, 16)).astype(np.float32)
    tensors = {prior.HEAD_BIAS: rng.standard_normal(AGES + 3).astype(np.float32)}
    baked = prior.bake(tensors, density, 0.7)
    features = rng.standard_normal((3, 16)).astype(np.float32) @ weight.T
    before, after = (features + state[prior.HEAD_BIAS] for state in (tensors, baked))
    expected = prior.adjusted(before[:, :AGES].astype(np.float64), density, 0.7)
    mu, _ = moments(torch.from_numpy(after[:, :AGES]))
    np.testing.assert_allclose(mu.numpy(), prior.expectation(expected), rtol=1e-4)
    assert (before[:, :AGES] != after[:, :AGES]).any()
    assert (before[:, AGES:] == after[:, AGES:]).all()


def test_the_whole_curve_is_told() -> None:
    density = prior.log_prior(ages(500, 7))
    years = ages(200, 8)
    points = prior.curve(posterior(years, density, 9), years, density)
    text = prior.table(points, 0.5).splitlines()
    assert len(text) == len(prior.TAUS) + 1
    assert [line for line in text if "chosen" in line] == [text[11]]
