"""Tells images of other institutions from those of the one that most of a run's images are of.

A logistic regression on the texture (:meth:`Network.pooled`): the means of feature maps in the
middle of the backbone tell detectors and processing apart. It is fitted when a bundle is packed, on
images as they are, and goes into the network's ``elsewhere`` layer; both kinds of images count the
same, however many there are of each.
"""

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from dicom_ai_node.inference.engine import Raw
from dicom_ai_node.inference.network import Network
from training.data.images import Data, Images
from training.data.tables import DataError
from training.fit.calibrate import answers

STRENGTH = 0.1
"""Inverse of the penalty on standardised textures (scikit-learn's C)."""

USUAL, OTHERS = ("train", "train_128"), ("train_other", "gate")
"""Roles of the images of either kind; of the gates' only frontal chests of other institutions."""


def fit(network: Network, data: Data, size: int, count: int) -> None:
    """Fit the ``elsewhere`` layer of ``network`` in place, on up to ``count`` usual images a role.

    Raises DataError: there are none of another institution.
    """
    usual = [answers(network, data.load(size, role).some(count)) for role in USUAL]
    images = data.load(size, *OTHERS)
    at = np.flatnonzero((images.column("elsewhere") == 1) & (images.column("frontal") == 1))
    if not len(at):
        raise DataError("domains: expected training images of another institution, got none")
    others = answers(network, Images([images.items[n] for n in at], images.pixels[at]))
    weight, bias = separation(usual, others)
    assert network.elsewhere is not None
    with torch.no_grad():
        network.elsewhere.weight.copy_(torch.from_numpy(weight)[None])
        network.elsewhere.bias.fill_(bias)


def separation(usual: Sequence[Raw], others: Raw) -> tuple[np.ndarray, float]:
    """Weights (T,) and bias of the logit that a texture (T,) is of ``others``."""
    textures = [*(raw.texture for raw in usual), others.texture]
    texture = np.concatenate(textures).astype(np.float64)
    known = np.concatenate([raw.texture for raw in usual])
    mean, deviation = known.mean(axis=0), known.std(axis=0) + 1e-6
    elsewhere = np.arange(len(texture)) >= len(known)
    model = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=1000)
    model.fit((texture - mean) / deviation, elsewhere)
    weight = model.coef_[0] / deviation
    return weight.astype(np.float32), float(model.intercept_[0] - weight @ mean)
