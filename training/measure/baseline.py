"""What can be said of age and sex without looking at the image: the bar for every figure. Pure."""

from dataclasses import dataclass

import numpy as np

from dicom_ai_node.inference.calibration import LEVELS
from training.measure.metrics import Floats


@dataclass(frozen=True, slots=True)
class Baseline:
    """The same answer for everyone, taken from the training images."""

    median: float
    """Their median age, years."""
    ranges: dict[str, tuple[float, float]]
    """For each of ``LEVELS``, the central range of their ages, years."""
    females: float
    """Share of females among them."""


def baseline(years: Floats, female: Floats) -> Baseline:
    """Of training images; NaN where a label is unknown.

    Raises
    ------
    ValueError
        No age or no sex is known.
    """
    if np.isnan(years).all() or np.isnan(female).all():
        raise ValueError("training images: expected at least one with an age and one with a sex")
    tails = {level: (100 - float(level)) / 2 for level in LEVELS}
    return Baseline(
        median=float(np.nanmedian(years)),
        ranges={
            level: (
                float(np.nanpercentile(years, tail)),
                float(np.nanpercentile(years, 100 - tail)),
            )
            for level, tail in tails.items()
        },
        females=float(np.nanmean(female)),
    )
