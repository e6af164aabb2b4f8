"""One estimate per study from several images.

Images of one patient err together, so precision only weights them against each other: neither
the standard deviation nor the interval shrinks with their number.
"""

from collections.abc import Sequence

import numpy as np

from dicom_ai_node.types import AgeEstimate, Prediction, SexEstimate

_CLIP = 1e-6


def pool_age(predictions: Sequence[Prediction]) -> AgeEstimate:
    """Return the precision-weighted age of one or more images."""
    sigma = np.array([one.age_sd for one in predictions])
    weight = sigma**-2.0 / np.sum(sigma**-2.0)
    low, high = weight @ np.array([one.age_interval90 for one in predictions])
    return AgeEstimate(
        mu=float(weight @ np.array([one.age for one in predictions])),
        sigma=float(weight @ sigma),
        interval90=(float(low), float(high)),
    )


def pool_sex(predictions: Sequence[Prediction]) -> SexEstimate:
    """Return the mean over images on the logit scale."""
    p = np.clip([one.probability_female for one in predictions], _CLIP, 1 - _CLIP)
    logit = np.mean(np.log(p / (1 - p)))
    return SexEstimate(probability_female=float(1 / (1 + np.exp(-logit))))
