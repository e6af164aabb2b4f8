import numpy as np
import pytest

from dicom_ai_node.demo import phantom
from dicom_ai_node.pixels.normalise import normalise
from training.data import shift


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.stack([normalise(phantom.chest(50, "F", seed, 128), 96) for seed in range(12)])


def test_changed_images_keep_the_contract_and_depend_on_the_seed_alone(images: np.ndarray) -> None:
    changed = shift.shifted(images, np.random.default_rng(0))
    assert changed.shape == images.shape
    assert changed.dtype == np.float32
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert (changed == shift.shifted(images, np.random.default_rng(0))).all()
    assert (changed != images).any(axis=(1, 2)).all()


def test_channels_are_changed_in_the_same_ways(images: np.ndarray) -> None:
    """A picture's stay alike; those of HU stay apart, each with what it had."""
    pictures = np.repeat(images[:, np.newaxis], 3, axis=1)
    changed = shift.shifted_channels(pictures, np.random.default_rng(0))
    assert (changed == changed[:, :1]).all()
    assert (changed != pictures).any(axis=(1, 2, 3)).all()
    windows = np.stack([images, images * 0.5, 1 - images], axis=1)
    changed = shift.shifted_channels(windows, np.random.default_rng(0))
    assert changed.shape == windows.shape
    assert (changed[:, 0] != changed[:, 2]).any(axis=(1, 2)).all()
    assert (changed != windows).any(axis=(2, 3)).all()
    assert changed.dtype == np.float32


@pytest.mark.parametrize("change", shift.CHANGES, ids=lambda change: change.__name__)
def test_each_change_leaves_a_chest_the_same_way_round(
    change: shift.Change, images: np.ndarray
) -> None:
    rng = np.random.default_rng(1)
    left = np.linspace(1, 0, images.shape[2]) * np.ones_like(images[0])
    gaps = []
    for image in (0.5 * images + 0.5 * left).astype(np.float32):
        kept = image.copy()
        changed = np.clip(change(image, rng), 0, 1)
        assert (image == kept).all()
        assert changed.shape == image.shape
        assert np.abs(changed - image).mean() > 0.001
        likeness = np.corrcoef(changed.ravel(), image.ravel())[0, 1]
        flipped = np.corrcoef(changed.ravel(), image[:, ::-1].ravel())[0, 1]
        gaps.append(likeness - flipped)
    assert np.mean(gaps) > 0.2
