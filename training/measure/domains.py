"""How well a bundle tells other hospitals' images from those that calibrated it.

python -m training domains

By its two distances, and of a network of two domains by the share that its second linear layer has.
An AUC of one half means that it cannot. Distances are told as excess: logarithm over the median of
the calibration images. Intervals are as wide as the texture's excess asks for.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dicom_ai_node.inference.distances import Distances, excess
from dicom_ai_node.inference.engine import Estimator
from training.data.options import BUNDLE, CACHE, ROOT, BundleFolder, CacheFolder, Root
from training.data.project import ProjectData
from training.fit.calibrate import measured
from training.measure.markdown import table
from training.measure.metrics import auc

KNOWN, OTHERS = "val", ("val_128", "external_dev", "external_dev2", "hannover")
SHARE = "share of the second layer"


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a bundle puts N images."""

    distances: Distances
    share: NDArray[np.float64] | None
    """Of the second layer in their answers; None of a network of one domain."""


def scores(placed: Placed, reference: Distances) -> dict[str, NDArray[np.float64]]:
    """By its name each score that is the larger the less an image looks like those that are known.

    ``reference`` are the distances of the calibration images.
    """
    found = {
        name: excess(getattr(placed.distances, name), getattr(reference, name))
        for name in ("content", "texture")
    }
    return found if placed.share is None else {**found, SHARE: placed.share}


def rows(known: Placed, other: Placed, reference: Distances) -> list[list[str]]:
    """For each score: AUC of ``other`` against ``known``, and its quartiles."""
    near, made = scores(known, reference), []
    for name, far in scores(other, reference).items():
        score = np.concatenate([near[name], far])
        positive = np.repeat([0.0, 1.0], [len(near[name]), len(far)])
        separation = auc(np.ones((1, len(score))), score, positive)
        quartiles = np.quantile(far, [0.25, 0.5, 0.75])
        made.append([name, f"{separation[0]:.3f}", *(f"{x:.2f}" for x in quartiles), str(len(far))])
    return made


def main(bundle: BundleFolder = BUNDLE, root: Root = ROOT, cache: CacheFolder = CACHE) -> None:
    """Measure and print."""
    estimator = Estimator(bundle, device="cpu")
    images, elsewhere = ProjectData(root, cache), estimator.network.elsewhere

    def placed(role: str) -> Placed:
        raw, distances = measured(estimator.measure, images.load(estimator.size, role))
        if elsewhere is None:
            return Placed(distances, None)
        with torch.inference_mode():
            logits = elsewhere(torch.from_numpy(raw.texture))[:, 0]
        return Placed(distances, logits.sigmoid().numpy().astype(np.float64))

    known = placed(KNOWN)
    found = {KNOWN: known, **{role: placed(role) for role in OTHERS}}
    lines = [
        [role, *row] for role, at in found.items() for row in rows(known, at, estimator.reference)
    ]
    heads = ["images", "score", f"AUC against {KNOWN}", "quartiles", "", "", "n"]
    print(table(heads, lines))
