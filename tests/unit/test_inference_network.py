import pytest
import torch

from dicom_ai_node.inference.bundle import ARCHITECTURES
from dicom_ai_node.inference.network import AGES, BACKBONES, Network, SameConv2d, moments


def test_the_manifest_knows_exactly_the_architectures_that_can_be_built() -> None:
    assert set(ARCHITECTURES) == set(BACKBONES)


@pytest.mark.parametrize("architecture", list(BACKBONES))
def test_every_backbone_answers(architecture: str) -> None:
    network = Network(architecture).eval()
    with torch.inference_mode():
        answers = network(torch.rand(2, 1, 64, 64))
    assert answers.ages.shape == (2, AGES)
    for logits in (answers.sex, answers.frontal, answers.chest):
        assert logits.shape == (2,)
        assert logits.isfinite().all()


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
    logits = torch.full((1, AGES), -100.0)
    logits[0, 63] = 100.0
    mu, sigma = moments(logits)
    assert mu.item() == pytest.approx(63.0)
    assert sigma.item() == pytest.approx(0.001)


def test_moments_of_two_ages() -> None:
    logits = torch.full((1, AGES), -100.0)
    logits[0, [40, 60]] = 10.0
    mu, sigma = moments(logits)
    assert mu.item() == pytest.approx(50.0)
    assert sigma.item() == pytest.approx(10.0, abs=1e-3)
