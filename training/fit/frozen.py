"""Parts of a network that stay as they are, to train the rest in less time.

Batch norms with fixed statistics are folded into their convolutions at every step.

On a CPU, normalising reads and writes every feature map six times an update and takes as long as
the convolutions. A network that starts from trained statistics learns as well without: scale and
shift stay parameters, but they are multiplied into the weights, which are small.
"""

from functools import partial

from torch import Tensor, nn

from dicom_ai_node.inference.network import Network
from training.fit.imagenet import convolutions


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
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    scale = norm.weight * (variance + norm.eps).rsqrt()
    weight = convolution.weight * scale[:, None, None, None]
    out: Tensor = convolution._conv_forward(x, weight, norm.bias - mean * scale)
    return out


def _unchanged(x: Tensor) -> Tensor:
    return x
