"""What is drawn when there is not everything to draw from."""

import numpy as np
import pytest
import torch

from dicom_ai_node.inference.heads import AGE
from dicom_ai_node.inference.network import estimate
from training.data import images as data
from training.data.tables import DataError
from training.fit import loss
from training.fit.batches import Sampler, frequencies, possible_ages, shares
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


def test_children_are_drawn_with_the_range_that_is_known_of_them() -> None:
    some = images_of("train", "rare")
    child = data.LabelledImage(
        "c", "s", "c", "children", NAN, NAN, 1.0, 1.0, age_from=1.0, age_to=5.0
    )
    images = data.Images([*some.items, child], np.zeros((7, 1, 1), np.uint8))
    config = RunConfig(children=0.1, gate=0.0)
    sampler = Sampler(images, np.random.default_rng(0))
    drawn = sampler.draw(2000, sampler.shares(config, 0))
    assert np.mean(drawn == 6) == pytest.approx(0.1, abs=0.02)
    assert possible_ages(images)[[0, 3, 6]].tolist() == [[40, 40], [80, 80], [1, 5]]
    assert np.isnan(possible_ages(images_of("lateral"))).all()


def test_any_age_of_a_range_will_do() -> None:
    years = torch.arange(101, dtype=torch.float32)
    inside, above = (-(years - centre).square() / 12.5 for centre in (3.0, 9.0))
    ranges = torch.tensor([[1.0, 5.0]])
    assert loss.part(AGE, inside[None], ranges) < 0.02
    logits = above[None].clone().requires_grad_()
    wrong = loss.part(AGE, logits, ranges)
    assert wrong.item() == pytest.approx(loss.part(AGE, logits, torch.tensor([5.0])).item())
    (pulled,) = torch.autograd.grad(wrong, logits)
    assert estimate(AGE, logits - 1e-2 * pulled)[0].item() < 9.0
    unknown = torch.full((1, 2), torch.nan)
    assert loss.part(AGE, logits, unknown).item() == 0
    both = loss.part(AGE, torch.stack([above, inside]), torch.cat([unknown, ranges]))
    assert both.item() == pytest.approx(loss.part(AGE, inside[None], ranges).item(), abs=1e-5)
