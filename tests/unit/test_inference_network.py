import math

import pytest
import torch
from torch import nn

from dicom_ai_node.inference.bundle import ARCHITECTURES
from dicom_ai_node.inference.heads import AGE, FindingsHead, QuantityHead
from dicom_ai_node.inference.network import (
    BACKBONES,
    Network,
    SameConv2d,
    fold_norms,
    moments,
)


def test_the_manifest_knows_exactly_the_architectures_that_can_be_built() -> None:
    assert set(ARCHITECTURES) == set(BACKBONES)


@pytest.mark.parametrize("architecture", list(BACKBONES))
def test_every_backbone_answers(architecture: str) -> None:
    network = Network(architecture).eval()
    with torch.inference_mode():
        answers = network(torch.rand(2, 1, 64, 64))
    assert answers["age"].shape == (2, AGE.outputs)
    for logits in (answers[name] for name in ("sex", "frontal", "chest")):
        assert logits.shape == (2,)
        assert logits.isfinite().all()


@pytest.mark.parametrize("architecture", list(BACKBONES))
def test_folded_norms_change_no_answer(architecture: str) -> None:
    torch.manual_seed(0)
    network, x = Network(architecture), torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        for _ in range(5):  # so that its norms do something
            network.backbone(torch.rand(4, 1, 64, 64))
    network.eval()
    with torch.inference_mode():
        before = network.pooled(x)
        norms = sum(isinstance(m, nn.BatchNorm2d) for m in network.modules())
        fold_norms(network)
        for expected, found in zip(before, network.pooled(x), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) < norms


def test_norms_that_still_learn_are_not_folded() -> None:
    with pytest.raises(ValueError, match="evaluation mode"):
        fold_norms(Network("resnet18"))


def test_an_unknown_architecture_is_named() -> None:
    with pytest.raises(ValueError, match="'lenet'"):
        Network("lenet")


@pytest.mark.parametrize(("side", "out"), [(8, 4), (7, 4), (1, 1)])
def test_same_padding_rounds_up(side: int, out: int) -> None:
    convolution = SameConv2d(1, 1, 3, stride=2, bias=False)
    assert convolution(torch.rand(1, 1, side, side)).shape == (1, 1, out, out)


def test_same_padding_puts_the_odd_pixel_at_the_far_side() -> None:
    convolution = SameConv2d(1, 1, 3, stride=2, bias=False)
    torch.nn.init.ones_(convolution.weight)
    out = convolution(torch.ones(1, 1, 4, 4))
    assert out[0, 0].tolist() == [[9.0, 6.0], [6.0, 4.0]]


def test_moments_of_a_certain_age() -> None:
    logits = torch.full((1, AGE.outputs), -100.0)
    logits[0, 63] = 100.0
    mu, sigma = moments(logits)
    assert mu.item() == pytest.approx(63.0)
    assert sigma.item() == pytest.approx(0.001)


def test_moments_of_two_ages() -> None:
    logits = torch.full((1, AGE.outputs), -100.0)
    logits[0, [40, 60]] = 10.0
    mu, sigma = moments(logits)
    assert mu.item() == pytest.approx(50.0)
    assert sigma.item() == pytest.approx(10.0, abs=1e-3)


def test_the_linear_layer_follows_the_rows_wherever_they_stand() -> None:
    rows = (
        FindingsHead(name="marks", output=3, labels=("tube", "wire")),
        QuantityHead(name="dose", output=0, unit="mGy", support=(5, 7), bounds=(0.0, 9.0)),
    )
    network = Network("resnet18", rows=rows).eval()
    assert network.head.out_features == 5
    torch.nn.init.zeros_(network.head.weight)
    network.head.bias.data = torch.tensor([0.0, 0.0, 90.0, 1.0, -1.0])
    values = network.values(network.answer(torch.zeros(2, 512)))
    assert list(values) == ["dose", "marks"]
    assert values["dose"].tolist() == [[7.0, pytest.approx(0.001)]] * 2
    assert values["marks"].tolist() == [[1.0, -1.0]] * 2


def test_a_normal_quantity_answers_mean_and_standard_deviation_in_its_unit() -> None:
    dose = QuantityHead(name="dose", output=0, unit="mGy", normal=(50.0, 20.0), bounds=(0.0, 99.0))
    network = Network("resnet18", rows=(dose,)).eval()
    torch.nn.init.zeros_(network.head.weight)
    network.head.bias.data = torch.tensor([0.5, 2 * math.log(0.25)])
    values = network.values(network.answer(torch.zeros(3, 512)))
    assert network.head.out_features == 2
    assert values["dose"].tolist() == [[60.0, pytest.approx(5.0)]] * 3


@pytest.mark.parametrize("architecture", list(BACKBONES))
def test_a_contract_may_have_several_channels(architecture: str) -> None:
    torch.manual_seed(0)
    network = Network(architecture, channels=3).eval()
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        answers = network(image)
        other = network(image.flip(1))
    assert answers["age"].shape == (2, 101)
    assert not torch.equal(answers["age"], other["age"])
