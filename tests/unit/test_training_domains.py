"""Two domains: a second linear layer for images of other institutions, and how it is trained."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dicom_ai_node.inference.distances import Distances
from dicom_ai_node.inference.engine import Raw, load_network, run
from dicom_ai_node.inference.heads import AGE, SEX
from dicom_ai_node.inference.network import Network
from training.data import augment, project
from training.data import images as data
from training.data.tables import DataError
from training.fit import domains, loss, start
from training.fit.batches import Sampler
from training.fit.config import RunConfig
from training.fit.domains import OTHERS
from training.fit.run import Run, mixed_styles
from training.measure import domains as measured_domains
from training.measure import runs

NAN = float("nan")
SIDE = 32


def two_domains(share: float) -> Network:
    """Answers move by 1 wherever the second layer counts, which ``share`` says it does."""
    torch.manual_seed(0)
    network = Network("resnet18", dropout=0.0, domains=True).eval()
    assert network.shift is not None
    assert network.elsewhere is not None
    nn.init.ones_(network.shift.bias)
    nn.init.constant_(network.elsewhere.bias, torch.tensor(share).logit().item())
    return network


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_answers_move_by_as_much_as_the_texture_says(share: float) -> None:
    network, x = two_domains(share), torch.rand(2, 1, SIDE, SIDE)
    moved, still = network(x), network(x, torch.zeros(2))
    for head in (AGE, SEX):
        difference = moved[head.name] - still[head.name]
        torch.testing.assert_close(difference, torch.full_like(difference, share))


def test_gates_never_move() -> None:
    network, x = two_domains(1.0), torch.rand(2, 1, SIDE, SIDE)
    for gate in ("chest", "frontal"):
        torch.testing.assert_close(network(x)[gate], network(x, torch.zeros(2))[gate])


def test_the_engine_finds_the_second_layer_in_the_weights(tmp_path: Path) -> None:
    network = two_domains(0.25)
    tensors = {f"network.{name}": t.numpy() for name, t in network.state_dict().items()}
    loaded = load_network("resnet18", tensors, tmp_path)
    assert loaded.domains
    images = np.random.default_rng(0).random((2, SIDE, SIDE), np.float32)
    known = run(network, images)
    for name, values in run(loaded, images).values.items():
        np.testing.assert_allclose(values, known[name], rtol=1e-5)


def test_a_network_of_one_domain_can_be_gone_on_from(tmp_path: Path) -> None:
    earlier = Network("resnet18")
    save_file(earlier.state_dict(), tmp_path / "w.safetensors")
    config = RunConfig(
        architecture="resnet18", start=str(tmp_path / "w.safetensors"), domains=True, dropout=0.0
    )
    network = start.network(config, tmp_path, lambda side: torch.zeros(1, 1, side, side)).eval()
    x = torch.rand(1, 1, SIDE, SIDE)
    torch.testing.assert_close(network(x)["age"], earlier.eval()(x)["age"])


def test_a_network_of_two_domains_can_be_gone_on_from_as_one(tmp_path: Path) -> None:
    earlier = two_domains(0.25)
    save_file(earlier.state_dict(), tmp_path / "w.safetensors")
    config = RunConfig(architecture="resnet18", start=str(tmp_path / "w.safetensors"), dropout=0.0)
    network = start.network(config, tmp_path, lambda side: torch.zeros(1, 1, side, side)).eval()
    x = torch.rand(1, 1, SIDE, SIDE)
    torch.testing.assert_close(network(x)["age"], earlier(x, torch.zeros(1))["age"])


def test_domains_are_trained_as_they_are_known() -> None:
    labels = {
        loss.ELSEWHERE: torch.tensor([0.0, 1.0, NAN, 0.0]),
        loss.SHARED: torch.tensor([0.0, 0.0, 0.0, 1.0]),
    }
    assert loss.share(labels).tolist() == [0.0, 1.0, 0.0, 1.0]


def labels(elsewhere: float) -> dict[str, torch.Tensor]:
    return {
        "age": torch.full((4,), 60.0),
        "sex": torch.ones(4),
        "frontal": torch.ones(4),
        "chest": torch.ones(4),
        loss.ELSEWHERE: torch.full((4,), elsewhere),
        loss.SHARED: torch.zeros(4),
    }


@pytest.mark.parametrize("elsewhere", [0.0, 1.0])
def test_only_images_of_other_institutions_teach_the_second_layer(
    tmp_path: Path, elsewhere: float
) -> None:
    settings = RunConfig(out=str(tmp_path), domains=True, warmup=0.0)
    learnt = Run(settings, Network("resnet18", domains=True), torch.device("cpu"))
    learnt.step(torch.rand(4, 1, SIDE, SIDE), labels(elsewhere))
    assert learnt.network.shift is not None
    assert bool(learnt.network.shift.weight.any()) == bool(elsewhere)


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


def test_mixed_styles_do_not_go_with_domains() -> None:
    with pytest.raises(ValueError, match="expected one of them"):
        RunConfig(domains=True, mixed_styles=0.5)


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


def test_textures_of_other_institutions_are_told_from_the_usual_ones() -> None:
    rng = np.random.default_rng(0)

    def of(count: int, middle: float) -> Raw:
        texture = rng.normal(middle, 2.0, (count, 8)).astype(np.float32)
        return Raw({}, texture, texture)

    weight, bias = domains.separation([of(300, 1.0), of(300, 1.0)], of(30, 3.0))

    def share(raw: Raw) -> float:
        return float(np.mean(1 / (1 + np.exp(-(raw.texture @ weight + bias)))))

    assert share(of(500, 1.0)) < 0.2
    assert share(of(500, 3.0)) > 0.8
    assert share(of(500, 2.0)) == pytest.approx(0.5, abs=0.1)


@dataclass(frozen=True)
class Shades(project.ProjectData):
    """Two institutions whose images have two greys."""

    def load(self, side: int, *roles: str) -> data.Images:
        rng, items, pixels = np.random.default_rng(len(roles)), [], []
        for role in roles:
            other = role in OTHERS
            items += [replace(item(role, "PA"), elsewhere=float(other))] * 6
            pixels.append(rng.integers(0, 200, (6, side, side)) + 50 * other)
        return data.Images(items, np.concatenate(pixels).astype(np.uint8))


def test_the_layer_of_a_network_is_fitted_and_nothing_else(tmp_path: Path) -> None:
    network = two_domains(0.5)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    domains.fit(network, Shades(tmp_path, tmp_path), SIDE, 100)
    changed = {n for n, v in network.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == {"elsewhere.weight", "elsewhere.bias"}


def test_without_images_of_another_institution_no_domain_is_fitted(tmp_path: Path) -> None:
    class Alike(Shades):
        def load(self, side: int, *roles: str) -> data.Images:
            images = super().load(side, *roles)
            return data.Images([replace(i, elsewhere=NAN) for i in images.items], images.pixels)

    with pytest.raises(DataError, match="another institution"):
        domains.fit(two_domains(0.5), Alike(tmp_path, tmp_path), SIDE, 100)


def test_each_score_tells_how_well_others_are_known_apart() -> None:
    near = measured_domains.Placed(Distances(np.ones(3), np.ones(3)), np.array([0.1, 0.2, 0.3]))
    far = measured_domains.Placed(Distances(np.ones(4), np.full(4, np.e)), np.full(4, 0.25))
    content, texture, share = measured_domains.rows(near, far, near.distances)
    assert content == ["content", "0.500", "0.00", "0.00", "0.00", "4"]
    assert texture == ["texture", "1.000", "1.00", "1.00", "1.00", "4"]
    assert share == [measured_domains.SHARE, "0.667", "0.25", "0.25", "0.25", "4"]
