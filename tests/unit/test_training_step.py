import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from dicom_ai_node.inference.heads import AGE, CategoryHead, FindingsHead, Gate, QuantityHead
from dicom_ai_node.inference.network import Network
from training.data import augment
from training.data import images as data
from training.fit import config, loss
from training.fit.batches import Sampler, frequencies, shares
from training.fit.config import RunConfig
from training.fit.mobilenet import freeze_norms
from training.fit.run import Run

NAN = float("nan")


def labels(count: int) -> dict[str, torch.Tensor]:
    half = torch.arange(count) % 2
    return {
        "age": 30.0 + 40.0 * half,
        "sex": half.float(),
        "frontal": torch.ones(count),
        "chest": torch.ones(count),
    }


def test_a_few_steps_lower_the_loss(tmp_path: Path) -> None:
    torch.manual_seed(0)
    settings = RunConfig(out=str(tmp_path), rate=1e-3, warmup=0.0)
    run = Run(settings, Network("resnet18", dropout=0.0), torch.device("cpu"))
    known = labels(8)
    bright = known["sex"][:, None, None, None]
    x = 0.2 * torch.rand(8, 1, 32, 32) + 0.6 * bright
    losses = [sum(run.step(x, known).values()) for _ in range(8)]
    assert losses[-1] < 0.8 * losses[0]


def test_a_run_goes_on_where_it_was_saved(tmp_path: Path) -> None:
    settings = RunConfig(out=str(tmp_path))
    first = Run(settings, Network("resnet18"), torch.device("cpu"))
    first.step(torch.rand(4, 1, 32, 32), labels(4))
    first.elapsed = 7.0
    second = Run(settings, Network("resnet18"), torch.device("cpu"))
    second.load_state_dict(first.state_dict())
    assert (second.steps, second.elapsed) == (1, 7.0)
    for name, value in first.ema.state_dict().items():
        assert torch.equal(second.ema.state_dict()[name], value)


def test_an_unknown_label_moves_nothing() -> None:
    network = Network("resnet18").eval()
    unknown = {name: torch.full((2,), NAN) for name in ("age", "sex", "frontal", "chest")}
    total, _ = loss.total(network.rows, network(torch.rand(2, 1, 32, 32)), unknown)
    assert total.item() == 0.0
    total.backward()  # type: ignore[no-untyped-call]
    assert all(not p.grad.any() for p in network.parameters() if p.grad is not None)


def test_the_age_loss_is_smallest_at_the_age() -> None:
    grid = torch.arange(101.0)
    logits = torch.stack([-(grid - mu).square() / (2 * loss.SIGMA**2) for mu in (40, 50, 70)])
    values = [loss.quantity(AGE, row[None], torch.tensor([50.0])).item() for row in logits]
    assert values[1] == pytest.approx(0.0, abs=1e-4)
    assert values[0] < values[2]


ROWS = (
    QuantityHead(name="depth", output=0, unit="mm", support=(10, 20), bounds=(0.0, 30.0)),
    CategoryHead(name="part", output=11, values=("CHEST", "HEAD", "KNEE")),
    FindingsHead(name="signs", output=14, labels=("Mass", "Effusion")),
    Gate(name="slice", output=16, threshold=0.5, code="no_slice", text="is no slice"),
)


def test_the_loss_follows_from_the_kind_of_each_head() -> None:
    network = Network("resnet18", rows=ROWS, channels=3).eval()
    answers = network(torch.rand(2, 3, 32, 32))
    labels = {
        "depth": torch.tensor([14.0, NAN]),
        "part": torch.tensor([2.0, NAN]),
        "signs": torch.tensor([[1.0, NAN], [NAN, NAN]]),
        "slice": torch.tensor([1.0, NAN]),
    }
    whole, parts = loss.total(ROWS, answers, labels)
    part = -answers["part"][0].log_softmax(dim=0)[2]
    sign = -functional.logsigmoid(answers["signs"][0, 0])
    gate = -functional.logsigmoid(answers["slice"][0])
    assert parts["part"] == pytest.approx(part.item())
    assert parts["signs"] == pytest.approx(sign.item())
    assert parts["slice"] == pytest.approx(gate.item())
    assert parts["depth"] > 0
    weighted = parts["depth"] + parts["part"] + parts["signs"] + loss.GATES * parts["slice"]
    assert whole.item() == pytest.approx(weighted)
    without, _ = loss.total(ROWS, answers, labels, 0.0)
    assert without.item() == pytest.approx(weighted - loss.GATES * parts["slice"])


NORMAL = QuantityHead(name="depth", output=0, unit="mm", normal=(50.0, 10.0), bounds=(0.0, 99.0))


def test_the_loss_of_a_normal_quantity_is_least_at_the_number_and_the_size_of_the_error() -> None:
    numbers = torch.tensor([60.0, NAN])
    log_variances = torch.linspace(-4, 2, 61)

    def at(mean: float, log_variance: float) -> float:
        logits = torch.tensor([[mean, log_variance]] * 2)
        return loss.part(NORMAL, logits, numbers).item()

    assert at(1.0, 0.0) == pytest.approx(0.0)
    assert at(1.0, 0.0) < at(0.8, 0.0) < at(0.5, 0.0)
    # The error is half a scale: so is the standard deviation that is most likely.
    losses = [at(0.5, value) for value in log_variances.tolist()]
    best = log_variances[int(np.argmin(losses))].item()
    assert best == pytest.approx(2 * math.log(0.5), abs=0.1)
    assert loss.part(NORMAL, torch.zeros(2, 2), torch.tensor([NAN, NAN])).item() == 0


@pytest.mark.parametrize("side", [32, 128])
def test_every_change_of_an_image_keeps_the_contract(side: int) -> None:
    rng = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (16, 256, 256), dtype=torch.uint8, generator=rng)
    x = augment.batch(pixels, side, rng, augment.Strength(local=0.5, often=0.5, rarely=0.5))
    assert x.shape == (16, 1, side, side)
    assert x.dtype == torch.float32
    assert x.min() >= 0
    assert x.max() <= 1


def test_augmentation_never_flips() -> None:
    pixels = torch.zeros(64, 64, 64, dtype=torch.uint8)
    pixels[:, :, :32] = 255
    x = augment.batch(
        pixels, 64, torch.Generator().manual_seed(1), augment.Strength(often=0.0, rarely=0.0)
    )
    assert (x[..., :24].mean(dim=(1, 2, 3)) > x[..., 40:].mean(dim=(1, 2, 3))).all()


def test_local_contrast_makes_both_halves_alike() -> None:
    rng = torch.Generator().manual_seed(3)
    pixels = 0.5 + 0.05 * torch.randn(16, 128, 128, generator=rng)
    pixels[:, :, :64] = 0.5 + 4 * (pixels[:, :, :64] - 0.5)
    still = {"degrees": 0.0, "scale": 0.0, "aspect": 0.0, "shift": 0.0, "gamma": 0.0, "noise": 0.0}

    def ratio(local: float) -> torch.Tensor:
        strength = augment.Strength(**still, local=local, often=0.0, rarely=0.0)
        x = augment.batch(pixels.clamp(0, 1), 128, rng, strength)
        return x[..., 8:56].std(dim=(1, 2, 3)) / x[..., 72:120].std(dim=(1, 2, 3))

    assert (ratio(0.0) > 3).all()
    assert (ratio(1.0) < 2.9).all()


def test_only_chosen_images_are_corrupted() -> None:
    rng = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (8, 16, 16), dtype=torch.uint8, generator=rng)
    chosen = torch.arange(8) % 2 == 0
    changed = (augment.corrupt(pixels, chosen, rng) != pixels).flatten(1).any(dim=1)
    assert changed.tolist() == chosen.tolist()


def test_the_rate_rises_and_falls() -> None:
    rates = [RunConfig().learning_rate(p) for p in (0.0, 0.01, 0.02, 0.5, 1.0)]
    assert rates[0] < rates[1] < rates[2] > rates[3] > rates[4] > 0


@pytest.mark.parametrize("name", ["first", "second", "third", "fourth", "fifth", "sixth"])
def test_a_shipped_configuration_can_be_read(name: str) -> None:
    settings = config.read(Path(__file__).parents[2] / f"training/configs/{name}.toml")
    assert settings.architecture == "mobilenet_v2"
    for stage in range(len(settings.sides)):
        assert sum(shares(settings, stage).values()) == pytest.approx(1.0)


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("rat = 1.0\n")
    with pytest.raises(SystemExit, match="rat"):
        config.read(tmp_path / "x.toml")


def test_frozen_blocks_stay_as_they_were(tmp_path: Path) -> None:
    torch.manual_seed(0)
    start = Network("mobilenet_v2")
    settings = RunConfig(
        out=str(tmp_path), start="first", frozen_norms=True, frozen_blocks=3, rate=1e-3, warmup=0.0
    )
    run = Run(settings, start, torch.device("cpu"))
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    run.step(torch.rand(4, 1, 32, 32), labels(4))
    after = run.network.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert "head.weight" in changed
    assert any(name.startswith("backbone.3.") for name in changed)
    assert not any(name.startswith(f"backbone.{block}.") for name in changed for block in range(3))


def test_stages_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("sides = [128, 224]\n")
    with pytest.raises(SystemExit, match=r"x\.toml: sides, until"):
        config.read(tmp_path / "x.toml")


def item(role: str, frontal: float, chest: float) -> data.LabelledImage:
    return data.LabelledImage("p", "s", "n", role, NAN, NAN, frontal, chest)


def test_the_sampler_uses_up_a_pool_before_it_repeats() -> None:
    pools = [("train", 1.0, 1.0), ("train_128", 1.0, 1.0), ("gate", 0.0, 1.0)]
    pools += [("gate", 1.0, 1.0), ("gate", NAN, 0.0)]
    items = [item(*pool) for pool in pools for _ in range(4)]
    items[3] = replace(items[3], age=75.0)
    images = data.Images(items, np.zeros((20, 2, 2), np.uint8))
    sampler = Sampler(images, np.random.default_rng(0))
    assert sorted(sampler.draw(4, {"lateral": 1.0})) == [8, 9, 10, 11]
    assert sorted(sampler.draw(4, {"other": 1.0})) == [16, 17, 18, 19]
    assert sorted(sampler.draw(2, {"rare": 1.0})) == [3, 3]


def test_frozen_norms_compute_what_the_network_computes() -> None:
    torch.manual_seed(0)
    network = Network("mobilenet_v2").eval()
    for norm in [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    x = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        before, _ = network.pooled(x)
        names = list(network.state_dict())
        freeze_norms(network.train())
        after, _ = network.pooled(x)
    assert torch.allclose(before, after, atol=1e-4)
    assert list(network.state_dict()) == names


def test_a_batch_in_chunks_moves_the_weights_as_a_whole_one_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    start = tmp_path / "start.safetensors"
    save_file(Network("mobilenet_v2").state_dict(), start)
    x, known = torch.rand(8, 1, 32, 32), labels(8)
    moved = []
    for chunk in (8, 2):
        settings = RunConfig(out=str(tmp_path), start=str(start), frozen_norms=True, chunk=chunk)
        network = Network("mobilenet_v2", dropout=0.0)
        network.load_state_dict(load_file(start))
        run = Run(settings, network, torch.device("cpu"))
        run.step(x, known)
        moved.append(run.network.head.weight.grad)
    assert torch.allclose(moved[0], moved[1], atol=1e-4)


def test_the_rare_are_drawn_more_often() -> None:
    items = [item("train", 1.0, 1.0) for _ in range(8)]
    items[0] = replace(items[0], age=80.0)
    images = data.Images(items, np.zeros((8, 1, 1), np.uint8))
    drawn = frequencies(RunConfig(low_resolution=(0.5, 0.25, 0.0), rare=0.5), images)
    assert drawn[0] == pytest.approx(9 * drawn[1])
