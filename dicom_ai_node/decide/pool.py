"""One answer per study from several images.

Images of one patient err together, so precision only weights them against each other: neither
the standard deviation nor the interval shrinks with their number.
"""

from collections.abc import Sequence

import numpy as np

from dicom_ai_node.types import Answer, Category, Findings, Prediction, Quantity

_CLIP = 1e-6


def pool(predictions: Sequence[Prediction]) -> dict[str, Answer]:
    """Return the answer of each head from one or more images."""
    return {
        name: _pooled([one.answers[name] for one in predictions]) for name in predictions[0].answers
    }


def _pooled(answers: Sequence[Answer]) -> Answer:
    quantities = [one for one in answers if isinstance(one, Quantity)]
    if quantities:
        return pool_quantity(quantities)
    categories = [one for one in answers if isinstance(one, Category)]
    if categories:
        return pool_category(categories)
    findings = [one for one in answers if isinstance(one, Findings)]
    labels = findings[0].probabilities
    return Findings({x: _pooled_share([one.probabilities[x] for one in findings]) for x in labels})


def pool_quantity(answers: Sequence[Quantity]) -> Quantity:
    """Return the precision-weighted quantity of one or more images."""
    sigma = np.array([one.sigma for one in answers])
    weight = sigma**-2.0 / np.sum(sigma**-2.0)
    low, high = weight @ np.array([one.interval90 for one in answers])
    return Quantity(
        mu=float(weight @ np.array([one.mu for one in answers])),
        sigma=float(weight @ sigma),
        interval90=(float(low), float(high)),
        unit=answers[0].unit,
        attribute=answers[0].attribute,
    )


def pool_category(answers: Sequence[Category]) -> Category:
    """Return the mean over images on the logit scale, of many values on that of logarithms."""
    first, *others = answers[0].probabilities
    if len(others) == 1:
        share = _pooled_share([one.probabilities[first] for one in answers])
        return Category({first: share, others[0]: 1 - share}, answers[0].attribute)
    shares = np.array([list(one.probabilities.values()) for one in answers])
    means = np.exp(np.log(np.clip(shares, _CLIP, 1)).mean(axis=0))
    pooled = (means / means.sum()).tolist()
    return Category(dict(zip((first, *others), pooled, strict=True)), answers[0].attribute)


def _pooled_share(shares: Sequence[float]) -> float:
    p = np.clip(shares, _CLIP, 1 - _CLIP)
    logit = np.mean(np.log(p / (1 - p)))
    return float(1 / (1 + np.exp(-logit)))
