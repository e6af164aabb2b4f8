"""What the network of a bundle says of phantoms: the figures of models/phantom.md.

python -m training.phantom_figures --bundle models/chest-age-sex
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_ai_node.demo import phantom
from dicom_ai_node.inference.engine import Estimator
from dicom_ai_node.pixels.normalise import normalise
from dicom_ai_node.types import Prediction

CHESTS, OTHERS = 100, 40
AGES = (20.0, 88.0)


def seen(estimator: Estimator, images: list[NDArray[np.uint16]]) -> list[Prediction]:
    """The estimator's word on each image."""
    return estimator.predict(np.stack([normalise(image, estimator.size) for image in images]))


def figures(estimator: Estimator) -> list[str]:
    """A sentence for each kind of phantom."""
    ages = np.linspace(*AGES, CHESTS)
    sexes = ["FM"[number % 2] for number in range(CHESTS)]
    drawn = [
        phantom.chest(age, sex, seed)
        for seed, (age, sex) in enumerate(zip(ages, sexes, strict=True))
    ]
    chests = seen(estimator, drawn)
    gates = estimator.manifest.thresholds
    near = [one.in_distribution >= gates.in_distribution for one in chests]
    passed = [
        one.chest >= gates.chest and one.frontal >= gates.frontal and close
        for one, close in zip(chests, near, strict=True)
    ]
    errors = np.abs(np.array([one.age for one in chests]) - ages)
    widths = [high - low for low, high in (one.age_interval90 for one in chests)]
    right = [
        (one.probability_female > 0.5) == (sex == "F")
        for one, sex in zip(chests, sexes, strict=True)
    ]
    hands = seen(estimator, [phantom.hand(seed) for seed in range(OTHERS)])
    chesty = [one for one in hands if one.chest >= gates.chest]
    strange = [one for one in chesty if one.in_distribution < gates.in_distribution]
    laterals = seen(estimator, [phantom.lateral(seed) for seed in range(OTHERS)])
    return [
        f"{CHESTS} chests of {AGES[0]:.0f} to {AGES[1]:.0f} years: {sum(passed)} pass every gate,"
        f" mean absolute difference of the age {errors.mean():.1f} years (largest"
        f" {errors.max():.0f}), {sum(right)} of the sex they were drawn for, 90 % interval"
        f" {np.median(widths):.0f} years wide in the median",
        f"{OTHERS} hands: {OTHERS - len(chesty)} are no chest, {len(strange)} others too strange",
        f"{OTHERS} laterals: {sum(one.frontal < gates.frontal for one in laterals)} not frontal",
    ]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="what a bundle says of the demo's phantoms")
    parser.add_argument("--bundle", type=Path, default=Path("models/chest-age-sex"))
    given = parser.parse_args()
    print("\n".join(figures(Estimator(given.bundle, device="cpu"))))


if __name__ == "__main__":
    main()
