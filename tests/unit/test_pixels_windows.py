"""``windows-1``: three windows of a CT, one stretch of anything else, padded to a square."""

import numpy as np
import pytest

from dicom_ai_node.pixels.normalise import normalise
from dicom_ai_node.pixels.windows import WINDOWS, fit, windows


def test_the_channels_of_a_ct_are_its_lung_soft_tissue_and_bone_window() -> None:
    """A pixel of lung, one of liver and one of cortical bone, in each of three windows."""
    values = np.array([[-850, 60, 1200]], np.int16)
    seen = windows(values, "CT", 3)[:, 1, :]
    lung, soft, bone = seen
    assert [window.name for window in WINDOWS] == ["lung", "soft tissue", "bone"]
    assert lung == pytest.approx([500 / 1500, 1410 / 1500, 1.0])
    assert soft == pytest.approx([0.0, 220 / 400, 1.0])
    assert bone == pytest.approx([0.0, 560 / 1800, 1700 / 1800])


def test_the_scale_of_a_ct_is_absolute_and_that_of_an_mr_is_not() -> None:
    """Twice the values are another CT and the same MR."""
    values = np.random.default_rng(0).uniform(0, 500, (40, 40))
    assert not np.allclose(windows(values, "CT", 32), windows(values * 2, "CT", 32))
    assert np.allclose(windows(values, "MR", 32), windows(values * 2, "MR", 32), atol=1e-5)


def test_what_is_no_ct_is_stretched_as_in_square_1_in_all_channels() -> None:
    """An image that is square already is, but for the channels, what ``square-1`` makes of it."""
    values = np.random.default_rng(1).integers(0, 4096, (300, 300), dtype=np.uint16)
    for modality in ("MR", ""):
        seen = windows(values, modality, 64)
        assert seen.shape == (3, 64, 64)
        assert seen.dtype == np.float32
        for channel in seen:
            assert np.array_equal(channel, normalise(values, 64))


@pytest.mark.parametrize("shape", [(100, 50), (50, 100), (513, 257), (7, 300), (1, 1)])
def test_proportions_are_kept_and_the_rest_is_black(shape: tuple[int, int]) -> None:
    """A white strip stays a strip, in the middle, whichever way it lies."""
    seen = windows(np.full(shape, 3000, np.int16), "CT", 64)
    rows, columns = (seen[0] > 0).any(axis=1), (seen[0] > 0).any(axis=0)
    high, wide = (max(1, round(side * 64 / max(shape))) for side in shape)
    assert (rows.sum(), columns.sum()) == (high, wide)
    assert abs(int(np.argmax(rows)) - int(np.argmax(rows[::-1]))) <= 1
    assert abs(int(np.argmax(columns)) - int(np.argmax(columns[::-1]))) <= 1
    assert seen.max() == 1
    assert set(np.unique(seen)) <= {0.0, 1.0}


def test_means_are_taken_of_hu_and_not_of_what_a_window_left() -> None:
    """Half air and half bone in one pixel are what a coarse scanner measures, 250 HU."""
    values = np.where(np.indices((400, 400)).sum(axis=0) % 2, -1000, 1500).astype(np.int16)
    assert windows(values, "CT", 50)[2] == pytest.approx((250 + 500) / 1800, abs=1e-4)


def test_a_constant_mr_is_black_and_a_constant_ct_is_not() -> None:
    """Nothing can be stretched there; water has its grey in each window."""
    values = np.zeros((64, 64), np.int16)
    assert not windows(values, "MR", 32).any()
    assert windows(values, "CT", 32)[:, 0, 0] == pytest.approx([0.9, 0.4, 500 / 1800])


def test_fit_keeps_the_units() -> None:
    """A ramp keeps its mean."""
    ramp = np.tile(np.arange(1024, dtype=np.int16) - 512, (512, 1))
    small = fit(ramp, 128)
    assert small.shape == (64, 128)
    assert float(small.mean()) == pytest.approx(-0.5, abs=0.01)


@pytest.mark.parametrize("values", [np.zeros((0, 4)), np.zeros((4, 4, 3)), np.full((4, 4), np.nan)])
def test_what_is_no_grey_image_is_an_error(values: np.ndarray) -> None:
    """The error says what was expected."""
    with pytest.raises(ValueError, match="expected"):
        windows(values, "CT", 32)
