"""SENet-154 (Hu et al. 2018) with the head that fastai 1 puts on a network that is fine-tuned.

RIKEN's age network is built so: the convolutions of SENet-154 as the package pretrainedmodels
arranges them, global maximum and mean side by side, and two linear layers. Modules bear the names
of the published weights, ``0.…`` for the body and ``1.…`` for the head. Written anew from the paper
and from these names; weights are the caller's.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from dicom_ai_node.inference import operators as operators  # before torchvision, see there

BLOCKS = (3, 8, 36, 3)
"""Blocks in each of the four stages."""
WIDTH = 64
"""Width of the stem and of the first stage; each stage doubles it."""
GROUPS = 64
REDUCTION = 16


def senet154_age() -> nn.Sequential:
    """Return the network: (N, 3, S, S) to (N, 1), randomly initialised."""
    return nn.Sequential(_body(), _head(8 * WIDTH * _Bottleneck.expansion, 512))


class _Bottleneck(nn.Module):
    """1x1, grouped 3x3, 1x1, squeeze and excitation, shortcut."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, shortcut: int) -> None:
        """Build one block; ``shortcut`` is the side of its shortcut's kernel, 0 for none."""
        from torchvision.ops import SqueezeExcitation

        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width * 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width * 2)
        self.conv2 = nn.Conv2d(
            width * 2, outputs, 3, stride=stride, padding=1, groups=GROUPS, bias=False
        )
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv3 = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.se_module = SqueezeExcitation(outputs, outputs // REDUCTION)
        self.downsample = (
            nn.Sequential(
                nn.Conv2d(inputs, outputs, shortcut, stride, padding=shortcut // 2, bias=False),
                nn.BatchNorm2d(outputs),
            )
            if shortcut
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        out = functional.relu(self.bn1(self.conv1(x)))
        out = functional.relu(self.bn2(self.conv2(out)))
        out = self.se_module(self.bn3(self.conv3(out)))
        return functional.relu(out + self.downsample(x))


def _body() -> nn.Sequential:
    def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
        return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)

    stem = nn.Sequential(
        OrderedDict(
            conv1=convolution(3, WIDTH, stride=2),
            bn1=nn.BatchNorm2d(WIDTH),
            relu1=nn.ReLU(),
            conv2=convolution(WIDTH, WIDTH),
            bn2=nn.BatchNorm2d(WIDTH),
            relu2=nn.ReLU(),
            conv3=convolution(WIDTH, 2 * WIDTH),
            bn3=nn.BatchNorm2d(2 * WIDTH),
            relu3=nn.ReLU(),
            pool=nn.MaxPool2d(3, stride=2, ceil_mode=True),
        )
    )
    stages = []
    inputs = 2 * WIDTH
    for number, blocks in enumerate(BLOCKS):
        width = WIDTH << number
        first = _Bottleneck(inputs, width, 2 if number else 1, shortcut=3 if number else 1)
        inputs = width * _Bottleneck.expansion
        rest = (_Bottleneck(inputs, width, 1, shortcut=0) for _ in range(blocks - 1))
        stages.append(nn.Sequential(first, *rest))
    return nn.Sequential(stem, *stages)


class _ConcatPool(nn.Module):
    """Global maximum, then global mean: (N, F, H, W) to (N, 2 F)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.amax(dim=(2, 3)), x.mean(dim=(2, 3))], dim=1)


def _head(features: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        _ConcatPool(),
        nn.Flatten(),
        nn.BatchNorm1d(2 * features),
        nn.Dropout(0.25),
        nn.Linear(2 * features, hidden),
        nn.ReLU(),
        nn.BatchNorm1d(hidden),
        nn.Dropout(0.5),
        nn.Linear(hidden, 1),
    )
