"""Projection and findings as further tasks: they teach the backbone what else an image shows.

Only the backbone keeps what it learns of them; their own layer is not shipped, and nothing that the
node says comes from it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from training.data.finding_words import NAMES, WORDS, Words
from training.data.images import Item

NONE = "No Finding"
TASKS = 1 + len(NAMES)
"""Whether the projection is AP, then the findings."""


def targets(items: Sequence[Item]) -> NDArray[np.float32]:
    """What is known of ``items``: 1, 0, or NaN for unknown, shape (N, :data:`TASKS`)."""
    return np.array([_target(item) for item in items], np.float32).reshape(len(items), TASKS)


def _target(item: Item) -> list[float]:
    projection = {"AP": 1.0, "PA": 0.0}.get(item.view, np.nan)
    known = _known(WORDS[item.source], item.findings) if item.source in WORDS else {}
    return [projection, *(known.get(name, np.nan) for name in NAMES)]


def _known(words: Words, stated: Sequence[str]) -> dict[str, float]:
    """1 for the findings that ``stated`` says are there, 0 for those that it denies."""
    named = {word.removesuffix("?") for word in stated}
    if not named & {*words.sure, *words.maybe, NONE}:  # other words say nothing of these
        return {}
    there = {name for word in stated for name in words.sure.get(word, ())}
    open_ = {n for word in named for n in (*words.sure.get(word, ()), *words.maybe.get(word, ()))}
    denied = words.labelled - open_ if not named & words.partial else ()
    return {**dict.fromkeys(denied, 0.0), **dict.fromkeys(there, 1.0)}


class Further(nn.Module):
    """One linear layer on the pooled features (N, F)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, TASKS)

    def loss(self, features: Tensor, known: Tensor) -> Tensor:
        """Mean binary cross-entropy over what is known of the :data:`TASKS`, 0 where nothing is."""
        logits: Tensor = self.layer(features).float()
        there = ~known.isnan()
        if not there.any():
            return logits.sum() * 0
        return functional.binary_cross_entropy_with_logits(logits[there], known[there])
