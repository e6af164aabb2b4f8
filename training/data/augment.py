"""What one radiograph could also have looked like, for a whole batch at a time.

No left-right flip: the side of the heart is signal. Corrupted images (turned, upside down,
inverted) are negatives of the chest head, which therefore means "a chest radiograph, upright and
with bright bones": an image that is otherwise must not get an age either.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Strength:
    """How far each change may go."""

    degrees: float = 12.0
    scale: float = 0.15
    aspect: float = 0.12
    """Images of other hospitals are not squashed from the same shape as NIH's."""
    shift: float = 0.06
    gamma: float = 0.45
    noise: float = 0.04
    often: float = 0.3
    """Probability of each of another detail contrast and another tone curve."""
    local: float = 0.0
    """Probability of a contrast that is equalised locally."""
    devices: float = 0.0
    """Probability of lines, tubes and electrodes."""
    rarely: float = 0.1
    """Probability of each of blur, low resolution, equalisation, a frame, a box and marks."""


def batch(pixels: Tensor, side: int, rng: torch.Generator, strength: Strength) -> Tensor:
    """Augmented (N, 1, side, side) float32 in [0, 1] from ``pixels`` of shape (N, H, W).

    Pixels are uint8, or float32 in [0, 1].
    """
    x = pixels[:, None].float() / _white(pixels)
    x = _move(x, side, rng, strength)
    n = len(x)
    x = torch.where(_some(n, strength.rarely, rng), _equalise(x), x)
    if strength.local:
        x = torch.where(_some(n, strength.local, rng), _local(x, rng), x)
    x = torch.where(_some(n, strength.often, rng), _detail(x, rng), x)
    x = torch.where(_some(n, strength.often, rng), _tone(x, rng), x)
    gamma = (_uniform(n, rng) * strength.gamma).exp()
    x = x.clamp_min(1e-4) ** gamma
    contrast, brightness = 1 + 0.15 * _uniform(n, rng), 0.08 * _uniform(n, rng)
    x = (x - 0.5) * contrast + 0.5 + brightness
    x = torch.where(_some(n, strength.rarely, rng), _blur(x), x)
    x = torch.where(_some(n, strength.rarely, rng), _coarse(x, rng), x)
    x = _frame(x, strength.rarely, rng)
    x = _box(x, strength.rarely, rng)
    x = _marks(x, strength.rarely, rng)
    x = _devices(x, strength.devices, rng)
    sd = _share(n, rng) * strength.noise
    x = x + sd * torch.randn(x.shape, generator=rng, device=rng.device)
    return stretch(x)


def corrupt(pixels: Tensor, chosen: Tensor, rng: torch.Generator) -> Tensor:
    """Copy of ``pixels`` (N, H, H), as in :func:`batch`, with the ``chosen`` turned or inverted."""
    out = pixels.clone()
    kinds = torch.randint(0, 5, (len(pixels),), generator=rng, device=rng.device)
    for i in chosen.nonzero().flatten().tolist():
        kind, image = int(kinds[i]), pixels[i]
        if kind < 3:
            out[i] = torch.rot90(image, kind + 1, (0, 1))
        else:
            out[i] = _white(pixels) - image if kind == 3 else image.flip(0)
    return out


def _white(pixels: Tensor) -> int:
    return 255 if pixels.dtype == torch.uint8 else 1


def stretch(x: Tensor) -> Tensor:
    """Like the input contract's stretch, with percentiles of every eighth pixel each way."""
    seen = x[:, 0, 4::8, 4::8].flatten(1)
    low = seen.quantile(0.005, dim=1)[:, None, None, None]
    high = seen.quantile(0.995, dim=1)[:, None, None, None]
    return ((x - low) / (high - low).clamp_min(1e-3)).clamp(0, 1)


def _move(x: Tensor, side: int, rng: torch.Generator, strength: Strength) -> Tensor:
    n = len(x)
    turn = torch.randn(n, generator=rng, device=rng.device)
    angle = torch.deg2rad(strength.degrees * turn / 2)
    size = 1 + strength.scale * _uniform(n, rng).flatten()
    aspect = 1 + strength.aspect * _uniform(n, rng).flatten()
    shift = strength.shift * (2 * torch.rand(n, 2, generator=rng, device=rng.device) - 1) * 2
    cos, sin = angle.cos(), angle.sin()
    rows = torch.stack(
        [
            torch.stack([cos * size * aspect, -sin * size, shift[:, 0]], dim=1),
            torch.stack([sin * size, cos * size / aspect, shift[:, 1]], dim=1),
        ],
        dim=1,
    )
    if x.shape[-1] >= 1.9 * side:  # sampling alone would alias
        x = functional.avg_pool2d(x, 2)
    grid = functional.affine_grid(rows, [n, 1, side, side], align_corners=False)
    return functional.grid_sample(x, grid, padding_mode="zeros", align_corners=False)


def _equalise(x: Tensor) -> Tensor:
    """Rank of each grey among 256, per image: plain histogram equalisation."""
    levels = (x.flatten(1) * 255).long().clamp(0, 255)
    counts = torch.zeros(len(x), 256, device=x.device)
    counts = counts.scatter_add_(1, levels, torch.ones(levels.shape, device=x.device))
    rank = counts.cumsum(dim=1) / levels.shape[1]
    return rank.gather(1, levels).reshape(x.shape)


def _detail(x: Tensor, rng: torch.Generator) -> Tensor:
    """Weaken or strengthen what is coarser than a random scale: how vendors differ most."""
    (cells,) = _whole(4, 33, 1, rng)
    coarse = _around(x, cells)
    mean = coarse.mean(dim=(2, 3), keepdim=True)
    share = 0.3 + 1.2 * _share(len(x), rng)
    return x + (share - 1) * (coarse - mean)


def _local(x: Tensor, rng: torch.Generator) -> Tensor:
    """Divide by the contrast around each pixel, at a random scale, to a random part.

    What CLAHE and the multi-scale processing of many vendors come to: lungs, mediastinum and
    abdomen end with the same contrast, and noise with more.
    """
    (cells,) = _whole(4, 17, 1, rng)
    mean = _around(x, cells)
    spread = (_around(x.square(), cells) - mean.square()).clamp_min(0).sqrt()
    level = (0.5 + 0.6 * (mean - mean.mean(dim=(2, 3), keepdim=True))).clamp(0, 1)
    equal = level + 0.2 * (x - mean) / (spread + 0.04)
    part = 0.3 + 0.7 * _share(len(x), rng)
    return (x + part * (equal - x)).clamp(0, 1)


def _around(x: Tensor, cells: int) -> Tensor:
    """The mean around each pixel, in ``cells`` by ``cells`` regions that blend into each other."""
    coarse = functional.adaptive_avg_pool2d(x, cells)
    return functional.interpolate(coarse, size=x.shape[2:], mode="bilinear")


def _tone(x: Tensor, rng: torch.Generator) -> Tensor:
    """Sigmoid VOI LUT (PS3.3 C.11.2.1.3.1) around a random centre, rescaled to the range of x."""
    n = len(x)
    centre, slope = 0.3 + 0.4 * _share(n, rng), 3 + 6 * _share(n, rng)
    low, high = torch.sigmoid(-slope * centre), torch.sigmoid(slope * (1 - centre))
    return (torch.sigmoid(slope * (x - centre)) - low) / (high - low)


def _blur(x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _coarse(x: Tensor, rng: torch.Generator) -> Tensor:
    (side,) = _whole(56, 113, 1, rng)
    small = functional.interpolate(x, size=(side, side), mode="area")
    return functional.interpolate(small, size=x.shape[2:], mode="bilinear")


def _box(x: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Burnt-in marker or missing corner: a box of one grey."""
    side = x.shape[-1]
    for i in _chosen(len(x), share, rng):
        h, w = _whole(side // 20, side // 5, 2, rng)
        r, c = _whole(0, side - side // 5, 2, rng)
        x[i, :, r : r + h, c : c + w] = _whole(0, 2, 1, rng)[0]
    return x


def _frame(x: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Collimation, or the white border of a printed or photographed film."""
    side = x.shape[-1]
    for i in _chosen(len(x), share, rng):
        (grey,) = _whole(0, 2, 1, rng)
        top, bottom, left, right = _whole(0, side // 8, 4, rng)
        x[i, :, :top], x[i, :, side - bottom :] = grey, grey
        x[i, :, :, :left], x[i, :, :, side - right :] = grey, grey
    return x


def _marks(x: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Something like a line of burnt-in text."""
    side = x.shape[-1]
    for i in _chosen(len(x), share, rng):
        high, wide = _whole(4, 28, 2, rng)
        high, wide = min(high, 10, side // 3), min(wide, side // 3)
        ink = torch.rand(high, wide, generator=rng, device=rng.device) < 0.5
        ink = ink.repeat_interleave(2, 0).repeat_interleave(2, 1)
        (r,) = _whole(0, side - 2 * high, 1, rng)
        (c,) = _whole(0, side - 2 * wide, 1, rng)
        x[i, 0, r : r + 2 * high, c : c + 2 * wide][ink] = float(_whole(0, 2, 1, rng)[0])
    return x


def _devices(x: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Bright lines and tubes along curves, electrodes with their wires, of random opacity.

    Curves are quadratic Bezier curves, seen as dots a pixel or two wide.
    """
    side = x.shape[-1]
    along = torch.linspace(0, 1, 3 * side, device=x.device)[:, None]
    for i in _chosen(len(x), share, rng):
        (count,) = _whole(1, 5, 1, rng)
        for wire in range(count):
            ends = side * (1.2 * torch.rand(3, 2, generator=rng, device=rng.device) - 0.1)
            curve = (1 - along) ** 2 * ends[0] + 2 * along * (1 - along) * ends[1]
            curve = curve + along**2 * ends[2]
            wide, strong, electrode = _whole(1, 4, 1, rng)[0], _whole(8, 50, 1, rng)[0], wire % 2
            mask = torch.zeros(side, side, device=x.device)
            rows, columns = curve.long().clamp(0, side - 1).unbind(dim=1)
            mask[rows, columns] = 1.0
            mask = _thick(mask, wide)
            if electrode:
                r, c = (int(v) for v in ends[2].long().clamp(0, side - 1))
                disc = torch.zeros_like(mask)
                disc[r, c] = 1.0
                mask = torch.maximum(mask, _thick(disc, max(side // 28, 3)))
            x[i, 0] = (x[i, 0] + strong / 100 * mask).clamp(0, 1)
    return x


def _thick(mask: Tensor, wide: int) -> Tensor:
    if wide < 2:
        return mask
    odd = wide | 1
    return functional.max_pool2d(mask[None, None], odd, stride=1, padding=odd // 2)[0, 0]


def _share(n: int, rng: torch.Generator) -> Tensor:
    """A number from 0 to 1 for each of ``n`` images, shape (n, 1, 1, 1)."""
    return torch.rand(n, 1, 1, 1, generator=rng, device=rng.device)


def _uniform(n: int, rng: torch.Generator) -> Tensor:
    return 2 * _share(n, rng) - 1


def _some(n: int, share: float, rng: torch.Generator) -> Tensor:
    return _share(n, rng) < share


def _chosen(n: int, share: float, rng: torch.Generator) -> list[int]:
    return list(_some(n, share, rng).flatten().nonzero().flatten().tolist())


def _whole(low: int, high: int, count: int, rng: torch.Generator) -> list[int]:
    drawn = torch.randint(low, high, (count,), generator=rng, device=rng.device)
    return [int(number) for number in drawn]
