"""The body without its table, and the projections made of it."""

import importlib.util

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_ai_node.errors import ConfigError, PixelsRefused
from dicom_ai_node.pixels.projections import FIELD, body_mask, project
from dicom_ai_node.pixels.volume import AIR, STEP, Volume, arrange, volume
from training.data import bodies

SIZE = 128


def volumes(series: bodies.Series) -> tuple[Volume, NDArray[np.bool_]]:
    """The volume of a series, and which of its voxels are body."""
    stack = arrange(series.planes)
    found = volume(stack, (series.images[at] for at in stack.order))
    body = volume(stack, (series.body[at] * 1000 for at in stack.order))
    return found, body.values > 500


@pytest.mark.parametrize("seed", range(4))
def test_the_body_is_found_and_the_table_is_not(seed: int) -> None:
    found, body = volumes(bodies.series(seed, sections=40))

    mask = body_mask(found.values, found.spacing)

    both = (mask & body).sum()
    assert both / body.sum() > 0.97
    assert both / mask.sum() > 0.97
    # Rails of a table are as dense as bone.
    assert (found.values[~body] > 400).any()
    assert not (found.values[mask & ~body] > 400).any()


def test_one_section_has_a_mask_too() -> None:
    found, body = volumes(bodies.series(5, sections=40))
    at = 10

    mask = body_mask(found.values[at][None], found.spacing)[0]

    assert (mask & body[at]).sum() / (mask | body[at]).sum() > 0.95


def test_projections_are_bright_where_bone_is_and_black_outside() -> None:
    series = bodies.series(1)
    found, body = volumes(series)

    coronal, sagittal = project(found, SIZE)

    assert coronal.shape == sagittal.shape == (SIZE, SIZE)
    assert coronal.dtype == np.float32
    assert 0 == coronal.min() < 0.3 < coronal.max() <= 1
    pixel = FIELD / SIZE
    for plane, other in ((coronal, body.max(axis=1)), (sagittal, body.max(axis=2))):
        lit = plane > 0.05
        wide, tall = (np.max(other, axis=axis).sum() * STEP / pixel for axis in (0, 1))
        assert abs(np.max(lit, axis=0).sum() - wide) <= 4
        assert abs(np.max(lit, axis=1).sum() - tall) <= 2


def test_the_size_of_the_projection_does_not_change_what_it_shows() -> None:
    found, _ = volumes(bodies.series(2))

    small, large = project(found, 64), project(found, 256)

    reduced = large.reshape(2, 64, 4, 64, 4).mean(axis=(2, 4))
    assert np.abs(small - reduced).mean() < 0.01


def test_moved_sideways_on_the_table_the_body_is_in_the_middle_again() -> None:
    found, _ = volumes(bodies.series(0))
    moved = np.full_like(found.values, AIR)
    moved[:, :, 16:] = found.values[:, :, :-16]

    assert np.abs(project(Volume(moved), SIZE) - project(found, SIZE)).mean() < 0.005


@pytest.mark.parametrize("fill", [AIR, -850])
def test_where_there_is_no_body_it_is_refused(fill: int) -> None:
    with pytest.raises(PixelsRefused) as refused:
        project(Volume(np.full((80, 100, 100), fill, np.int16)), SIZE)

    assert refused.value.reason.code == "no_body"


def test_a_short_piece_of_body_is_refused() -> None:
    found, _ = volumes(bodies.series(4))

    with pytest.raises(PixelsRefused) as refused:
        project(Volume(found.values[60:90]), SIZE)

    assert refused.value.reason.code == "incomplete_series"
    assert "60 mm of body" in refused.value.reason.text


def test_without_scikit_image_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(ConfigError, match=r"dicom-ai-node\[ct\]"):
        body_mask(np.zeros((1, 9, 9)), 1.0)


def test_more_than_the_field_shows_is_cut_off() -> None:
    found, _ = volumes(bodies.series(1))
    long = np.concatenate([found.values, found.values[::-1]])

    coronal, _ = project(Volume(long), SIZE)

    assert (coronal > 0.05).any(axis=1).all()
