"""How far images lie from those that trained. Pure numpy.

The in-distribution score is a conformal p-value: the share of calibration images that lie as far
from the training set as this one, by the features that the answers are made of.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Space:
    """Where the training images lie in a space of F features: most of them in K dimensions."""

    mean: NDArray[np.float32]
    """Shape (F,)."""
    projection: NDArray[np.float32]
    """Shape (F, K); its columns whiten the K dimensions."""
    residual: NDArray[np.float32]
    """Mean square of what lies outside of them, over its dimension; shape (1,)."""

    def distance(self, features: NDArray[np.float32]) -> Floats:
        """Squared Mahalanobis distance of (N, F) features, shape (N,).

        What lies outside of the K dimensions counts in units of ``residual``.
        """
        centred = features.astype(np.float64) - self.mean
        projection = self.projection.astype(np.float64)
        scores = centred @ projection
        norms = np.square(projection).sum(axis=0)
        outside = np.square(centred).sum(axis=1) - (np.square(scores) / norms).sum(axis=1)
        inside = np.square(scores).sum(axis=1)
        return np.asarray(inside + np.maximum(outside, 0.0) / float(self.residual[0]))


@dataclass(frozen=True, slots=True)
class Distances:
    """How far N images lie from the training images, by :meth:`Space.distance`; each (N,)."""

    content: Floats
    """By the features that the answers are made of: far is what is no such image. It is gated."""
    texture: Floats
    """By the texture: far is what another detector or processing made. Answers get less certain."""

    @property
    def reference(self) -> "Distances":
        """The same, each sorted: what other images' distances are held against."""
        return Distances(np.sort(self.content), np.sort(self.texture))


def p_value(distances: Floats, reference: Floats) -> Floats:
    """Conformal p-value of each distance against the sorted ``reference`` distances."""
    further = len(reference) - np.searchsorted(reference, distances, side="left")
    return np.asarray((1.0 + further) / (1.0 + len(reference)))


def excess(distances: Floats, reference: Floats) -> Floats:
    """Logarithm of each distance over the median of the ``reference``: 0 for a usual image."""
    middle = max(float(np.median(reference)), 1e-9)
    return np.asarray(np.log(np.maximum(distances, 1e-9) / middle))


@dataclass(frozen=True, slots=True)
class Far:
    """How far the texture and the content of N images lie off, each of shape (N,)."""

    p_value: Floats
    excess: Floats
    """Of the texture, see :func:`excess`."""
    content: Floats
    """The same of the content."""

    @classmethod
    def of(cls, distances: Distances, reference: Distances) -> "Far":
        """Hold ``distances`` against those that are known."""
        return cls(
            p_value(distances.texture, reference.texture),
            excess(distances.texture, reference.texture),
            excess(distances.content, reference.content),
        )
