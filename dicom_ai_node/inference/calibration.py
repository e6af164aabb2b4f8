"""How raw answers become calibrated ones. Pure numpy; fitted by ``training.calibrate``.

The age interval is split conformal (normalised, asymmetric, in groups of predicted age): on images
exchangeable with the calibration set it covers the recorded age with at least its nominal
probability. The in-distribution score is a conformal p-value: the share of calibration images that
lie as far from the training set as this one.
"""

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

LEVELS = ("50", "80", "90", "95")
OLDEST = 110.0


class AgeCalibration(BaseModel):
    """Conformal quantiles of (mu - y) / sigma and (y - mu) / sigma in bands of predicted age."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    edges: tuple[float, ...]
    """Predicted ages that part the bands, rising; none means one band."""
    quantiles: dict[str, tuple[tuple[float, float], ...]]
    """For each level in per cent, (below, above) of each band, in units of sigma."""
    sd_scale: float = Field(gt=0)
    """The network's sigma times this is the standard deviation of the error."""

    @model_validator(mode="after")
    def _complete(self) -> "AgeCalibration":
        if set(self.quantiles) != set(LEVELS):
            raise ValueError(f"quantiles for {sorted(self.quantiles)}, expected {LEVELS}")
        if any(len(bands) != len(self.edges) + 1 for bands in self.quantiles.values()):
            raise ValueError(f"expected {len(self.edges) + 1} bands of quantiles")
        if min(q for bands in self.quantiles.values() for band in bands for q in band) < 0:
            raise ValueError("a negative quantile")
        if list(self.edges) != sorted(self.edges):
            raise ValueError("edges do not rise")
        return self

    def interval(self, mu: float, sigma: float, level: str = "90") -> tuple[float, float]:
        """Interval in years that covers the age with probability ``level`` per cent."""
        below, above = self.quantiles[level][bisect_right(self.edges, mu)]
        return max(mu - below * sigma, 0.0), min(max(mu + above * sigma, mu), OLDEST)


class SexCalibration(BaseModel):
    """Temperature of the sex logit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(gt=0)

    def probability_female(self, logit: float) -> float:
        """Calibrated probability."""
        return sigmoid(logit / self.temperature)


class Calibration(BaseModel):
    """Everything that turns raw answers into calibrated ones, but for the distances' tensors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    age: AgeCalibration
    sex: SexCalibration


def sigmoid(logit: float) -> float:
    """Logistic function that never overflows."""
    return float(0.5 * (1.0 + np.tanh(0.5 * logit)))


def distance(
    features: NDArray[np.float32],
    mean: NDArray[np.float32],
    projection: NDArray[np.float32],
    residual: float,
) -> NDArray[np.float64]:
    """Squared Mahalanobis distance of (N, F) features, shape (N,).

    Within the subspace the columns of ``projection`` (F, K) are whitened; what lies outside of it
    counts in units of ``residual``, its mean square on the training set over its dimension.
    """  # fmt: skip
    centred = features.astype(np.float64) - mean
    scores = centred @ projection.astype(np.float64)
    norms = np.square(projection.astype(np.float64)).sum(axis=0)
    outside = np.square(centred).sum(axis=1) - (np.square(scores) / norms).sum(axis=1)
    return np.asarray(np.square(scores).sum(axis=1) + np.maximum(outside, 0.0) / residual)


def p_value(distances: NDArray[np.float64], reference: Sequence[float]) -> NDArray[np.float64]:
    """Conformal p-value of each distance against the sorted ``reference`` distances."""
    known = np.asarray(reference, dtype=np.float64)
    further = len(known) - np.searchsorted(known, distances, side="left")
    return np.asarray((1.0 + further) / (1.0 + len(known)))
