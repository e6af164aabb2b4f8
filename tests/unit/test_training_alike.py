"""Self-supervised learning: what VICReg rewards, and that a run can learn by it alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dicom_ai_node.inference.network import BACKBONES, Network
from tests.builders.training import Tiny, small_backbone, tiny_config
from training.alike import Alike
from training.config import WEIGHTS, Config
from training.material import Material
from training.train import train

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setitem(BACKBONES, "tiny", small_backbone)
    return tiny_config(
        tmp_path / "run",
        steps=30,
        batch=16,
        chunk=16,
        rate=0.01,
        ema=0.5,
        labels=0.0,
        alike=1.0,
    )


def plain() -> Alike:
    """The comparison of the features themselves."""
    made = Alike(8)
    made.layers = torch.nn.Sequential(torch.nn.Identity())
    return made


def test_copies_that_look_alike_cost_less_than_others() -> None:
    torch.manual_seed(0)
    images = 3 * torch.randn(512, 8)
    copies = images.repeat_interleave(2, dim=0)
    shuffled = images[torch.randperm(512)].repeat_interleave(2, dim=0).roll(1, dims=0)
    assert plain().loss(copies) < 0.2
    assert plain().loss(shuffled) > 5


def test_one_answer_for_all_is_no_way_out() -> None:
    torch.manual_seed(0)
    narrow = plain().loss(torch.zeros(64, 8) + 1e-3 * torch.randn(64, 8))
    assert narrow > 0.9
    redundant = 3 * torch.randn(64, 1).repeat_interleave(2, dim=0).repeat(1, 8)
    assert plain().loss(redundant) > plain().loss(3 * torch.randn(64, 8).repeat_interleave(2, 0))


def test_each_two_neighbours_are_copies_of_one_image(config: Config) -> None:
    material = Material(replace(config, corrupted=0.0), Tiny(), CPU)
    x, labels = material.batch(0)
    ages = labels["age"].nan_to_num(-1).numpy()
    np.testing.assert_array_equal(ages[0::2], ages[1::2])
    assert (x[0::2] - x[1::2]).abs().amax(dim=(1, 2, 3)).min() > 0.01


def test_a_run_learns_without_labels(config: Config, tmp_path: Path) -> None:
    """The head, which no label has touched, answers as it did; the backbone does not."""
    torch.manual_seed(config.seed)
    before = Network("tiny").state_dict()
    train(replace(config, decay=0.0), tmp_path, Tiny())
    after = load_file(tmp_path / "run" / WEIGHTS)
    torch.testing.assert_close(after["head.weight"], before["head.weight"])
    moved = (after["backbone.0.weight"] - before["backbone.0.weight"]).abs().max()
    assert moved > 0.01


def test_copies_come_in_pairs() -> None:
    with pytest.raises(ValueError, match="alike needs an even batch and chunk"):
        Config(alike=1.0, chunk=5)


def test_a_run_without_labels_needs_something_else_to_learn() -> None:
    with pytest.raises(ValueError, match="expected findings or alike to learn from"):
        Config(labels=0.0)
