"""A linear layer by ridge regression: where it is used, and where nothing else is learnt."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dicom_ai_node.inference import torch_engine
from dicom_ai_node.inference.engine import Raw
from dicom_ai_node.inference.network import Network
from training.fit import ages as fit_ages
from training.fit import config as settings
from training.fit import ridge, start
from training.fit.ages import AGE, Looked, Projections

PEOPLE = np.array([f"p{n // 2}" for n in range(200)])


def test_a_line_is_found_and_its_error_is_that_of_patients_left_out() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 300)) * np.linspace(0.1, 3, 300)
    numbers = 2 + features[:, 0] * 5 + rng.normal(0, 0.1, 200)

    line = ridge.fitted(features, numbers, PEOPLE)

    fresh = rng.normal(size=(500, 300)) * np.linspace(0.1, 3, 300)
    error = line.of(fresh) - (2 + fresh[:, 0] * 5)
    assert np.std(error) < 0.95 * np.std(fresh[:, 0] * 5)
    assert line.sigma == pytest.approx(np.std(error), rel=0.2)


def test_where_there_is_nothing_to_learn_the_mean_is_said() -> None:
    rng = np.random.default_rng(0)

    line = ridge.fitted(rng.normal(size=(200, 300)), rng.normal(50, 10, 200), PEOPLE)

    said = line.of(rng.normal(size=(100, 300)))
    assert np.std(said) < 1
    assert np.mean(said) == pytest.approx(50, abs=2)
    assert line.sigma == pytest.approx(10, rel=0.2)


def network() -> Network:
    torch.manual_seed(0)
    return Network("resnet18", rows=(AGE,), channels=2)


def pictures(n: int = 20) -> Projections:
    rng = np.random.default_rng(0)
    return Projections(rng.integers(0, 65535, (n, 2, 32, 32)).astype(np.uint16))


def test_the_network_says_what_the_line_says() -> None:
    made, looked = network(), Looked(pictures())
    years = np.linspace(30, 80, 20)
    features = looked.through(made).features

    ridge.begin(made, AGE, features, years, PEOPLE[:20])

    line = ridge.fitted(features.astype(np.float64), (years - 55) / 20, PEOPLE[:20])
    said = looked.through(made)[AGE.name]
    assert said[:, 0] == pytest.approx(55 + 20 * line.of(features.astype(np.float64)), abs=0.01)
    assert said[:, 1] == pytest.approx(20 * line.sigma, rel=1e-4)


def test_one_backbone_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counted(one: Network, images: NDArray[np.float32]) -> Raw:
        asked.append(len(images))
        return torch_engine.run(one, images)

    monkeypatch.setattr(fit_ages, "run", counted)
    made, looked = network(), Looked(pictures())
    first = looked.through(made)
    with torch.no_grad():
        made.head.bias.add_(1)
    second = looked.through(made)
    assert asked == [20]
    assert second[AGE.name][:, 0] == pytest.approx(first[AGE.name][:, 0] + 20, abs=1e-3)
    with torch.no_grad():
        next(made.backbone.parameters()).mul_(2)
    looked.through(made)
    assert asked == [20, 20]


def test_no_minutes_are_enough_for_a_ridge_alone(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("minutes = 0\nridge = true\n")
    run = settings.read(file)

    assert run.progress(0, 0) == 1
    assert "by ridge regression, nothing else trained" in start.history(run)
    file.write_text("minutes = 0\n")
    with pytest.raises(SystemExit, match="minutes is 0, expected more than 0"):
        settings.read(file)
    file.write_text("ridge = true\nsteps = 5\n")
    with pytest.raises(SystemExit, match="ridge needs minutes = 0"):
        settings.read(file)
