"""How well a bundle's two distances tell other hospitals' images from those that calibrated it.

python -m training domains

An AUC of one half means that it cannot. Excess: logarithm of the distance over the median of the
calibration images. Intervals are as wide as the texture's excess asks for.
"""

import numpy as np

from dicom_ai_node.inference.calibration import Distances, excess
from dicom_ai_node.inference.engine import Estimator
from training.data.options import BUNDLE, CACHE, ROOT, BundleFolder, CacheFolder, Root
from training.data.project import ProjectData
from training.fit.calibrate import measured
from training.measure.markdown import table
from training.measure.metrics import auc

KNOWN, OTHERS = "val", ("val_128", "external_dev", "hannover")


def rows(known: Distances, other: Distances, reference: Distances) -> list[list[str]]:
    """For content and texture: AUC of ``other`` against ``known``, and quartiles of the excess."""
    made = []
    for name in ("content", "texture"):
        near, far = (excess(getattr(d, name), getattr(reference, name)) for d in (known, other))
        score = np.concatenate([near, far])
        positive = np.repeat([0.0, 1.0], [len(near), len(far)])
        separation = auc(np.ones((1, len(score))), score, positive)
        quartiles = np.quantile(far, [0.25, 0.5, 0.75])
        made.append([name, f"{separation[0]:.3f}", *(f"{x:.2f}" for x in quartiles), str(len(far))])
    return made


def main(bundle: BundleFolder = BUNDLE, root: Root = ROOT, cache: CacheFolder = CACHE) -> None:
    """Measure and print."""
    estimator = Estimator(bundle, device="cpu")
    images = ProjectData(root, cache)

    def distances(role: str) -> Distances:
        return measured(estimator.measure, images.load(estimator.size, role))[1]

    known = distances(KNOWN)
    lines = [
        [other, *row]
        for other in OTHERS
        for row in rows(known, distances(other), estimator.reference)
    ]
    heads = ["images", "distance", f"AUC against {KNOWN}", "excess, quartiles", "", "", "n"]
    print(table(heads, lines))
