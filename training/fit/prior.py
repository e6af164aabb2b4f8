"""Takes the ages of the training set out of the age head: logit adjustment (Menon et al. 2021).

A network trained on few old people learns that people are seldom old, and estimates the old too
young and the young too old. Subtracting tau times the log of the training ages' density from the
logits of the ages weakens (tau 1: removes) that prior. It is baked into the bias of the head, so
serving knows nothing of it. Pure numpy.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_ai_node.inference.engine import NETWORK

Floats = NDArray[np.float64]
YEARS = np.arange(101, dtype=np.float64)
HEAD_BIAS = f"{NETWORK}head.bias"
TAUS = np.linspace(0, 1, 21)
OLD = 70.0
LARGEST_BIAS = 4.0


def log_prior(
    years: NDArray[np.floating],
    weights: NDArray[np.floating] | None = None,
    *,
    bandwidth: float = 3.0,
    floor: float = 0.05,
) -> Floats:
    """Log density of the training ages at the whole years 0 to 100, shape (101,).

    Parameters
    ----------
    years
        Recorded ages of the training images; NaN where unknown.
    weights
        How often each was seen, relative to each other; None: all as often.
    bandwidth
        Standard deviation of the kernel, years.
    floor
        Share of the density that is spread evenly, so that an age that nobody has is not lifted
        without bound.
    """
    with_age = ~np.isnan(years)
    if not with_age.any():
        raise ValueError("no image has an age")
    known = np.clip(np.rint(years[with_age]), 0, 100).astype(np.intp)
    seen = None if weights is None else weights[with_age]
    counts = np.bincount(known, seen, minlength=101)
    kernel = np.exp(-np.square(YEARS[:, None] - YEARS) / (2 * bandwidth**2))
    kernel /= kernel.sum(axis=0)  # nothing is lost beyond 0 and 100
    density = kernel @ counts / counts.sum()
    return np.asarray(np.log((1 - floor) * density + floor / len(YEARS)))


def adjusted(logits: Floats, prior: Floats, tau: float) -> Floats:
    """Age logits (N, 101) with ``tau`` times the log prior subtracted."""
    return np.asarray(logits - tau * (prior - prior.mean()))


def bake(
    tensors: dict[str, NDArray[np.float32]], prior: Floats, tau: float, name: str = HEAD_BIAS
) -> dict[str, NDArray[np.float32]]:
    """Copy of a state dict whose head's bias answers as :func:`adjusted` does."""
    bias = tensors[name].astype(np.float64)
    bias[: len(YEARS)] = adjusted(bias[None, : len(YEARS)], prior, tau)[0]
    return tensors | {name: bias.astype(np.float32)}


def expectation(logits: Floats) -> Floats:
    """Mean of the age distribution behind ``logits`` (N, 101), years."""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights @ YEARS / weights.sum(axis=1))


@dataclass(frozen=True, slots=True)
class TauPoint:
    """What one tau gives on a labelled set; all in years."""

    tau: float
    mae: float
    balanced_mae: float
    """Mean over decades of recorded age of the MAE in each."""
    bias: float
    bias_old: float
    """Mean of estimate minus recorded from :data:`OLD` on; NaN when nobody is that old."""


def curve(
    logits: Floats, years: Floats, prior: Floats, taus: NDArray[np.float64] = TAUS
) -> list[TauPoint]:
    """Errors on ``years`` (N,) that each of ``taus`` makes of the unadjusted ``logits``."""
    old, decades = years >= OLD, np.floor(years / 10)
    points = []
    for tau in taus:
        error = expectation(adjusted(logits, prior, float(tau))) - years
        by_decade = [np.abs(error[decades == d]).mean() for d in np.unique(decades)]
        points.append(
            TauPoint(
                tau=round(float(tau), 4),
                mae=float(np.abs(error).mean()),
                balanced_mae=float(np.mean(by_decade)),
                bias=float(error.mean()),
                bias_old=float(error[old].mean()) if old.any() else float("nan"),
            )
        )
    return points


def choose(points: list[TauPoint]) -> TauPoint:
    """Return the smallest MAE among those whose bias of the old is at most :data:`LARGEST_BIAS`.

    Where none is, the smallest balanced MAE.
    """
    fair = [point for point in points if abs(point.bias_old) <= LARGEST_BIAS]
    if fair:
        return min(fair, key=lambda point: (point.mae, point.tau))
    return min(points, key=lambda point: (point.balanced_mae, point.tau))


def table(points: list[TauPoint], chosen: float) -> str:
    """Return the whole curve as text, the chosen line marked."""
    lines = [f"{'tau':>6} {'MAE':>7} {'balanced':>9} {'bias':>7} {f'bias {OLD:.0f}+':>10}"]
    for p in points:
        line = f"{p.tau:6.2f} {p.mae:7.3f} {p.balanced_mae:9.3f} {p.bias:7.3f} {p.bias_old:10.3f}"
        lines.append(line + ("  <- chosen" if p.tau == chosen else ""))
    return "\n".join(lines)
