"""The embedding of a chest: one linear layer on the middle maps of the bundle's own network.

Who a person is shows in where things are and how they are shaped: ribs, clavicles, diaphragm. The
last maps of a network that was taught age and sex have forgotten much of it, those in the middle
have not (docs/decisions/0038). Where in the image something is seen counts, so the maps are
averaged over the cells of a grid and not over the whole image. The backbone does not change, and
nor does any answer.
"""

from torch import Tensor, nn
from torch.nn import functional

GRID = 6
"""Cells along each side of the maps."""
SIZE = 128
"""Numbers of an embedding."""


class Branch(nn.Module):
    """From middle maps (N, ``channels``, h, w) to embeddings (N, SIZE) of length 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layer = nn.Linear(channels * GRID * GRID, SIZE)

    def forward(self, maps: Tensor) -> Tensor:
        """Embed ``maps``, whatever their side is."""
        out: Tensor = self.layer(cells(maps)).float()
        return functional.normalize(out, dim=1)


def cells(maps: Tensor) -> Tensor:
    """Means of maps (N, C, h, w) over the cells of the grid, shape (N, C * GRID * GRID)."""
    return functional.adaptive_avg_pool2d(maps, GRID).flatten(1)
