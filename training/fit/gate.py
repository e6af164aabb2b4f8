"""The gate of slices, fitted anew on what a trained network sees of phantoms and the like.

A network that is trained with phantoms learns less of bodies in the same minutes. So only the
gate's row of its linear layer is: a logistic regression on features that stay as they are, and with
them every answer. What it is to refuse are the images of the index that are no slice, phantoms
(:mod:`training.data.phantoms`), and montages and pages of text made of the slices.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict

from dicom_ai_node.inference.heads import Gate
from dicom_ai_node.inference.network import Network
from dicom_ai_node.inference.torch_engine import run
from training.data import augment_slices, phantoms
from training.data.regions import Slice
from training.data.slices import inputs

SLICES = 400
"""Most slices that it is fitted on, from all over."""
PHANTOMS, MONTAGES, PAGES = 300, 60, 30
STRENGTH = 0.01
"""Inverse of the penalty on the weights of scaled features."""
PASSED = 0.98
"""Share of slices that are to pass where the row was fitted on other patients."""
LEAST_DEVIATION = 1e-3
"""Of a feature: what hardly varies here is not to decide, nor rounding with it."""
SEED = 7

Images = NDArray[np.float32]


def refit(network: Network, gate: Gate, slices: Sequence[Slice], side: int) -> None:
    """Fit the row of ``gate`` in ``network`` on ``slices``, of which some are none."""
    shown, others = ([one for one in slices if one.shown is is_one] for is_one in (True, False))
    known = inputs(shown[:: max(len(shown) // SLICES, 1)], side).astype(np.float32)
    refused = [made(known), *([inputs(others, side).astype(np.float32)] if others else [])]
    features = run(network, np.concatenate([known, *refused])).features.astype(np.float64)
    passes = np.arange(len(features)) < len(known)
    mean, deviation = features.mean(axis=0), features.std(axis=0) + LEAST_DEVIATION
    scaled = (features - mean) / deviation
    fitted = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=1000)
    people = [one.person for one in shown[:: max(len(shown) // SLICES, 1)]]
    groups = np.array([*people, *map(str, range(len(scaled) - len(people)))])
    unseen = cross_val_predict(
        fitted, scaled, passes, groups=groups, cv=GroupKFold(5), method="decision_function"
    )
    least = float(np.quantile(unseen[passes], 1 - PASSED))
    fitted.fit(scaled, passes)
    weight = fitted.coef_[0] / deviation
    with torch.no_grad():
        network.head.weight[gate.output] = torch.from_numpy(weight).float()
        network.head.bias[gate.output] = float(fitted.intercept_[0] - weight @ mean - least)


def made(slices: Images) -> Images:
    """Phantoms, montages of ``slices`` (N, 3, S, S) and pages, as ``windows-1`` makes them."""
    side, rng = slices.shape[-1], torch.Generator().manual_seed(SEED)
    some = torch.from_numpy(slices[:: max(len(slices) // MONTAGES, 1)])
    montages = augment_slices.montages(some, torch.ones(len(some), dtype=torch.bool), rng)
    pages = torch.stack([augment_slices.page(side, rng) for _ in range(PAGES)])
    bodies = phantoms.phantoms(phantoms.KINDS, PHANTOMS, side, np.random.default_rng(SEED))
    return np.concatenate([bodies, montages.numpy(), pages.numpy()])
