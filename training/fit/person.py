"""The layer that embeds chests: principal components, then linear discriminants of patients. Pure.

Two images of one patient differ by position, breath, view, detector and disease; two patients
differ by more. The layer is the one that makes the second large beside the first (Fisher's linear
discriminants, after principal components that leave out what hardly varies), with each direction
weighted by how reliable it is, as probabilistic discriminants weight it (Ioffe 2006). It is solved
in one step and has no random start.
"""

import zlib
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from dicom_ai_node.inference.embedding import SIZE
from dicom_ai_node.likeness import Scale

Floats = NDArray[np.float32]
COMPONENTS = 512
"""Directions that are kept."""
SHRINKAGE = 0.3
"""Of the covariance within patients, toward a sphere: a share of its mean variance."""
FOLDS = 5
"""Numbers of patients' folds."""
_T7_90 = 1.414924
"""90 % quantile of Student's t with 7 degrees of freedom."""


@dataclass(frozen=True, slots=True)
class Layer:
    """The one linear layer of :class:`dicom_ai_node.inference.embedding.Branch`."""

    weight: Floats
    """Shape (SIZE, D)."""
    bias: Floats
    """Shape (SIZE,)."""

    def embed(self, features: Floats) -> Floats:
        """Embed ``features`` (N, D); each embedding has length 1."""
        out = features @ self.weight.T + self.bias
        return np.asarray(out / np.linalg.norm(out, axis=1, keepdims=True), np.float32)


def fold_of(patient: str) -> int:
    """Return the fold of a patient, the same for all of a patient's images wherever they lie."""
    return zlib.crc32(patient.encode()) % FOLDS


def fit(features: Floats, patients: NDArray[np.str_]) -> Layer:
    """Solve the layer on ``features`` (N, D) of ``patients`` (N,).

    Raises ValueError where not one patient has two images, or there are fewer than twice as many
    images as an embedding has numbers.
    """
    _, person, images = np.unique(patients, return_inverse=True, return_counts=True)
    if len(patients) < 2 * SIZE or images.max() < 2:
        raise ValueError(f"expected {2 * SIZE} images at least, and patients with two or more")
    mean, sd = features.mean(axis=0), features.std(axis=0) + 1e-6
    standard = (features - mean) / sd
    axes = _principal(standard)
    seen = (standard @ axes).astype(np.float64)
    means = np.zeros((len(images), seen.shape[1]))
    np.add.at(means, person, seen)
    means /= images[:, None]
    rest = seen - means[person]
    within = rest.T @ rest / (len(person) - len(images))
    within += SHRINKAGE * np.trace(within) / len(within) * np.eye(len(within))
    between = np.cov(means.T)
    ratios, directions = scipy.linalg.eigh(between, within)
    best = np.argsort(ratios)[::-1][:SIZE]
    # A direction in which patients differ little beside what one patient does counts less.
    gains = np.sqrt(ratios[best] / (1 + ratios[best]))
    weight = (axes @ (directions[:, best] * gains)).T / sd
    bias = -(weight @ mean)
    return Layer(weight.astype(np.float32), bias.astype(np.float32))


def _principal(standard: Floats) -> Floats:
    """Return the first principal axes of standardised features, shape (D, at most COMPONENTS)."""
    _, axes = scipy.linalg.eigh(
        standard.T @ standard / len(standard),
        subset_by_index=(max(0, standard.shape[1] - COMPONENTS), standard.shape[1] - 1),
    )
    return np.asarray(axes[:, ::-1][:, : len(standard) - 1], np.float32)


def scale(same: NDArray[np.float64], other: NDArray[np.float64], patients: int) -> Scale:
    """Fit what a similarity is worth, on pairs of one patient and of two that trained nothing.

    ``same`` and ``other`` are similarities of pairs, the latter of people whom age and sex do not
    tell apart: age and sex are evidence of their own. ``patients`` is of how many people the pairs
    are: no likelihood ratio is claimed beyond it.
    """
    centre = float(np.median(same))
    below = centre - float(np.quantile(same, 0.1))
    intercept, slope = _logistic(same, other)
    most = float(np.log10(max(patients, 10)))
    return Scale(
        round(centre, 4),
        round(below / _T7_90, 4),
        round(intercept, 4),
        round(slope, 4),
        (-round(most, 2), round(most, 2)),
    )


def _logistic(same: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float]:
    """Fit log10 of the likelihood ratio: logistic regression with both kinds counted alike."""
    x = np.concatenate([same, other])
    design = np.stack([np.ones_like(x), x], axis=1)
    y = np.concatenate([np.ones(len(same)), np.zeros(len(other))])
    weight = np.where(y == 1, 0.5 / len(same), 0.5 / len(other))
    beta = np.zeros(2)
    for _ in range(50):
        p = 1 / (1 + np.exp(-design @ beta))
        gradient = design.T @ (weight * (y - p)) - 1e-6 * beta
        hessian = (design * (weight * p * (1 - p))[:, None]).T @ design + 1e-6 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        beta += step
        if np.abs(step).max() < 1e-8:
            break
    return float(beta[0] / np.log(10)), float(beta[1] / np.log(10))
