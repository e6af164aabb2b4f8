from pathlib import Path

import numpy as np
import pytest
import torch

from dicom_ai_node.inference.network import Network
from training import augment, data, loss
from training.train import Config, Sampler, groups, learning_rate, read_config, shares, step

NAN = float("nan")


def labels(count: int) -> dict[str, torch.Tensor]:
    half = torch.arange(count) % 2
    return {
        "age": 30.0 + 40.0 * half,
        "female": half.float(),
        "frontal": torch.ones(count),
        "chest": torch.ones(count),
    }


def test_a_few_steps_lower_the_loss() -> None:
    torch.manual_seed(0)
    network = Network("resnet18", dropout=0.0).train()
    known = labels(8)
    bright = known["female"][:, None, None, None]
    x = 0.2 * torch.rand(8, 1, 32, 32) + 0.6 * bright
    optimiser = torch.optim.AdamW(groups(network, 0.01), lr=1e-3)
    losses = [sum(step(network, optimiser, x, known).values()) for _ in range(8)]
    assert losses[-1] < 0.8 * losses[0]


def test_an_unknown_label_moves_nothing() -> None:
    network = Network("resnet18").eval()
    unknown = {name: torch.full((2,), NAN) for name in ("age", "female", "frontal", "chest")}
    total, _ = loss.total(network(torch.rand(2, 1, 32, 32)), unknown)
    assert total.item() == 0.0
    total.backward()
    assert all(not p.grad.any() for p in network.parameters() if p.grad is not None)


def test_the_age_loss_is_smallest_at_the_age() -> None:
    grid = torch.arange(101.0)
    logits = torch.stack([-(grid - mu).square() / (2 * loss.SIGMA**2) for mu in (40, 50, 70)])
    values = [loss.age(row[None], torch.tensor([50.0])).item() for row in logits]
    assert values[1] == pytest.approx(0.0, abs=1e-4)
    assert values[0] < values[2]


def test_augmented_images_keep_the_contract() -> None:
    rng = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (16, 256, 256), dtype=torch.uint8, generator=rng)
    x = augment.batch(pixels, 128, rng, augment.Strength(rarely=0.5))
    assert x.shape == (16, 1, 128, 128)
    assert x.dtype == torch.float32
    assert x.min() >= 0
    assert x.max() <= 1


def test_augmentation_never_flips() -> None:
    pixels = torch.zeros(64, 64, 64, dtype=torch.uint8)
    pixels[:, :, :32] = 255
    x = augment.batch(pixels, 64, torch.Generator().manual_seed(1), augment.Strength(rarely=0.0))
    assert (x[..., :24].mean(dim=(1, 2, 3)) > x[..., 40:].mean(dim=(1, 2, 3))).all()


def test_only_chosen_images_are_corrupted() -> None:
    rng = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (8, 16, 16), dtype=torch.uint8, generator=rng)
    chosen = torch.arange(8) % 2 == 0
    changed = (augment.corrupt(pixels, chosen, rng) != pixels).flatten(1).any(dim=1)
    assert changed.tolist() == chosen.tolist()


def test_the_rate_rises_and_falls() -> None:
    config = Config()
    rates = [learning_rate(config, p) for p in (0.0, 0.01, 0.02, 0.5, 1.0)]
    assert rates[0] < rates[1] < rates[2] > rates[3] > rates[4] > 0


def test_the_first_configuration_can_be_read() -> None:
    config = read_config(Path(__file__).parents[2] / "training/configs/first.toml")
    assert config.architecture == "mobilenet_v2"
    for stage in range(len(config.sides)):
        assert sum(shares(config, stage).values()) == pytest.approx(1.0)


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("rat = 1.0\n")
    with pytest.raises(SystemExit, match="rat"):
        read_config(tmp_path / "x.toml")


def item(role: str, frontal: float, chest: float) -> data.Item:
    return data.Item("p", "s", "n", role, NAN, NAN, frontal, chest)


def test_the_sampler_uses_up_a_pool_before_it_repeats() -> None:
    pools = [("train", 1.0, 1.0), ("train_128", 1.0, 1.0), ("gate", 0.0, 1.0)]
    pools += [("gate", 1.0, 1.0), ("gate", NAN, 0.0)]
    items = [item(*pool) for pool in pools for _ in range(4)]
    images = data.Images(items, np.zeros((20, 2, 2), np.uint8))
    sampler = Sampler(images, np.random.default_rng(0))
    assert sorted(sampler.draw(4, {"lateral": 1.0})) == [8, 9, 10, 11]
    assert sorted(sampler.draw(4, {"other": 1.0})) == [16, 17, 18, 19]
