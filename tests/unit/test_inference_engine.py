from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_ai_node.answers import Prediction
from dicom_ai_node.config.bundles import default_bundle
from dicom_ai_node.demo import phantom
from dicom_ai_node.inference.distances import Distances
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.pixels.normalise import normalise


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return Estimator(default_bundle(), device="cpu", batch=4)


def shown_to(estimator: Estimator, images: list[NDArray[np.uint16]]) -> NDArray[np.float32]:
    return np.stack([normalise(image, estimator.size) for image in images])


@pytest.fixture(scope="module")
def images(estimator: Estimator) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    shown = shown_to(estimator, [phantom.chest(30 + 8 * s, "F", s, 256) for s in range(5)])
    noise = rng.random((2, estimator.size, estimator.size), dtype=np.float32)
    return np.concatenate([shown, noise, np.zeros_like(noise[:1])])


def numbers(prediction: Prediction) -> list[float]:
    age, sex = prediction.quantity("age"), prediction.category("sex")
    scores = (*sex.probabilities.values(), *prediction.gates.values(), prediction.in_distribution)
    return [age.mu, age.sigma, *age.interval90, *scores]


def test_an_answer_does_not_depend_on_its_neighbours(
    estimator: Estimator, images: NDArray[np.float32]
) -> None:
    together = np.array([numbers(p) for p in estimator.predict(images)])
    alone = np.array([numbers(estimator.predict(image[None])[0]) for image in images])
    reversed_ = np.array([numbers(p) for p in estimator.predict(images[::-1])])[::-1]
    np.testing.assert_allclose(together, alone, atol=1e-3, rtol=1e-4)
    np.testing.assert_allclose(together, reversed_, atol=1e-3, rtol=1e-4)


def test_the_same_image_gets_the_same_answer(
    estimator: Estimator, images: NDArray[np.float32]
) -> None:
    assert estimator.predict(images[:3]) == estimator.predict(images[:3])


def test_answers_are_what_they_claim_to_be(
    estimator: Estimator, images: NDArray[np.float32]
) -> None:
    for prediction in estimator.predict(images):
        age, sex = prediction.quantity("age"), prediction.category("sex")
        low, high = age.interval90
        assert 0 <= low <= age.mu <= high <= 110
        assert age.sigma > 0
        assert (age.unit, age.attribute, sex.attribute) == ("a", "PatientAge", "PatientSex")
        assert list(sex.probabilities) == ["F", "M"]
        assert list(prediction.gates) == ["chest", "frontal"]
        for share in (*sex.probabilities.values(), *prediction.gates.values()):
            assert 0 <= share <= 1
        assert 0 <= prediction.in_distribution <= 1


def test_noise_is_not_a_chest(estimator: Estimator, images: NDArray[np.float32]) -> None:
    thresholds = estimator.manifest.thresholds
    for prediction in estimator.predict(images[5:]):
        passed = {**prediction.gates, "in_distribution": prediction.in_distribution}
        assert min(passed[name] - thresholds[name] for name in passed) < 0


def test_the_content_is_gated_and_the_texture_costs_certainty(
    estimator: Estimator, images: NDArray[np.float32]
) -> None:
    raw, near = estimator.measure(images[:5])
    usual = np.full_like(near.texture, np.median(estimator.reference.texture))
    known = estimator.calibrated(raw, Distances(near.content, usual))
    other_content = estimator.calibrated(raw, Distances(near.content * 9, usual))
    other_texture = estimator.calibrated(raw, Distances(near.content, usual * 9))
    for plain, content, texture in zip(known, other_content, other_texture, strict=True):
        assert content.in_distribution < plain.in_distribution == texture.in_distribution
        age, far = plain.quantity("age"), texture.quantity("age")
        assert content.quantity("age").interval90 == age.interval90
        assert far.mu == age.mu
        assert far.sigma >= 2 * age.sigma
        assert texture.category("sex").certainty < plain.category("sex").certainty


def test_nothing_in_nothing_out(estimator: Estimator) -> None:
    assert estimator.predict(np.zeros((0, estimator.size, estimator.size), np.float32)) == []


@pytest.mark.parametrize(
    "wrong", [np.zeros((1, 32, 32), np.float32), np.zeros((1, 224, 224)), np.zeros((224, 224))]
)
def test_a_wrong_shape_or_type_is_refused(estimator: Estimator, wrong: NDArray[np.float32]) -> None:
    with pytest.raises(ValueError, match="expected float32"):
        estimator.predict(wrong)


def test_the_engine_says_which_bundle_answers(estimator: Estimator) -> None:
    assert estimator.identity == estimator.manifest.identity
    assert estimator.size == estimator.manifest.size
    assert estimator.device == "cpu"


def test_older_phantoms_look_older(estimator: Estimator) -> None:
    means = []
    for age in (25, 45, 65, 85):
        images = shown_to(estimator, [phantom.chest(age, "M", s, 256) for s in range(4)])
        means.append(
            np.mean([prediction.quantity("age").mu for prediction in estimator.predict(images)])
        )
    assert all(younger < older for younger, older in pairwise(means))
