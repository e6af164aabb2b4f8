"""Maps that show where an answer comes from, and that change with the network's weights."""

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from dicom_ai_node.answers import SaliencyMethod
from dicom_ai_node.config.bundles import default_bundle
from dicom_ai_node.demo import phantom
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.inference.heads import AGE, GATES, HEADS, SEX, QuantityHead, Row
from dicom_ai_node.inference.network import BACKBONES, Network, moments
from dicom_ai_node.inference.saliency import explain
from dicom_ai_node.pixels.normalise import normalise
from tests.builders.sanity import cascade, layers, randomise, rank_correlation

SIZE = 64
NAMES = ("age", "sex")
GRAD, SCORE = SaliencyMethod.GRAD_CAM, SaliencyMethod.SCORE_CAM
Floats = NDArray[np.float32]


class Corners(nn.Module):
    """Two feature maps: what is bright at the top left, and what is bright at the bottom right."""

    def forward(self, images: Tensor) -> Tensor:
        small = functional.avg_pool2d((images + 1) / 2, images.shape[-1] // 8)
        windows = torch.zeros(1, 2, 8, 8)
        windows[0, 0, :3, :3] = windows[0, 1, 5:, 5:] = 1
        return small * windows


class Cornered(Network):
    """A network of :class:`Corners` and a head, without the cost of a real backbone."""

    def __init__(self, rows: Sequence[Row] = (*HEADS, *GATES)) -> None:
        nn.Module.__init__(self)
        self.backbone = nn.Sequential(Corners())
        self.dropout, self.head = nn.Dropout(), nn.Linear(2, sum(row.outputs for row in rows))
        self.rows, self.channels = tuple(rows), 1
        self.middle = 1


def corners(*, age: int = 0, sex: int = 1, sign: float = 1.0) -> Network:
    """A network whose answers rise (``sign`` 1) with one of the two maps of :class:`Corners`."""
    network = Cornered().eval()
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.zero_()
        network.head.weight[AGE.place, age] = sign * torch.linspace(0, 200, AGE.outputs)
        network.head.weight[SEX.output, sex] = sign * 50
    return network


@pytest.fixture
def image() -> Floats:
    return np.full((SIZE, SIZE), 0.8, dtype=np.float32)


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return Estimator(default_bundle(), device="cpu")


@pytest.fixture(scope="module")
def chests(estimator: Estimator) -> list[Floats]:
    drawn = [(35, "F", 1), (70, "M", 2)]
    return [normalise(phantom.chest(*one, 512), estimator.size) for one in drawn]


def share(values: Floats, *, corner: str) -> float:
    """How much of a map lies in one quarter of the image."""
    half = slice(None, SIZE // 2) if corner == "top left" else slice(SIZE // 2, None)
    return float(values[half, half].sum() / values.sum())


@pytest.mark.parametrize("method", list(SaliencyMethod))
def test_each_head_shows_the_corner_that_it_looks_at(method: SaliencyMethod, image: Floats) -> None:
    found = explain(corners(age=0, sex=1), image, method=method)
    assert share(found[AGE.name].values, corner="top left") > 0.95
    assert share(found[SEX.name].values, corner="bottom right") > 0.95
    swapped = explain(corners(age=1, sex=0), image, method=method)
    assert share(swapped[AGE.name].values, corner="bottom right") > 0.95
    assert share(swapped[SEX.name].values, corner="top left") > 0.95


@pytest.mark.parametrize("method", list(SaliencyMethod))
def test_a_map_has_the_size_of_the_image_and_reaches_one(
    method: SaliencyMethod, image: Floats
) -> None:
    (only,) = explain(corners(), image, method=method, heads=[AGE.name]).values()
    assert (only.head, only.method, only.flat) == (AGE.name, method, False)
    assert only.values.shape == (SIZE, SIZE)
    assert only.values.dtype == np.float32
    assert only.values.min() == 0
    assert only.values.max() == 1


def test_the_map_of_a_predicted_male_is_that_of_the_negative_logit(image: Floats) -> None:
    found = explain(corners(sign=-1), image, heads=[SEX.name])[SEX.name]
    assert not found.flat
    assert share(found.values, corner="bottom right") > 0.95


def test_what_only_lowers_the_age_gives_a_flat_map(image: Floats) -> None:
    found = explain(corners(sign=-1), image, heads=[AGE.name])[AGE.name]
    assert found.flat
    assert not found.values.any()


@pytest.mark.parametrize("method", list(SaliencyMethod))
def test_a_head_that_looks_at_nothing_gives_a_flat_map(
    method: SaliencyMethod, image: Floats
) -> None:
    network = corners()
    nn.init.zeros_(network.head.weight)
    assert all(one.flat for one in explain(network, image, method=method).values())


@pytest.mark.parametrize("method", list(SaliencyMethod))
def test_an_image_without_anything_in_it_gives_a_flat_map(method: SaliencyMethod) -> None:
    black = np.zeros((SIZE, SIZE), np.float32)
    assert all(one.flat for one in explain(corners(), black, method=method).values())


def test_grad_cam_is_the_gradient_of_the_whole_network(image: Floats) -> None:
    """Against the definition, taken through every layer with hooks."""
    torch.manual_seed(0)
    network = Network("resnet18").eval()
    x = torch.from_numpy(image * np.linspace(0, 1, SIZE, dtype=np.float32))[None, None]
    maps, _ = network.maps(x)
    maps.retain_grad()
    mu, _ = moments(network.answer(maps.mean(dim=(2, 3)))["age"])
    mu.sum().backward()  # type: ignore[no-untyped-call]
    assert maps.grad is not None
    expected = (maps.grad.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1).clamp_min(0)
    large = functional.interpolate(expected[None], size=(SIZE, SIZE), mode="bilinear")[0, 0]
    found = explain(network, x[0, 0].numpy(), heads=[AGE.name])[AGE.name]
    wanted = (large / large.max()).detach().numpy()
    np.testing.assert_allclose(found.values, wanted, atol=1e-4)


@pytest.mark.parametrize("method", list(SaliencyMethod))
def test_a_normal_quantity_is_explained_by_its_mean(method: SaliencyMethod) -> None:
    image = 0.6 + 0.1 * np.random.default_rng(0).random((SIZE, SIZE), dtype=np.float32)
    head = QuantityHead(name="age", output=0, unit="a", normal=(50, 20), bounds=(0, 110))
    network = Cornered((head,)).eval()
    with torch.no_grad():
        network.head.bias.zero_()
        network.head.weight.copy_(torch.tensor([[9.0, 0.0], [0.0, 9.0]]))

    found = explain(network, image, method=method)["age"]

    # The mean rises with the top left; what makes the network less sure is not shown.
    assert not found.flat
    assert found.values[:20, :20].max() == pytest.approx(1.0, abs=0.01)
    assert found.values[44:, 44:].max() < 0.05


@pytest.mark.parametrize("architecture", list(BACKBONES))
@pytest.mark.parametrize("method", list(SaliencyMethod))
def test_every_backbone_is_explained(architecture: str, method: SaliencyMethod) -> None:
    rng = np.random.default_rng(0)
    shown = rng.random((SIZE, SIZE), dtype=np.float32)
    network = Network(architecture).eval()
    for one in explain(network, shown, method=method, channels=8).values():
        assert one.values.shape == (SIZE, SIZE)
        assert one.flat or one.values.max() == 1


def test_the_network_is_left_as_it_was(image: Floats) -> None:
    network = corners()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.inference_mode():  # as the caller may be in
        for method in SaliencyMethod:
            explain(network, image, method=method)
    assert not network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any(part._forward_hooks or part._backward_hooks for part in network.modules())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_score_cam_asks_the_channels_of_largest_variance_and_tells_how_far_it_is(
    image: Floats,
) -> None:
    network = corners(age=0)
    image[: SIZE // 2] = 0.2  # the top left corner varies less, so alone it is not asked
    (alone,) = explain(network, image, method=SCORE, heads=[AGE.name], channels=1).values()
    (both,) = explain(network, image, method=SCORE, heads=[AGE.name], channels=2).values()
    assert alone.flat
    assert share(both.values, corner="top left") > 0.95
    told: list[tuple[int, int]] = []
    explain(
        Network("resnet18").eval(), image, method=SCORE, channels=10, batch=4,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert told == [(4, 10), (8, 10), (10, 10)]


def test_chunks_change_nothing(image: Floats) -> None:
    torch.manual_seed(0)
    network = Network("resnet18").eval()
    image[:, ::7] = 0
    one = explain(network, image, method=SCORE, channels=6, batch=6)
    three = explain(network, image, method=SCORE, channels=6, batch=2)
    for head in NAMES:
        np.testing.assert_allclose(one[head].values, three[head].values, atol=1e-4)


def test_a_network_in_training_mode_and_a_wrong_image_are_refused(image: Floats) -> None:
    with pytest.raises(ValueError, match="evaluation mode"):
        explain(corners().train(), image)
    with pytest.raises(ValueError, match=r"expected float32 \(S, S\), got float64"):
        explain(corners(), image.astype(np.float64))
    with pytest.raises(ValueError, match=r"got float32 \(1, 64, 64\)"):
        explain(corners(), image[None])


@pytest.mark.parametrize("method", list(SaliencyMethod))
def test_the_same_weights_give_the_same_map(
    estimator: Estimator, chests: list[Floats], method: SaliencyMethod
) -> None:
    first = explain(estimator.network, chests[0], method=method, channels=8)
    again = explain(Estimator(default_bundle(), device="cpu").network, chests[0], method=method,
                    channels=8)  # fmt: skip
    for head in NAMES:
        np.testing.assert_array_equal(first[head].values, again[head].values)
        assert rank_correlation(first[head].values, again[head].values) == pytest.approx(1)


def test_another_image_gives_another_map(estimator: Estimator, chests: list[Floats]) -> None:
    one, other = (explain(estimator.network, each)[AGE.name].values for each in chests)
    assert rank_correlation(one, other) < 0.99


def randomised(network: Network, seed: int) -> Network:
    """A copy of which no layer is what it was."""
    copy, draw = deepcopy(network), torch.Generator().manual_seed(seed)
    for _, layer in layers(copy):
        randomise(layer, draw)
    return copy


@pytest.mark.parametrize(("method", "seeds"), [(GRAD, 6), (SCORE, 4)])
def test_random_weights_give_another_map(
    estimator: Estimator, chests: list[Floats], method: SaliencyMethod, seeds: int
) -> None:
    """The sanity check: of the maps of the shipped bundle little is left."""
    intact = explain(estimator.network, chests[0], method=method, channels=8)
    left: dict[str, list[float]] = {head: [] for head in NAMES}
    for seed in range(seeds):
        network = randomised(estimator.network, seed)
        found = explain(network, chests[0], method=method, channels=8)
        for head in NAMES:
            left[head].append(rank_correlation(intact[head].values, found[head].values))
    for correlations in left.values():
        assert np.mean(correlations) < 0.6  # below 0 is another map, too


def test_a_random_head_gives_another_map_of_the_age(
    estimator: Estimator, chests: list[Floats]
) -> None:
    """The sex's hardly changes until the layers below do (docs/explanation.md says so)."""
    steps = [next(iter(cascade(estimator.network, chests[0], seed=seed))) for seed in range(6)]
    assert {step.layer for step in steps} == {"head"}
    assert np.mean([step.correlation[AGE.name] for step in steps]) < 0.8


def test_the_cascade_goes_from_the_top_down_and_leaves_the_network_alone(image: Floats) -> None:
    network = Network("resnet18").eval()
    before = network.head.weight.clone()
    image[: SIZE // 3] = 0.1
    steps = [step.layer for step in cascade(network, image)]
    assert steps == ["head"] + [f"backbone.{number}" for number in (7, 6, 5, 4, 1, 0)]
    assert torch.equal(network.head.weight, before)
    (some,) = cascade(network, image, only=["backbone.5"])
    (same,) = (step for step in cascade(network, image) if step.layer == "backbone.5")
    assert some == same  # the layers above it are randomised, too
    with pytest.raises(ValueError, match=r"no layer backbone\.9: expected some of head, backbone"):
        next(cascade(network, image, only=["backbone.9"]))
    densenet = [name for name, _ in layers(Network("densenet121"))]
    assert densenet[:3] == ["head", "backbone.norm5", "backbone.denseblock4"]
    assert densenet[-1] == "backbone.conv0"


def test_randomised_weights_are_the_same_values_elsewhere() -> None:
    layer = nn.Linear(40, 30)
    before = layer.weight.detach().clone()
    randomise(layer, torch.Generator().manual_seed(0))
    assert not torch.equal(layer.weight, before)
    assert torch.equal(layer.weight.flatten().sort().values, before.flatten().sort().values)


def test_rank_correlation() -> None:
    rising = np.arange(16, dtype=np.float32).reshape(4, 4)
    assert rank_correlation(rising, rising**3) == pytest.approx(1)
    assert rank_correlation(rising, -rising) == pytest.approx(-1)
    assert rank_correlation(rising, np.zeros_like(rising)) == 0
    tied = np.array([0, 0, 1, 2], np.float32)
    assert rank_correlation(tied, np.array([1, 2, 3, 4], np.float32)) == pytest.approx(0.9486833)
