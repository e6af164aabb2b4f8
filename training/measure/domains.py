"""How well a bundle tells other hospitals' images from those that calibrated it.

python -m training domains

By its two distances, told as excess: logarithm over the median of the calibration images. An AUC of
one half means that it cannot. Intervals are as wide as the texture's excess asks for.
"""

import numpy as np

from dicom_ai_node.inference.distances import Distances, excess
from dicom_ai_node.inference.engine import Estimator
from training.data.options import BUNDLE, CACHE, ROOT, BundleFolder, CacheFolder, Root
from training.data.project import ProjectData
from training.fit.calibrate import measured
from training.measure.markdown import table
from training.measure.metrics import auc

KNOWN, OTHERS = "val", ("val_128", "external_dev", "external_dev2", "hannover")


def rows(known: Distances, other: Distances, reference: Distances) -> list[list[str]]:
    """For each distance: AUC of ``other`` against ``known``, and the quartiles of its excess.

    ``reference`` are the distances of the calibration images.
    """
    made = []
    for name in ("content", "texture"):
        near, far = (
            excess(getattr(distances, name), getattr(reference, name))
            for distances in (known, other)
        )
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

    def placed(role: str) -> Distances:
        return measured(estimator.measure, images.load(estimator.size, role))[1]

    known = placed(KNOWN)
    found = {KNOWN: known, **{role: placed(role) for role in OTHERS}}
    lines = [
        [role, *row] for role, at in found.items() for row in rows(known, at, estimator.reference)
    ]
    heads = ["images", "distance", f"AUC against {KNOWN}", "quartiles", "", "", "n"]
    print(table(heads, lines))
