"""A linear layer by ridge regression on what a backbone sees: where few images are to be learnt of.

Nothing else is learnt, so it is the baseline that training has to beat. The penalty is the one of
:data:`PENALTIES` that serves best for patients who are left out, and their errors are the standard
deviation, the same for every image: no test image is looked at.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dicom_ai_node.inference.heads import QuantityHead
from dicom_ai_node.inference.network import Network

PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Of an image, in units of a feature's variance."""
LEFT_OUT = 5
"""Parts that patients are dealt to."""
LEAST = 1e-3
"""Added to the spread of a feature that hardly varies."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A number as a weighted sum of features."""

    weight: Floats
    """(F,)."""
    bias: float
    sigma: float
    """Standard deviation of its errors for patients who were left out."""

    def of(self, features: Floats) -> Floats:
        """The numbers of ``features`` (N, F)."""
        return features @ self.weight + self.bias


def begin(
    network: Network,
    head: QuantityHead,
    features: NDArray[np.float32],
    numbers: Floats,
    patients: NDArray[np.str_],
) -> None:
    """Give the linear layer of ``network`` the line of ``head``, in place.

    ``features`` (N, F) are what its backbone makes of images as the node makes them, ``numbers``
    (N,) are in the head's unit.
    """
    assert head.normal is not None
    centre, scale = head.normal
    line = fitted(features.astype(np.float64), (numbers - centre) / scale, patients)
    mean, variance = head.output, head.output + 1
    with torch.no_grad():
        network.head.weight[mean] = torch.from_numpy(line.weight).float()
        network.head.bias[mean] = line.bias
        network.head.weight[variance] = 0
        network.head.bias[variance] = 2 * float(np.log(line.sigma))


def fitted(features: Floats, numbers: Floats, patients: NDArray[np.str_]) -> Line:
    """The line of ``numbers`` (N,) over ``features`` (N, F) of two ``patients`` or more."""
    _, person, images = np.unique(patients, return_inverse=True, return_counts=True)
    weights = 1 / np.sqrt(images[person])
    part = np.random.default_rng(0).permutation(len(images))[person] % LEFT_OUT
    errors = {
        penalty: np.concatenate(
            [
                _line(features[part != one], numbers[part != one], weights[part != one], penalty)
                .of(features[part == one]) - numbers[part == one]
                for one in np.unique(part)
            ]
        )
        for penalty in PENALTIES
    }  # fmt: skip
    best = min(PENALTIES, key=lambda penalty: float(np.abs(errors[penalty]).mean()))
    line = _line(features, numbers, weights, best)
    return Line(line.weight, line.bias, float(np.sqrt(np.mean(errors[best] ** 2))))


def _line(features: Floats, numbers: Floats, weights: Floats, penalty: float) -> Line:
    """Solve for as many unknowns as there are images, which are fewer than features."""
    shares = weights / weights.sum()
    centre, middle = shares @ features, float(shares @ numbers)
    spread = np.sqrt(shares @ (features - centre) ** 2) + LEAST
    root = np.sqrt(shares)[:, np.newaxis]
    scaled = (features - centre) / spread * root
    products = scaled @ scaled.T
    products.flat[:: len(products) + 1] += penalty
    weight = scaled.T @ np.linalg.solve(products, (numbers - middle) * root[:, 0]) / spread
    return Line(weight, middle - float(centre @ weight), float("nan"))
