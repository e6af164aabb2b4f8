"""Self-supervised learning: two changed copies of an image shall look alike, two images not.

VICReg (Bardes et al. 2022) needs no labels and no large batches. Only the backbone keeps what it
learns; the layers that the copies are compared in are not shipped.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH = 512
SAME, SPREAD, APART = 25.0, 25.0, 1.0
"""Weights of the three terms, as published."""


class Alike(nn.Module):
    """Compares pooled features (2N, F), in which each two neighbours are copies of one image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, WIDTH), nn.ReLU(inplace=True), nn.Linear(WIDTH, WIDTH)
        )

    def loss(self, features: Tensor) -> Tensor:
        """How different copies are, how narrow each dimension, and how much two of them share."""
        both = self.layers(features).float()
        one, other = both[0::2], both[1::2]
        same = functional.mse_loss(one, other)
        spread = (_narrow(one) + _narrow(other)) / 2
        apart = _shared(one) + _shared(other)
        return (SAME * same + SPREAD * spread + APART * apart) / SAME


def _narrow(x: Tensor) -> Tensor:
    return functional.relu(1 - (x.var(dim=0) + 1e-4).sqrt()).mean()


def _shared(x: Tensor) -> Tensor:
    """Mean over the dimensions of the squared covariances with the others."""
    covariance = torch.cov(x.T)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / len(covariance)
