"""What other institutions and their patients have to do with training."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from dicom_ai_node.inference.distances import Distances
from training.data import augment
from training.data import images as data
from training.fit.batches import Sampler
from training.fit.config import RunConfig
from training.fit.run import mixed_styles
from training.measure import domains, runs


def item(role: str, view: str, country: str = "", age: float = 50.0) -> data.LabelledImage:
    return data.LabelledImage(
        f"{role}{view}{country}{age}", "s", "p", role, age, 1.0, 1.0, 1.0, view, country=country
    )


def test_other_institutions_and_lying_patients_are_drawn_as_often_as_is_asked() -> None:
    items = [
        *[item("train", "PA", age=age) for age in range(20, 60)],
        *[item("train", "AP", age=age) for age in range(20, 24)],
        item("train_other", "", "Spain"),
        item("train_other", "", "Italy"),
    ]
    images = data.Images(items, np.zeros((len(items), 1, 1), np.uint8))
    config = RunConfig(other=0.3, ap=0.2, gate=0.0, low_resolution=(0.0,), sides=(8,), until=(1.0,))
    sampler = Sampler(images, np.random.default_rng(0), ["Italy"])
    drawn = [items[at] for at in sampler.draw(2000, sampler.shares(config, 0))]
    others = sum(one.role == "train_other" for one in drawn) / 2000
    lying = sum(one.view == "AP" for one in drawn) / 2000
    assert others == pytest.approx(0.3, abs=0.04)
    assert lying == pytest.approx(0.2 + 0.5 * 4 / 44, abs=0.04)
    assert not [one for one in drawn if one.country == "Italy"]


def test_drawn_devices_only_brighten_what_lies_under_them() -> None:
    rng = torch.Generator().manual_seed(0)
    plain = torch.full((8, 1, 96, 96), 0.4)
    drawn = augment._devices(plain.clone(), 1.0, rng)
    changed = drawn != plain
    assert (drawn >= plain).all()
    assert changed.flatten(1).any(dim=1).all()
    assert changed.float().mean() < 0.5
    assert torch.equal(augment._devices(plain.clone(), 0.0, rng), plain)


def test_mixed_styles_keep_what_stands_where_and_swap_means() -> None:
    torch.manual_seed(0)
    maps = torch.rand(6, 3, 8, 8) + torch.arange(6.0)[:, None, None, None]
    module = nn.Identity().train()
    mixed = mixed_styles(module, None, maps, share=1.0)
    for before, after in zip(maps.flatten(0, 1), mixed.flatten(0, 1), strict=True):
        assert np.corrcoef(before.flatten(), after.flatten())[0, 1] == pytest.approx(1.0, abs=1e-4)
    assert not torch.allclose(mixed.mean((2, 3)), maps.mean((2, 3)))
    torch.testing.assert_close(mixed_styles(module, None, maps, share=0.0), maps)
    torch.testing.assert_close(mixed_styles(module.eval(), None, maps, share=1.0), maps)


def test_a_run_is_held_against_the_first_image_by_image() -> None:
    people = [replace(item("val", "PA", age=a), patient=f"p{a}", female=a % 2) for a in (30, 71)]
    images = data.Images(people, np.zeros((2, 1, 1), np.uint8))
    first = np.array([40.0, 61.0]), np.array([1.0, -1.0])
    better = np.array([32.0, 70.0]), np.array([-1.0, 1.0])
    name, count, mae, gain, bias, old, auc, auc_gain = runs.line("val", images, better, first)
    assert (name, count) == ("val", "2")
    assert mae == "1.50 (1.00 to 2.00)"
    assert gain == "8.50 (8.00 to 9.00)"
    assert bias.startswith("0.500 ")
    assert old == "-1.000 (-1.000 to -1.000)"
    assert auc.startswith("1.000 ")
    assert auc_gain.startswith("1.000 ")


def test_each_distance_tells_how_well_others_are_known_apart() -> None:
    near = Distances(np.ones(3), np.ones(3))
    far = Distances(np.ones(4), np.full(4, np.e))
    content, texture = domains.rows(near, far, near)
    assert content == ["content", "0.500", "0.00", "0.00", "0.00", "4"]
    assert texture == ["texture", "1.000", "1.00", "1.00", "1.00", "4"]
