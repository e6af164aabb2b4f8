"""A quantity with mean and log variance goes the way of one over whole numbers."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from dicom_ai_node.answers import Quantity
from dicom_ai_node.config.processes import ModelSettings
from dicom_ai_node.errors import ConfigError
from dicom_ai_node.inference import bundle, coverage, fitting
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.inference.fitting import Cases
from dicom_ai_node.inference.heads import AGE, QuantityHead
from dicom_ai_node.inference.intervals import LEVELS, Widening
from dicom_ai_node.inference.torch_engine import run
from tests.builders.bundles import SIZE, invented_bundle

YEARS = QuantityHead(
    name="age", output=0, unit="a", normal=(55.0, 20.0), bounds=(0.0, 110.0), attribute="PatientAge"
)


@pytest.fixture(scope="module")
def normal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return invented_bundle(tmp_path_factory.mktemp("bundles") / "normal", (YEARS,))


def test_the_bundle_answers_with_an_interval_about_the_mean(normal: Path) -> None:
    estimator = Estimator(normal, device="cpu")
    images = np.random.default_rng(0).random((3, SIZE, SIZE), dtype=np.float32)
    said = run(estimator.network, images)["age"]

    for one, (mean, sigma) in zip(estimator.predict(images), said.tolist(), strict=True):
        answer = one.answers["age"]
        assert isinstance(answer, Quantity)
        assert answer.mu == pytest.approx(mean)
        assert answer.sigma == pytest.approx(sigma)
        assert list(answer.interval90) == pytest.approx([mean - sigma, mean + sigma])
        assert 35 < answer.mu < 75  # a network that has learnt nothing says the centre


@pytest.mark.parametrize(("bias", "said"), [(-50.0, 0.0), (50.0, 110.0)])
def test_no_answer_lies_beyond_its_bounds(normal: Path, bias: float, said: float) -> None:
    estimator = Estimator(normal, device="cpu")
    with torch.no_grad():
        estimator.network.head.bias[YEARS.output] = bias

    (one,) = estimator.predict(np.zeros((1, SIZE, SIZE), np.float32))

    answer = one.quantity("age")
    assert answer.mu == said
    low, high = answer.interval90
    assert 0 <= low <= said <= high <= 110


def test_the_manifest_keeps_the_head_and_leaves_others_as_they_were(normal: Path) -> None:
    (head,) = bundle.load_manifest(normal).heads

    assert head == YEARS
    assert "support" not in head.model_dump(mode="json")
    assert list(AGE.model_dump(mode="json")) == [
        "name", "output", "kind", "unit", "support", "bounds", "attribute",
    ]  # fmt: skip


def test_split_conformal_mends_a_sigma_that_is_too_small() -> None:
    rng = np.random.default_rng(1)
    n = 3000
    mu, sigma = rng.uniform(30, 80, n), rng.uniform(2, 6, n)
    truth = rng.normal(mu, 1.4 * sigma)  # overconfident, as plain likelihoods are
    cases = Cases(
        heads=(YEARS,),
        raw={"age": np.stack([mu, sigma], axis=1)},
        truth={"age": truth},
        content=rng.random(n),
        texture=rng.random(n),
        patients=np.arange(n).astype(str),
    )
    half = np.arange(n) < n // 2

    fitted = fitting.fit(cases.at(half), {"age": Widening()})
    bounds = coverage.intervals(fitted, cases.at(half).reference, cases.at(~half), YEARS)

    for level, covered in zip(LEVELS, coverage.summary(bounds, truth[~half]), strict=True):
        assert covered.coverage == pytest.approx(float(level) / 100, abs=0.04)
    assert fitted.quantity("age").sd_scale == pytest.approx(1.4, abs=0.1)


def test_what_a_bundle_of_projections_needs_is_asked_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    route = {"contract": "projections-1", "takes": "series", "modalities": ["CT"]}
    folder = invented_bundle(tmp_path / "series", (YEARS,), accepts=route)
    model = ModelSettings(bundle=str(folder))
    assert [manifest.name for manifest in bundle.verify_in_use(model)] == ["series"]

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "skimage" else found(name)
    )
    with pytest.raises(ConfigError, match=r"scikit-image: pip install 'dicom-ai-node\[ct\]'"):
        bundle.verify_in_use(model)
