"""What is drawn when there is not everything to draw from."""

import numpy as np
import pytest

from training.data import images as data
from training.data.tables import DataError
from training.fit.batches import Sampler, frequencies, shares
from training.fit.config import RunConfig

NAN = float("nan")
KINDS = {
    "train": ("train", 40.0, 1.0, 1.0),
    "rare": ("train", 80.0, 1.0, 1.0),
    "train_128": ("train_128", 40.0, 1.0, 1.0),
    "lateral": ("gate", NAN, 0.0, 1.0),
    "like_lateral": ("gate", NAN, 1.0, 1.0),
    "other": ("gate", NAN, NAN, 0.0),
}
CONFIG = RunConfig(rare=0.2, gate=0.2, low_resolution=(0.5, 0.5, 0.5))


def images_of(*kinds: str) -> data.Images:
    items = [
        data.LabelledImage(f"{kind}{n}", "s", f"{kind}{n}", role, age, 1.0, frontal, chest)
        for kind in kinds
        for n in range(3)
        for role, age, frontal, chest in [KINDS[kind]]
    ]
    return data.Images(items, np.zeros((len(items), 1, 1), np.uint8))


def sampler_of(*kinds: str) -> Sampler:
    return Sampler(images_of(*kinds), np.random.default_rng(0))


def test_where_there_is_everything_shares_are_those_of_the_configuration() -> None:
    assert sampler_of(*KINDS).shares(CONFIG, 0) == shares(CONFIG, 0)


def test_low_resolution_that_is_not_there_is_drawn_at_full() -> None:
    found = sampler_of(*(kind for kind in KINDS if kind != "train_128")).shares(CONFIG, 0)
    wanted = shares(CONFIG, 0)
    assert found["train"] == pytest.approx(wanted["train"] + wanted["train_128"])
    assert found["other"] == pytest.approx(wanted["other"])


def test_without_gate_material_only_the_aged_are_drawn() -> None:
    sampler = sampler_of("train", "rare")
    found = sampler.shares(CONFIG, 0)
    assert found == pytest.approx({"train": 0.8, "rare": 0.2})
    assert set(sampler.draw(200, found)) == set(range(6))
    assert frequencies(CONFIG, images_of("train", "rare")).sum() == pytest.approx(1.0)


def test_nothing_to_train_with_is_an_error() -> None:
    with pytest.raises(DataError, match="at least one image"):
        sampler_of("lateral", "other")
