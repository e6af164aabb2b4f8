"""MobileNetV2 alone: its ImageNet weights from a TFLite model, and norms that stay as they are.

The archive of the weights holds convolutions with batch norm folded in. Fine-tuning wants the norm
back, so it is put in again around the unchanged function: the norm's running statistics are those
of the layer's output on real radiographs, its scale and shift undo exactly what it normalises.

Frozen norms are folded into their convolutions at every step. On a CPU, normalising reads and
writes every feature map six times an update and takes as long as the convolutions. A network that
starts from trained statistics learns as well without: scale and shift stay parameters, but they are
multiplied into the weights, which are small.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dicom_ai_node.inference.network import Network

ARCHIVE = "weights/mobilenet_v2_imagenet_dequantised.npz"


def load_imagenet(backbone: nn.Module, archive: Path) -> tuple[Tensor, Tensor]:
    """Fill ``backbone`` in place; return the classifier's weight and bias.

    Three channels take the place of the colours; any other number of them is grey.
    """
    stored = np.load(archive)
    layers = sorted({key[:-2] for key in stored.files})
    pairs = [(m, n) for m, n in convolutions(backbone)]
    if len(layers) != len(pairs) + 1:
        raise ValueError(f"{archive}: {len(layers)} layers, expected {len(pairs) + 1}")
    with torch.no_grad():
        for layer, (convolution, norm) in zip(layers, pairs, strict=False):
            weight = torch.from_numpy(stored[f"{layer}_w"]).float()
            depthwise = "DEPTHWISE" in layer
            weight = weight.permute(3, 0, 1, 2) if depthwise else weight.permute(0, 3, 1, 2)
            if weight.shape[1] == 3 != convolution.in_channels:  # of grey, all colours are equal
                channels = convolution.in_channels
                weight = weight.sum(dim=1, keepdim=True).repeat(1, channels, 1, 1) / channels
            if convolution.weight.shape != weight.shape:
                raise ValueError(f"{archive}: {layer} is {tuple(weight.shape)}")
            convolution.weight.copy_(weight)
            norm.weight.fill_(1.0)
            norm.bias.copy_(torch.from_numpy(stored[f"{layer}_b"]))
            mean, variance = _statistics(norm)
            mean.zero_()
            variance.fill_(1.0 - norm.eps)
    top = layers[-1]
    weight = torch.from_numpy(stored[f"{top}_w"]).float()[:, 0, 0]
    return weight, torch.from_numpy(stored[f"{top}_b"])


@torch.no_grad()
def insert_norms(backbone: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give the norms the statistics of ``batches`` (backbone input), keeping the function."""
    norms = [norm for _, norm in convolutions(backbone)]
    sums = {
        norm: (torch.zeros(norm.num_features), torch.zeros(norm.num_features)) for norm in norms
    }

    def collect(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        sums[norm][0].add_(inputs[0].mean(dim=(0, 2, 3)))
        sums[norm][1].add_(inputs[0].square().mean(dim=(0, 2, 3)))

    hooks = [norm.register_forward_pre_hook(collect) for norm in norms]
    backbone.eval()
    count = 0
    for batch in batches:
        backbone(batch)
        count += 1
    for hook in hooks:
        hook.remove()
    for norm in norms:
        mean, square = sums[norm][0] / count, sums[norm][1] / count
        variance = (square - mean.square()).clamp_min(0)
        running_mean, running_variance = _statistics(norm)
        running_mean.copy_(mean)
        running_variance.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.add_(mean)


def convolutions(backbone: nn.Module) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Each convolution with the norm that follows it, in the order of the forward pass."""
    modules = list(backbone.modules())
    convolutions = [module for module in modules if isinstance(module, nn.Conv2d)]
    norms = [module for module in modules if isinstance(module, nn.BatchNorm2d)]
    return list(zip(convolutions, norms, strict=True))


def _statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    return mean, variance


def freeze_norms(network: Network) -> None:
    """Fix the statistics of all norms of a MobileNetV2, in place; parameters keep their names."""
    for convolution, norm in convolutions(network.backbone):
        convolution.forward = partial(_folded, convolution, norm)  # type: ignore[method-assign]
        norm.forward = _unchanged  # type: ignore[method-assign, assignment]


def freeze_blocks(network: Network, count: int) -> None:
    """Keep the first ``count`` blocks of a MobileNetV2: no gradient is computed for them."""
    for block in list(network.backbone.children())[:count]:
        block.requires_grad_(False)


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    mean, variance = _statistics(norm)
    scale = norm.weight * (variance + norm.eps).rsqrt()
    weight = convolution.weight * scale[:, None, None, None]
    out: Tensor = convolution._conv_forward(x, weight, norm.bias - mean * scale)
    return out


def _unchanged(x: Tensor) -> Tensor:
    return x
