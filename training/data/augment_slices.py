"""What one slice could also have looked like, and what is no slice, for a batch at a time.

Pictures of CT and CT in HU meet half-way: of HU half are shown as a picture, through a window that
is drawn; of pictures of CT a share is taken for HU, as if a window that is drawn had made them. The
windows are drawn without regard to the region, else a network would read it from them.

Writing is hidden or added at the same rate whoever an image is from, so that no mark of a source
tells what it shows. Left and right stay where the anatomy of the trunk has sides.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional

from dicom_ai_node.pixels.windows import WINDOWS, Window
from training.data.augment import stretch

VIEWED: tuple[Window, ...] = (
    *WINDOWS,
    Window("brain", 40, 80),
    Window("subdural", 75, 215),
    Window("stroke", 32, 40),
    Window("temporal bone", 600, 2800),
    Window("mediastinum", 50, 350),
    Window("liver", 60, 160),
    Window("angiography", 300, 600),
)
"""Windows that slices are looked at through, and published."""


AIR, BONE = -1000.0, 700.0
"""HU of what a window clipped, unless it says otherwise."""
BLACK, WHITE = 0.02, 0.98


@dataclass(frozen=True, slots=True)
class Strength:
    """How far each change may go, and how often it is made."""

    degrees: float = 12.0
    scale: float = 0.2
    shift: float = 0.08
    gamma: float = 0.35
    noise: float = 0.03
    as_picture: float = 0.5
    """Share of images in HU that are shown through one drawn window, as a picture."""
    as_hu: float = 0.0
    """Share of pictures of CT that are taken for HU."""
    hidden: float = 0.4
    """Probability of each of: the upper and the lower margin black."""
    written: float = 0.15
    coarse: float = 0.1
    montage: float = 0.06
    page: float = 0.02


@dataclass(frozen=True, slots=True)
class Kinds:
    """What is known of the images of a batch, each of shape (N,), bool."""

    absolute: Tensor
    """In HU."""
    ct: Tensor
    """A picture of a CT."""
    symmetric: Tensor
    """May be mirrored."""


def batch(
    values: Tensor, kinds: Kinds, side: int, rng: torch.Generator, strength: Strength
) -> tuple[Tensor, Tensor]:
    """Augmented (N, 3, side, side) in [0, 1], and which of them are a slice no more.

    ``values`` are those of :class:`training.data.slices.Values`, (N, H, H) float32.
    """
    x = _channels(values, kinds, rng, strength)
    x = _move(x, kinds, side, rng, strength)
    n = len(x)
    gamma = ((2 * _draw(n, rng) - 1) * strength.gamma).exp()
    x = x.clamp_min(1e-4) ** gamma
    x = (x - 0.5) * (1 + 0.15 * (2 * _draw(n, rng) - 1)) + 0.5 + 0.06 * (2 * _draw(n, rng) - 1)
    few = (_draw(n, rng).flatten() < strength.coarse).nonzero().flatten()
    x[few] = _coarse(x[few], rng) if len(few) else x[few]
    x = _margins(x, rng, strength)
    x = x + _draw(n, rng) * strength.noise * torch.randn(n, 1, side, side, generator=rng)
    x = x.clamp(0, 1)
    spoilt = _draw(n, rng).flatten() < strength.montage
    x = montages(x, spoilt, rng)
    pages = _draw(n, rng).flatten() < strength.page
    for at in pages.nonzero().flatten().tolist():
        x[at] = page(side, rng)
    return x, spoilt | pages


def _channels(values: Tensor, kinds: Kinds, rng: torch.Generator, strength: Strength) -> Tensor:
    """The three windows, of HU or of what is taken for HU; else a picture in all three."""
    n = len(values)
    window = torch.tensor([[w.centre, w.width] for w in VIEWED])
    drawn = window[torch.randint(0, len(VIEWED), (n,), generator=rng)]
    centre = (drawn[:, 0] + 0.15 * drawn[:, 1] * (2 * _draw(n, rng).flatten() - 1))[:, None, None]
    width = (drawn[:, 1] * (0.7 + 0.6 * _draw(n, rng).flatten()))[:, None, None]
    low = centre - width / 2
    chance = _draw(n, rng).flatten()
    shown = kinds.absolute & (chance < strength.as_picture)
    taken = kinds.ct & ~kinds.absolute & (chance < strength.as_hu)
    hu = torch.where(taken[:, None, None], _as_hu(values, low, width), values)
    three = torch.stack([((hu - w.centre) / w.width + 0.5).clamp(0, 1) for w in WINDOWS], dim=1)
    picture = torch.where(shown[:, None, None], ((values - low) / width).clamp(0, 1), values)
    through = (kinds.absolute & ~shown) | taken
    stretched = stretch(picture[:, None])
    return torch.where(through[:, None, None, None], three, stretched.expand_as(three))


def _as_hu(values: Tensor, low: Tensor, width: Tensor) -> Tensor:
    """HU of which a window would have made a picture; what it clipped is air or bone."""
    found = torch.where(values > BLACK, low + values * width, low.clamp_max(AIR))
    return torch.where(values < WHITE, found, (low + width).clamp_min(BONE))


def _move(x: Tensor, kinds: Kinds, side: int, rng: torch.Generator, strength: Strength) -> Tensor:
    n = len(x)
    angle = torch.deg2rad(strength.degrees * torch.randn(n, generator=rng) / 2)
    size = 1 + strength.scale * (2 * torch.rand(n, generator=rng) - 1)
    mirrored = kinds.symmetric & (torch.rand(n, generator=rng) < 0.5)
    sign = torch.where(mirrored, -1.0, 1.0)
    shift = strength.shift * (2 * torch.rand(n, 2, generator=rng) - 1) * 2
    cos, sin = angle.cos() * size, angle.sin() * size
    rows = torch.stack(
        [
            torch.stack([cos * sign, -sin, shift[:, 0]], dim=1),
            torch.stack([sin * sign, cos, shift[:, 1]], dim=1),
        ],
        dim=1,
    )
    grid = functional.affine_grid(rows, [n, 3, side, side], align_corners=False)
    return functional.grid_sample(x, grid, padding_mode="zeros", align_corners=False)


def _coarse(x: Tensor, rng: torch.Generator) -> Tensor:
    low = int(torch.randint(48, 97, (1,), generator=rng))
    small = functional.interpolate(x, size=(low, low), mode="area")
    return functional.interpolate(small, size=x.shape[2:], mode="bilinear")


def _margins(x: Tensor, rng: torch.Generator, strength: Strength) -> Tensor:
    """Black out the margins that carry writing, or write into them."""
    side = x.shape[-1]
    for at in range(len(x)):
        high, low, mark = torch.rand(3, generator=rng).tolist()
        depth = int(side * (0.06 + 0.06 * high))
        if high < strength.hidden:
            x[at, :, :depth] = 0
        if low < strength.hidden:
            x[at, :, side - depth :] = 0
        if mark < strength.written:
            x[at] = torch.maximum(x[at], written(side, int(mark * 1e6)))
    return x


def written(side: int, seed: int) -> Tensor:
    """A line of letters at a margin, (side, side)."""
    rng = np.random.default_rng(seed)
    picture = Image.new("L", (side, side))
    row = int(rng.choice([0.0, 0.03, 0.88, 0.93]) * side)
    word = "".join(chr(c) for c in rng.integers(65, 91, rng.integers(2, 24)))
    grey = int(rng.integers(90, 255))
    ImageDraw.Draw(picture).text((int(rng.uniform(0, 0.6) * side), row), word, fill=grey)
    return torch.from_numpy(np.asarray(picture, np.float32) / 255)


def page(side: int, rng: torch.Generator) -> Tensor:
    """A screen of text, as dose reports and protocols are filed among slices; (3, side, side)."""
    source = np.random.default_rng(int(torch.randint(0, 2**31, (1,), generator=rng)))
    picture = Image.new("L", (side, side))
    draw = ImageDraw.Draw(picture)
    for row in range(4, side - 8, int(source.integers(9, 14))):
        if source.random() < 0.75:
            word = "".join(chr(c) for c in source.integers(40, 91, source.integers(3, 30)))
            draw.text((int(source.integers(2, 20)), row), word, fill=int(source.integers(120, 255)))
    pixels = torch.from_numpy(np.asarray(picture, np.float32) / 255)
    return (pixels if source.random() < 0.7 else 1 - pixels).expand(3, -1, -1)


def montages(x: Tensor, chosen: Tensor, rng: torch.Generator) -> Tensor:
    """Put several images of the batch into each chosen one, in rows and columns."""
    side, out = x.shape[-1], x.clone()
    for at in chosen.nonzero().flatten().tolist():
        rows, columns = GRIDS[int(torch.randint(0, len(GRIDS), (1,), generator=rng))]
        high, wide = side // rows, side // columns
        parts = torch.randint(0, len(x), (rows * columns,), generator=rng)
        tiles = functional.interpolate(x[parts], size=(high, wide), mode="area")
        out[at] = 0
        for number, tile in enumerate(tiles):
            top, left = number // columns * high, number % columns * wide
            out[at, :, top : top + high, left : left + wide] = tile
    return out


GRIDS: Sequence[tuple[int, int]] = ((1, 2), (2, 1), (2, 2), (2, 3), (3, 3), (4, 4), (4, 5))
"""Rows and columns of a montage."""


def _draw(n: int, rng: torch.Generator) -> Tensor:
    return torch.rand(n, 1, 1, 1, generator=rng)
