"""Fits what stands between the network's raw answers and a prediction. Pure numpy.

Age: conformal quantiles in bands of predicted age. Sex: a temperature. In-distribution: a Gaussian
in the principal components of the features of training images.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_ai_node.inference.calibration import (
    LEVELS,
    AgeCalibration,
    Calibration,
    SexCalibration,
)
from dicom_ai_node.inference.engine import Raw

EDGES = (40.0, 60.0)
SMALLEST_BAND = 80
"""Fewer images than this are pooled with the next band; 200 would be better than there are."""
COMPONENTS = 64
SHRINKAGE = 0.1


def calibration(raw: Raw, years: NDArray[np.float32], female: NDArray[np.float32]) -> Calibration:
    """Fit on images that trained nothing; every image has an age and a sex."""
    return Calibration(age=age(raw.mu, raw.sigma, years), sex=sex(raw.sex, female))


def age(
    mu: NDArray[np.float32], sigma: NDArray[np.float32], years: NDArray[np.float32]
) -> AgeCalibration:
    """Conformal quantiles at every level, one pair for each band of predicted age."""
    edges = bands(mu)
    band = np.searchsorted(edges, mu, side="right")
    z = (years - mu) / sigma
    quantiles = {
        level: tuple(_pair(z[band == i], float(level) / 100) for i in range(len(edges) + 1))
        for level in LEVELS
    }
    scale = float(np.sqrt(np.mean(np.square(z, dtype=np.float64))))
    return AgeCalibration(edges=tuple(edges), quantiles=quantiles, sd_scale=round(scale, 4))


def bands(mu: NDArray[np.float32]) -> list[float]:
    """Those of EDGES that leave at least SMALLEST_BAND images in every band."""
    edges: list[float] = []
    for edge in EDGES:
        last = edges[-1] if edges else -math.inf
        if np.sum((mu >= last) & (mu < edge)) >= SMALLEST_BAND:
            edges.append(edge)
    while edges and np.sum(mu >= edges[-1]) < SMALLEST_BAND:
        edges.pop()
    return edges


def _pair(z: NDArray[np.float32], level: float) -> tuple[float, float]:
    tail = (1 + level) / 2
    return _quantile(-z, tail), _quantile(z, tail)


def _quantile(scores: NDArray[np.float32], share: float) -> float:
    """The ceil((n + 1) share)-th smallest score, at least 0 so that the interval contains mu."""
    rank = min(math.ceil((len(scores) + 1) * share), len(scores))
    return round(max(float(np.sort(scores)[rank - 1]), 0.0), 4)


def sex(logits: NDArray[np.float32], female: NDArray[np.float32]) -> SexCalibration:
    """Temperature with the smallest log loss, from a grid; between a third and three."""
    temperatures = np.exp(np.linspace(-np.log(3), np.log(3), 221))
    signed = np.where(female == 1, logits, -logits).astype(np.float64)
    losses = [np.mean(np.logaddexp(0, -signed / t)) for t in temperatures]
    return SexCalibration(temperature=round(float(temperatures[int(np.argmin(losses))]), 4))


@dataclass(frozen=True, slots=True)
class Distance:
    """Tensors of the in-distribution score, see ``inference.calibration.distance``."""

    mean: NDArray[np.float32]
    projection: NDArray[np.float32]
    residual: NDArray[np.float32]


def distance(features: NDArray[np.float32]) -> Distance:
    """Fit on the features (N, F) of training images."""
    mean = features.mean(axis=0, dtype=np.float64)
    centred = features - mean
    covariance = centred.T @ centred / len(features)
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = values[:COMPONENTS]
    shrunk = (1 - SHRINKAGE) * kept + SHRINKAGE * kept.mean()
    residual = max(float(values[COMPONENTS:].mean()), 1e-9)
    return Distance(
        mean.astype(np.float32),
        (vectors[:, :COMPONENTS] / np.sqrt(shrunk)).astype(np.float32),
        np.array([residual], dtype=np.float32),
    )
