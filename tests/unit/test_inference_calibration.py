import numpy as np
import pytest
from pydantic import ValidationError

from dicom_ai_node.inference.calibration import (
    LEVELS,
    AgeCalibration,
    distance,
    p_value,
    sigmoid,
)
from training import calibrate


def errors(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimates whose errors are skewed and twice as large as sigma says."""
    rng = np.random.default_rng(seed)
    mu = rng.uniform(20, 80, count)
    sigma = rng.uniform(2, 6, count)
    years = mu + sigma * (rng.gamma(4.0, 1.0, count) - 4.0)
    return mu.astype(np.float32), sigma.astype(np.float32), years.astype(np.float32)


def test_intervals_cover_what_they_say() -> None:
    fitted = calibrate.age(*errors(3000, 1))
    assert len(fitted.edges) == 2
    mu, sigma, years = errors(3000, 2)
    for level in LEVELS:
        inside = [
            low <= y <= high
            for m, s, y in zip(mu, sigma, years, strict=True)
            for low, high in [fitted.interval(float(m), float(s), level)]
        ]
        assert np.mean(inside) == pytest.approx(float(level) / 100, abs=0.03)


def test_intervals_are_nested_and_contain_the_estimate() -> None:
    fitted = calibrate.age(*errors(300, 3))
    for mu in (0.0, 3.0, 39.9, 40.0, 75.0, 100.0):
        widest = (-1.0, 200.0)
        for level in reversed(LEVELS):
            low, high = fitted.interval(mu, 4.0, level)
            assert widest[0] <= low <= mu <= high <= widest[1]
            widest = low, high


def test_small_bands_are_pooled() -> None:
    assert calibrate.age(*errors(100, 4)).edges == ()


def test_a_negative_quantile_is_refused() -> None:
    quantiles = dict.fromkeys(LEVELS, ((-0.1, 1.0),))
    with pytest.raises(ValidationError, match="negative"):
        AgeCalibration(edges=(), quantiles=quantiles, sd_scale=1.0)


def test_temperature_cools_an_overconfident_network() -> None:
    rng = np.random.default_rng(5)
    true = rng.normal(0, 2, 4000)
    female = (rng.random(4000) < 1 / (1 + np.exp(-true))).astype(np.float32)
    fitted = calibrate.sex((2 * true).astype(np.float32), female)
    assert fitted.temperature == pytest.approx(2.0, rel=0.15)


def test_p_values_of_the_calibration_set_are_uniform() -> None:
    reference = np.sort(np.random.default_rng(6).random(199))
    p = p_value(np.array([-1.0, reference[100], 2.0]), reference.tolist())
    assert p.tolist() == [1.0, 0.5, 1 / 200]


def test_distance_grows_within_and_outside_of_the_components() -> None:
    rng = np.random.default_rng(7)
    spread = np.concatenate([np.full(80, 2.0), np.full(20, 0.1)])
    features = (rng.standard_normal((2000, 100)) * spread).astype(np.float32)
    fitted = calibrate.distance(features)
    residual = float(fitted.residual[0])
    probes = np.zeros((3, 100), np.float32)
    probes[1, 0], probes[2, 99] = 20.0, 20.0
    at_mean, inside, outside = distance(probes, fitted.mean, fitted.projection, residual)
    assert at_mean < np.median(distance(features, fitted.mean, fitted.projection, residual))
    assert inside > 50
    assert outside > 50


def test_sigmoid_does_not_overflow() -> None:
    assert [sigmoid(x) for x in (-1e6, 0.0, 1e6)] == [0.0, 0.5, 1.0]
