"""Whether saliency maps say anything about the network: they must change with its weights.

The cascading randomisation of Adebayo et al. 2018 (Sanity Checks for Saliency Maps): the layers are
randomised from the output down, each on top of those before, and every map is held against the one
of the intact network. A method whose maps stay as they were shows the image, not the network.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dicom_ai_node.answers import SaliencyMethod
from dicom_ai_node.inference.network import Network
from dicom_ai_node.inference.saliency import CHANNELS, explain, heads_of


@dataclass(frozen=True, slots=True)
class Step:
    """What the maps have in common with the intact ones after one more layer was randomised."""

    layer: str
    """``head``, then the parts of the backbone from its last to its first."""
    correlation: Mapping[str, float]
    """Rank correlation in [-1, 1]; 1 when the map has not changed in the least."""


def cascade(
    network: Network,
    image: NDArray[np.float32],
    *,
    method: SaliencyMethod = SaliencyMethod.GRAD_CAM,
    heads: Iterable[str] | None = None,
    device: str = "cpu",
    channels: int = CHANNELS,
    seed: int = 0,
    only: Collection[str] | None = None,
) -> Iterator[Step]:
    """Randomise a copy of ``network`` from the top; yield how its maps of ``image`` change.

    The same seed gives the same weights. ``network`` stays as it was. Every layer is randomised,
    but maps are made only at those named in ``only``, if given.

    Raises
    ------
    ValueError
        ``only`` names no layer of the network.
    """
    unknown = set(only or ()) - {name for name, _ in layers(network)}
    if unknown:
        known = ", ".join(name for name, _ in layers(network))
        raise ValueError(f"no layer {', '.join(sorted(unknown))}: expected some of {known}")
    names = tuple(head.name for head in heads_of(network)) if heads is None else tuple(heads)
    spoilt = deepcopy(network)
    draw = torch.Generator().manual_seed(seed)

    def maps(one: Network) -> dict[str, NDArray[np.float32]]:
        found = explain(one, image, method=method, heads=names, device=device, channels=channels)
        return {head: each.values for head, each in found.items()}

    intact = maps(network)
    for name, layer in layers(spoilt):
        randomise(layer, draw)
        if only is not None and name not in only:
            continue
        found = maps(spoilt)
        yield Step(name, {head: rank_correlation(intact[head], found[head]) for head in names})


def layers(network: Network) -> list[tuple[str, nn.Module]]:
    """Return what :func:`cascade` randomises, in its order: the head, then the backbone."""
    return [("head", network.head), *_parts(network.backbone, "backbone")[::-1]]


def randomise(module: nn.Module, draw: torch.Generator) -> None:
    """Shuffle the values of each tensor of ``module`` in place.

    Each layer keeps the distribution of its weights, so activations keep their size and what
    changes in a map is due to what the layer had learned.
    """
    for tensor in module.state_dict().values():  # these share their memory with the module
        if tensor.is_floating_point():
            order = torch.randperm(tensor.numel(), generator=draw).to(tensor.device)
            tensor.copy_(tensor.flatten()[order].view(tensor.shape))


def rank_correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Spearman's correlation of two maps, ties at their mean rank; 0 when either is constant."""
    a, b = _centred_ranks(one), _centred_ranks(other)
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm else 0.0


def _centred_ranks(values: NDArray[np.float32]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.asarray(np.cumsum(counts) - (counts - 1) / 2)[inverse.ravel()]
    return np.asarray(ranks - ranks.mean())


def _parts(module: nn.Module, name: str) -> list[tuple[str, nn.Module]]:
    """Return the parts of ``module`` that hold weights, without the wrappers around them."""
    parts = [
        (f"{name}.{child}", part)
        for child, part in module.named_children()
        if next(part.parameters(), None) is not None
    ]
    if len(parts) == 1:
        ((child, part),) = parts
        return _parts(part, child)
    return parts or [(name, module)]
