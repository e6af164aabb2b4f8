from pathlib import Path

import numpy as np
import pytest

from dicom_ai_node.config.bundles import default_bundle
from dicom_ai_node.config.paths import models_folder
from dicom_ai_node.demo import phantom
from dicom_ai_node.errors import BundleError
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.pixels.normalise import normalise


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return Estimator(default_bundle(), device="cpu")


def test_a_phantom_is_the_same_every_time() -> None:
    first, again = phantom.chest(50, "F", 3, 128), phantom.chest(50, "F", 3, 128)
    assert first.dtype == np.uint16
    assert first.shape == (128, 128)
    assert first.max() <= phantom.LARGEST
    assert (first == again).all()
    assert (first != phantom.chest(50, "F", 4, 128)).any()
    assert (first != phantom.chest(50, "M", 3, 128)).any()


def test_an_unknown_sex_is_refused() -> None:
    with pytest.raises(ValueError, match="'X'"):
        phantom.chest(50, "X", 1)


def test_an_altered_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / phantom.FILE
    content = bytearray((models_folder() / phantom.FILE).read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(BundleError, match="SHA-256 is"):
        phantom.load(file)
    with pytest.raises(BundleError, match="expected the phantoms"):
        phantom.load(tmp_path / "none")


def test_chests_pass_the_gates(estimator: Estimator) -> None:
    rng = np.random.default_rng(1)
    people = [(float(rng.uniform(25, 85)), "FM"[i % 2], i) for i in range(20)]
    images = [normalise(phantom.chest(*p, size=512), estimator.size) for p in people]
    thresholds = estimator.manifest.thresholds
    passed = [
        p.in_distribution >= thresholds["in_distribution"]
        and all(score >= thresholds[name] for name, score in p.gates.items())
        for p in estimator.predict(np.stack(images))
    ]
    assert np.mean(passed) >= 0.9


def test_estimates_follow_age_and_sex(estimator: Estimator) -> None:
    people = [(float(age), sex, seed) for seed in range(4) for age in (30, 50, 70) for sex in "FM"]
    images = [normalise(phantom.chest(*p, size=512), estimator.size) for p in people]
    answers = estimator.predict(np.stack(images))
    errors = [abs(a.quantity("age").mu - p[0]) for a, p in zip(answers, people, strict=True)]
    right = [(a.category("sex").value == p[1]) for a, p in zip(answers, people, strict=True)]
    assert np.mean(errors) < 8  # 4.1 over 100 phantoms of 20 to 88 years, the worst 13
    assert np.mean(right) >= 0.9  # 1.00


def test_hands_and_laterals_do_not(estimator: Estimator) -> None:
    hands = [normalise(phantom.hand(seed, 512), estimator.size) for seed in range(5)]
    laterals = [normalise(phantom.lateral(seed, 512), estimator.size) for seed in range(5)]
    thresholds = estimator.manifest.thresholds
    for prediction in estimator.predict(np.stack(hands)):
        strange = prediction.in_distribution < thresholds["in_distribution"]
        assert prediction.gates["chest"] < thresholds["chest"] or strange
    for prediction in estimator.predict(np.stack(laterals)):
        assert prediction.gates["frontal"] < thresholds["frontal"]
