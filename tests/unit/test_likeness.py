"""How alike two chests are, and what that is worth."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_ai_node.archive.statistics import Spread, age_p_value
from dicom_ai_node.likeness import Embedding, Scale, likeness, lower_tail, together

SCALE = Scale(centre=0.8, spread=0.1, intercept=-2.0, slope=4.0, bounds=(-3.0, 3.0))
SPACE = "a" * 64


def chest(angle: float, space: str = SPACE) -> Embedding:
    """An embedding in a plane, at an angle in degrees."""
    turned = math.radians(angle)
    return Embedding(space, (math.cos(turned), math.sin(turned)), SCALE)


def test_a_chest_is_compared_with_the_mean_similarity_of_the_others() -> None:
    like = likeness(chest(0), [chest(60), chest(-60)])
    assert like is not None
    assert like.studies == 2
    assert like.deviation == pytest.approx((0.5 - 0.8) / 0.1)
    assert like.ratio == pytest.approx(-2.0 + 4.0 * 0.5)
    assert like.p_value < 0.02


def test_no_ratio_is_claimed_beyond_what_was_measured() -> None:
    like = likeness(chest(0), [chest(180)])
    assert like is not None
    assert like.ratio == -3.0


def test_nothing_is_compared_across_weights_or_without_others() -> None:
    assert likeness(chest(0), []) is None
    assert likeness(None, [chest(0)]) is None
    assert likeness(chest(0), [chest(0, "b" * 64)]) is None


def test_images_of_one_study_have_one_direction() -> None:
    assert together([]) is None
    both = together([chest(10), chest(50)])
    assert both is not None
    assert both.similarity(chest(30)) == pytest.approx(1.0)


@given(st.lists(st.floats(-1, 1, width=16), min_size=2, max_size=128).filter(lambda v: any(v)))
def test_it_is_stored_in_half_precision_and_read_back(values: list[float]) -> None:
    length = math.sqrt(sum(value * value for value in values))
    one = Embedding(SPACE, tuple(value / length for value in values), SCALE)
    again = Embedding.from_json(json.loads(json.dumps(one.to_json())))
    assert (again.space, again.scale) == (one.space, one.scale)
    assert again.similarity(one) == pytest.approx(1.0, abs=1e-3)


def test_its_numbers_stand_in_no_representation() -> None:
    assert "vector" not in repr(chest(12.3))


@pytest.mark.parametrize("far", [-4.0, -1.0, 0.0, 0.5, 3.0])
def test_the_tail_is_half_of_the_two_sided_one(far: float) -> None:
    half = age_p_value(far, Spread()) / 2
    assert lower_tail(far) == pytest.approx(half if far < 0 else 1 - half)
