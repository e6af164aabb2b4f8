"""The networks: one backbone from torchvision, one linear layer for all answers.

Input is (N, C, S, S) float32 in [0, 1], with as many channels as the bundle's input contract yields
(:mod:`dicom_ai_node.pixels.contracts`). A quantity is a distribution over whole numbers (DLDL-v2,
Gao et al. 2018), whose expectation is the estimate and whose second moment is the uncertainty; or
mean and log variance of a normal one (Kendall & Gal 2017).
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dicom_ai_node.inference.heads import GATES, HEADS, QuantityHead, Row

Backbone = tuple[nn.Sequential, int, int]
"""What makes feature maps, their number, and how many of its parts are at strides up to 16."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What the network says of N images, uncalibrated."""

    logits: Mapping[str, Tensor]
    """Of each head and gate by its name: shape (N,) of a single output, else (N, outputs)."""
    features: Tensor
    """Pooled features, shape (N, F)."""

    def __getitem__(self, name: str) -> Tensor:
        return self.logits[name]


def moments(logits: Tensor, first: int = 0) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the distribution behind ``logits`` of shape (N, K).

    The K outputs are the whole numbers from ``first`` on.
    """
    probability = logits.float().softmax(dim=1)
    last = first + logits.shape[1]
    numbers = torch.arange(first, last, dtype=torch.float32, device=logits.device)
    mu = probability @ numbers
    variance = probability @ numbers.square() - mu.square()
    return mu, variance.clamp_min(1e-6).sqrt()


LOG_VARIANCE = (-8.0, 4.0)
"""Least and largest log variance of a normal distribution, in units of its head's scale."""


def estimate(head: QuantityHead, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation in the head's unit, of ``logits`` of shape (N, outputs)."""
    if head.normal is None:
        assert head.support is not None
        return moments(logits, head.support[0])
    centre, scale = head.normal
    mean, log_variance = logits.float().unbind(dim=1)
    return centre + scale * mean, scale * (log_variance.clamp(*LOG_VARIANCE) / 2).exp()


class Network(nn.Module):
    """Backbone, global mean, and one linear layer for the heads and gates of ``rows``."""

    def __init__(
        self,
        architecture: str,
        dropout: float = 0.2,
        rows: Sequence[Row] = (*HEADS, *GATES),
        channels: int = 1,
    ) -> None:
        super().__init__()
        if architecture not in BACKBONES:
            raise ValueError(f"architecture {architecture!r} is none of {', '.join(BACKBONES)}")
        self.architecture, self.channels = architecture, channels
        self.rows = tuple(sorted(rows, key=lambda row: row.output))
        self.backbone, width, self.middle = BACKBONES[architecture](channels)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, sum(row.outputs for row in rows))
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Answers:
        """Answer for ``images`` of shape (N, C, S, S) in [0, 1]."""
        return self.answer(self.pooled(images)[0])

    def pooled(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, F) and texture (N, T) of ``images``, float32.

        The texture are the means of the feature maps in the middle of the backbone. They tell
        detectors and processing apart, which the last maps have learned to overlook.
        """
        maps, middle = self.maps(images)
        return pool(maps), pool(middle)

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Last feature maps of ``images``, (N, F, h, w), and those in the middle, (N, T, H, W)."""
        middle: Tensor = self.backbone[: self.middle](images * 2 - 1)
        return self.backbone[self.middle :](middle), middle

    def answer(self, features: Tensor) -> Answers:
        """What the linear layer says of pooled ``features`` (N, F)."""
        features = self.dropout(features)
        out: Tensor = self.head(features).float()
        logits = {
            row.name: out[:, row.output] if row.outputs == 1 else out[:, row.place]
            for row in self.rows
        }
        return Answers(logits, features)

    def values(self, answers: Answers) -> dict[str, Tensor]:
        """Return what is calibrated of ``answers``, by name and in the order of the outputs.

        Of a quantity, mean and standard deviation, shape (N, 2), the mean within its bounds: a
        normal distribution knows none. Of all else the logits.
        """
        found = {}
        for row in self.rows:
            found[row.name] = answers[row.name]
            if isinstance(row, QuantityHead):
                mean, sigma = estimate(row, answers[row.name])
                found[row.name] = torch.stack([mean.clamp(*row.bounds), sigma], dim=1)
        return found


def pool(maps: Tensor) -> Tensor:
    """Return the mean of each feature map (N, F, h, w), shape (N, F), float32."""
    return maps.mean(dim=(2, 3)).float()


def fold_norms(network: Network) -> None:
    """Put each norm into the convolution before it, in place: the same answers in less time.

    For a network that is only asked: it loses the names of its tensors.
    """
    if network.training:
        raise ValueError("expected a network in evaluation mode: its norms would still learn")
    for module in list(network.backbone.modules()):
        for (name, first), (norm, behind) in pairwise(list(module.named_children())):
            if isinstance(first, nn.Conv2d) and isinstance(behind, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(first, behind))
                setattr(module, norm, nn.Identity())


def stacked(images: Tensor) -> Tensor:
    """Return images of shape (N, S, S) or (N, C, S, S) as (N, C, S, S)."""
    return images[:, None] if images.ndim == 3 else images


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's padding: at stride 2 the odd pixel goes to the far side."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve; the output side is the input side over the stride, rounded up."""
        pads: list[int] = []
        for axis in (1, 0):
            side, kernel, step = input.shape[2 + axis], self.kernel_size[axis], self.stride[axis]
            pad = max((-(-side // step) - 1) * step + kernel - side, 0)
            pads += [pad // 2, pad - pad // 2]
        return functional.conv2d(
            functional.pad(input, pads), weight, bias, self.stride, 0, 1, self.groups
        )


def mobilenet_v2(channels: int = 1) -> Backbone:
    """Return MobileNetV2 1.0 with TensorFlow's padding, so that its published weights fit."""
    from torchvision.models import mobilenet_v2 as build

    features: nn.Sequential = build(weights=None).features
    for name, module in list(features.named_modules()):
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            inputs = channels if module.in_channels == 3 else module.in_channels
            same = SameConv2d(
                inputs, module.out_channels, 3, stride=2, groups=module.groups, bias=False
            )
            _replace(features, name, same)
    return features, 1280, 11


def _efficientnet_b0(channels: int = 1) -> Backbone:
    from torchvision.models import efficientnet_b0 as build

    features: nn.Sequential = build(weights=None).features
    _replace(features, "0.0", nn.Conv2d(channels, 32, 3, stride=2, padding=1, bias=False))
    return features, 1280, 5


def _densenet121(channels: int = 1) -> Backbone:
    from torchvision.models import densenet121 as build

    features: nn.Sequential = build(weights=None).features
    _replace(features, "conv0", nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False))
    features.append(nn.ReLU())
    return features, 1024, 8


def _resnet18(channels: int = 1) -> Backbone:
    from torchvision.models import resnet18 as build

    whole: nn.Module = build(weights=None)
    _replace(whole, "conv1", nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False))
    return nn.Sequential(*list(whole.children())[:-2]), 512, 7


def _replace(parent: nn.Module, path: str, module: nn.Module) -> None:
    *above, name = path.split(".")
    for step in above:
        parent = getattr(parent, step)
    setattr(parent, name, module)


BACKBONES: dict[str, Callable[[int], Backbone]] = {
    "mobilenet_v2": mobilenet_v2,
    "efficientnet_b0": _efficientnet_b0,
    "densenet121": _densenet121,
    "resnet18": _resnet18,
}
"""Every architecture that a bundle may name, and what builds it for a number of channels."""


def declare_missing_operators() -> None:
    """Make ``import torchvision`` work beside a torch that its operators were not built for.

    The wheel of torchvision on the public index is built against the CUDA torch. Beside a CPU torch
    its operators do not load, and its import fails because it describes ``nms`` without them. The
    networks here use none of these operators, so declaring the two schemas is enough. Does nothing
    where its compiled operators load.
    """
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        return
    for library in Path(found.origin).parent.glob("_C*"):
        try:
            torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
        except (OSError, RuntimeError):
            continue
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{name}", schema)


declare_missing_operators()
