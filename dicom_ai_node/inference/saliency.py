"""Which parts of an image an answer rests on: Grad-CAM and Score-CAM over the last feature maps.

Both weigh the feature maps A_k that :meth:`Network.maps` yields and keep the positive part of their
sum. What is explained is one number, the score:

- of a quantity, such as the age, the mean of its distribution, sum_j j softmax(z)_j over the logits
  z, or the mean of a normal one. It is this expectation that is differentiated, not the largest
  logit; the map shows what raises the estimate, and what lowers it is left out.
- of a category, such as the sex, the logit of the predicted value: of two, the network's logit
  where it is not negative (the first), else its negative.
- of findings, the largest logit.

**Grad-CAM** (Selvaraju et al. 2017): the weight of A_k is the mean of d score / d A_k. Behind a
global mean and a linear layer it is the same everywhere in A_k, so no gradient has to be taken
through the backbone.

**Score-CAM** (Wang et al. 2020): the weight of A_k is the score of the image multiplied by A_k,
enlarged and scaled to [0, 1], less the mean of these scores over k: a feature map counts for the
answer when the image behind it scores above the rest. The paper's softmax over the scores is not
used: its weights are all positive and much alike, so that the sum is close to the mean feature map
whatever the head is, and the map hardly changes when the head is randomised
(``tests/builders/sanity.py``). All 1280 channels of a backbone would take most of a minute
an image on a CPU, so only the ``channels`` of largest variance over the image are asked.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from dicom_ai_node.answers import SaliencyMap, SaliencyMethod
from dicom_ai_node.inference.heads import CategoryHead, FindingsHead, QuantityHead
from dicom_ai_node.inference.network import Answers, Network, estimate, pool, stacked

CHANNELS = 128
"""How many feature maps Score-CAM asks, those of largest variance."""
_FLAT = 1e-5
"""What is below this share of the largest value of its kind is rounding."""

Score = Callable[[Answers], Tensor]
"""From the answers for N images to what is explained, shape (N,)."""
Progress = Callable[[int, int], None]
"""Told how many forward passes of how many are done."""


def explain(
    network: Network,
    image: NDArray[np.float32],
    *,
    method: SaliencyMethod = SaliencyMethod.GRAD_CAM,
    heads: Iterable[str] | None = None,
    labels: Mapping[str, str] | None = None,
    device: str = "cpu",
    channels: int = CHANNELS,
    batch: int = 16,
    progress: Progress | None = None,
) -> dict[str, SaliencyMap]:
    """Return the map of each of ``heads`` for one image; the heads share the forward passes.

    The network stays as it was: no hook, no gradient and no change of mode, so that other threads
    may use it meanwhile. Computed in float32 also where predictions are not.

    Parameters
    ----------
    network
        In evaluation mode, on ``device``.
    heads
        Their names; None: all that the network has.
    labels
        By the name of a findings head the label that is explained; else that of the largest logit.
    image
        As its input contract yields it: float32 in [0, 1], (S, S) or (channels, S, S).
    channels, batch, progress
        Of Score-CAM: how many feature maps are asked, and how many at a time.

    Returns
    -------
    dict
        A map of shape (S, S) in [0, 1] for each head; of zeros, and marked as flat, where no part
        of the image raises the score.
    """
    if network.training:
        raise ValueError("expected a network in evaluation mode: dropout would change the maps")
    channels_first = (network.channels,) if network.channels > 1 else ()
    if image.dtype != np.float32 or image.ndim < 2 or image.shape[:-2] != channels_first:
        expected = ", ".join(map(str, (*channels_first, "S", "S")))
        raise ValueError(f"expected float32 ({expected}), got {image.dtype} {image.shape}")
    # Tensors made in inference mode cannot be differentiated, so leave it where a caller is in it.
    with torch.inference_mode(False), torch.no_grad():
        x = stacked(torch.from_numpy(np.array(image))[None]).to(device)
        maps = network.maps(x)[0].float()
        answers = network.answer(pool(maps))
        asked = {head.name: head for head in heads_of(network)}
        wanted = asked if heads is None else {name: asked[name] for name in heads}
        scores = {
            name: _score(head, answers, (labels or {}).get(name)) for name, head in wanted.items()
        }
        if method is SaliencyMethod.GRAD_CAM:
            sums = {name: _grad_cam(network, maps, score) for name, score in scores.items()}
        else:
            sums = _score_cam(network, x, maps[0], scores, channels, batch, progress)
        return {
            name: _finished(wanted[name], method, total, image.shape[-1])
            for name, total in sums.items()
        }


Explained = QuantityHead | CategoryHead | FindingsHead


def heads_of(network: Network) -> tuple[Explained, ...]:
    """Return the heads of ``network``, without its gates, in the order of their outputs."""
    return tuple(row for row in network.rows if isinstance(row, Explained))


def _score(head: Explained, said: Answers, label: str | None) -> Score:
    """Return what is explained of ``head`` where the network has said this of the image.

    Raises ValueError: ``label`` is none of the head's.
    """
    name = head.name
    if label is not None:
        place = _place(head, label)
        return lambda answers: answers[name].reshape(-1, head.outputs)[:, place]
    if isinstance(head, QuantityHead):
        return lambda answers: estimate(head, answers[name])[0]
    if head.outputs > 1:
        largest = int(said[name][0].argmax())
        return lambda answers: answers[name][:, largest]
    if isinstance(head, FindingsHead) or bool(said[name][0] >= 0):
        return lambda answers: answers[name]
    return lambda answers: -answers[name]


def _place(head: Explained, label: str) -> int:
    known = head.labels if isinstance(head, FindingsHead) else ()
    if label not in known:
        raise ValueError(
            f"{head.name}: {label!r}: expected one of {', '.join(known) or 'no label'}"
        )
    return known.index(label)


def _grad_cam(network: Network, maps: Tensor, score: Score) -> Tensor:
    """Sum of the feature maps (1, F, h, w), weighted by their mean gradient: shape (h, w)."""
    with torch.enable_grad():
        leaf = maps.detach().requires_grad_()
        explained = score(network.answer(pool(leaf))).sum()
        (gradient,) = torch.autograd.grad(explained, leaf)  # leaves no .grad at the parameters
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return (weights * maps).sum(dim=1)[0]


def _score_cam(
    network: Network,
    x: Tensor,
    maps: Tensor,
    scores: dict[str, Score],
    channels: int,
    batch: int,
    progress: Progress | None,
) -> dict[str, Tensor]:
    """Sums of the feature maps (F, h, w), weighted by what the image scores behind each of them."""
    variance = maps.flatten(1).var(dim=1, correction=0)
    asked = min(channels, int((variance > 0).sum()))
    chosen = maps[variance.topk(asked).indices]
    found: dict[str, list[Tensor]] = {name: [] for name in scores}
    for start in range(0, asked, batch):
        answers = network(x * _masks(chosen[start : start + batch], x.shape[-1]))
        for name, score in scores.items():
            found[name].append(score(answers))
        if progress is not None:
            progress(min(start + batch, asked), asked)
    if not asked:
        return dict.fromkeys(scores, torch.zeros_like(maps[0]))
    sums = {}
    for name, parts in found.items():
        scored = torch.cat(parts)
        weights = scored - scored.mean()
        if weights.abs().max() <= _FLAT * scored.abs().max():
            weights = torch.zeros_like(weights)
        sums[name] = (weights[:, None, None] * chosen).sum(dim=0)
    return sums


def _masks(maps: Tensor, size: int) -> Tensor:
    """Feature maps (K, h, w), enlarged and each scaled to [0, 1]: shape (K, 1, size, size)."""
    large = _enlarged(maps[:, None], size)
    low, high = large.amin(dim=(2, 3), keepdim=True), large.amax(dim=(2, 3), keepdim=True)
    return (large - low) / (high - low).clamp_min(torch.finfo(large.dtype).tiny)


def _finished(head: Explained, method: SaliencyMethod, total: Tensor, size: int) -> SaliencyMap:
    positive = total.clamp_min(0)
    flat = not bool(positive.max() > _FLAT * total.abs().max())
    if flat:
        values = np.zeros((size, size), np.float32)
        return SaliencyMap(head.name, head.kind, method, values, flat=True)
    large = _enlarged(positive[None, None], size)[0, 0]
    values = (large / large.max()).cpu().numpy()
    return SaliencyMap(head.name, head.kind, method, values, flat=False)


def _enlarged(maps: Tensor, size: int) -> Tensor:
    return functional.interpolate(maps, size=(size, size), mode="bilinear", align_corners=False)
